"""Judging the entries of a set: extraction, retries, and ids that a second run finds again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from keck.adapters.extraction import Which, candidate_in
from keck.batches import Check
from keck.errors import KeckError
from keck.evaluation.entries import Entry, digest_of_entry
from keck.evaluation.results import Result, Results, result_of
from keck.kinds import kind_named
from keck.messages import MAX_SOURCE_BYTES, EvalDone, Options, new_request, verdict_of
from keck.verdict import Verdict

__all__ = ["HowToJudge", "judge_entry", "left_to_judge"]

Judge = Callable[[Check], Awaitable[EvalDone]]


class HowToJudge(msgspec.Struct, frozen=True, kw_only=True):
    """The same for every entry of a set."""

    kind: str = "kernel"
    options: Options = Options()
    run: str = "batch"
    deadline_s: float = 3600.0
    retries: int = 2
    """Fresh checks after ``infra_error``."""
    extract: Which = "last"
    """Which code block of an entry that is a model's whole answer."""

    def digest(self, entry: Entry) -> str:
        """What makes a line of results that of this entry, judged like this."""
        return digest_of_entry(entry, kind=self.kind, options=self.options)


def left_to_judge(entries: list[Entry], results: Results, how: HowToJudge) -> list[Entry]:
    """Entries without a line that says something about them."""
    left = []
    for entry in entries:
        known = results.newest(entry.name, how.digest(entry))
        if known is None or not known.is_final:
            left.append(entry)
    return left


async def judge_entry(entry: Entry, results: Results, how: HowToJudge, judge: Judge) -> Result:
    """Judge one entry and write its line, or lines where an infrastructure's failure is tried again."""
    digest = how.digest(entry)
    known = results.newest(entry.name, digest)
    attempt = known.attempt + 1 if known else 0
    for _ in range(how.retries + 1):
        result = await _judged(entry, digest, attempt, how, judge)
        results.add(result)
        if result.verdict is None or result.verdict.verdict is not Verdict.INFRA_ERROR:
            break
        attempt += 1
    return result


async def _judged(entry: Entry, digest: str, attempt: int, how: HowToJudge, judge: Judge) -> Result:
    kind = kind_named(how.kind)
    candidate, problem = entry.candidate, ""
    if entry.form == "answer":
        candidate, problem = candidate_in(entry.candidate, how.extract, classes=kind.candidate_classes)
    if not problem and len(candidate.encode("utf-8", "surrogatepass")) > MAX_SOURCE_BYTES:
        problem = f"the candidate is larger than {MAX_SOURCE_BYTES} bytes"
    # Made of what is judged, so that a run that was stopped finds what was decided meanwhile.
    check_id = f"b-{digest[:40]}-{attempt}"
    try:
        if problem:
            return result_of(entry, digest, attempt, verdict=_format_error(entry, check_id, problem, how))
        check = Check(
            candidate=candidate,
            reference=entry.reference,
            check_id=check_id,
            run=how.run,
            kind=how.kind,
            options=how.options,
            deadline_s=how.deadline_s,
        )
        return result_of(entry, digest, attempt, verdict=await judge(check))
    except KeckError as error:
        return result_of(entry, digest, attempt, error=f"{type(error).__name__}: {error}")


def _format_error(entry: Entry, check_id: str, problem: str, how: HowToJudge) -> EvalDone:
    """The verdict on an answer without a candidate. It is this side's own and is never published."""
    request = new_request(
        "", entry.reference, check_id=check_id, run=how.run, kind=how.kind, options=how.options
    )
    return verdict_of(request, Verdict.FORMAT_ERROR, stage="format", message=problem)
