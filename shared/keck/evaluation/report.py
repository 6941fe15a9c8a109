"""A report on a set of results, as Markdown with its plots beside it, and as one HTML page that holds everything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final

import msgspec

from keck.errors import BadRequest
from keck.evaluation.plots import fast_p_plot, speedup_plot, verdict_plot
from keck.evaluation.results import Result
from keck.evaluation.scores import FAST_P, Summary, summaries_of

__all__ = ["Report", "write_report"]

_MAX_NOTE: Final = 160
_STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0; }
th, td { padding: .25rem .75rem; text-align: right; border-bottom: 1px solid color-mix(in srgb, currentColor 15%, transparent); }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
td.text { overflow-wrap: anywhere; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; }
.plots svg { flex: 1 1 26rem; max-width: 40rem; }
.passed { color: #059669; } .failed { color: #dc2626; } .masked { opacity: .6; }
"""
_COUNTED: Final = (
    "A generation that could not be judged, for reasons that are not its own, counts nowhere but in the first column. fast_p is the "
    "share of judged generations that are correct and more than p times as fast as the baseline; speedups are geometric means."
)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What is reported."""

    title: str
    about: dict[str, str]
    """Where and how it was judged."""
    results: Sequence[Result]
    unanswered: Sequence[str] = ()
    """Problems without a generation."""

    @property
    def summaries(self) -> list[Summary]:
        """Overall first."""
        return summaries_of(self.results)

    @property
    def groups(self) -> dict[str, list[Result]]:
        """Results by level, for plots."""
        groups: dict[str, list[Result]] = {}
        for result in self.results:
            groups.setdefault("all" if result.level is None else f"level {result.level}", []).append(result)
        return dict(sorted(groups.items()))


def write_report(report: Report, stem: Path) -> list[Path]:
    """Write ``STEM.md``, its plots and ``STEM.html``; returns the files.

    Raises:
        BadRequest: one cannot be written.
    """
    plots = {"fast_p": fast_p_plot(report.groups), "speedups": speedup_plot(report.groups)}
    plots["verdicts"] = verdict_plot(report.summaries[0].verdicts)
    files = {stem.with_name(f"{stem.name}.{name}.svg"): plot for name, plot in plots.items()}
    names = [(name, file.name) for name, file in zip(plots, files, strict=True)]
    files[stem.with_name(f"{stem.name}.md")] = _markdown(report, names)
    files[stem.with_name(f"{stem.name}.html")] = _html(report, plots)
    for file, text in files.items():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise BadRequest(f"cannot write {file}: {error.strerror}") from None
    return list(files)


_HEADINGS: Final = (
    "", "generations", "judged", "compiled", "correct", *(f"fast_{p:g}" for p in FAST_P[1:]), "speedup", "of the faster",
)  # fmt: skip
_PROBLEM_HEADINGS: Final = (
    "generation",
    "problem",
    "verdict",
    "speedup",
    "at least",
    "candidate ms",
    "baseline ms",
    "note",
)


def _rows(report: Report) -> list[tuple[str, ...]]:
    return [
        (
            one.title,
            str(one.generations),
            str(one.judged),
            _share(one.compiled, one.judged),
            _share(one.correct, one.judged),
            *(f"{one.fast_p[f'{p:g}']:.1%}" for p in FAST_P[1:]),
            _times(one.speedup),
            _times(one.speedup_of_faster),
        )
        for one in report.summaries
    ]


def _problem_rows(report: Report) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for result in report.results:
        event = result.verdict
        timing = event.timing if event else None
        rows.append(
            (
                _plain(result.name),
                _plain(result.title),
                str(event.verdict) if event else "error",
                _times(timing.speedup if timing else None),
                _times(timing.speedup_lower if timing else None),
                f"{timing.candidate_ms.median:.4g}" if timing else "",
                f"{timing.reference_ms.median:.4g}" if timing else "",
                _note(result),
            )
        )
    return rows


def _note(result: Result) -> str:
    """Why it failed; of what passed, flags that warn."""
    if result.verdict is None:
        text = result.error
    elif result.verdict.verdict.standing.passed:
        text = ", ".join(flag.code for flag in result.verdict.flags if flag.severity != "info")
    else:
        text = result.verdict.message
    line = _plain(text)
    return line if len(line) <= _MAX_NOTE else line[:_MAX_NOTE] + "…"


def _plain(text: str) -> str:
    """One line that can be shown: what a candidate says must not drive a terminal either."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _share(part: int, whole: int) -> str:
    return f"{part} ({part / whole:.1%})" if whole else str(part)


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


# --- Markdown


def _markdown(report: Report, plots: Sequence[tuple[str, str]]) -> str:
    parts = [f"# {_escaped(report.title)}", _listed(report.about), _table(_HEADINGS, _rows(report)), _COUNTED]
    parts += [f"![{name}]({file})" for name, file in plots]
    if report.unanswered:
        parts.append(f"{len(report.unanswered)} problems have no generation:")
        parts.append("\n".join(f"* {_escaped(name)}" for name in report.unanswered))
    parts += ["## Generations", _table(_PROBLEM_HEADINGS, _problem_rows(report))]
    return "\n\n".join(parts) + "\n"


def _listed(about: Mapping[str, str]) -> str:
    return "\n".join(f"* {_escaped(name)}: {_escaped(value)}" for name, value in about.items())


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    lines += ["| " + " | ".join(map(_escaped, row)) + " |" for row in rows]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """What a candidate says must not become Markdown or HTML."""
    return escape(text, quote=False).translate({ord(letter): f"\\{letter}" for letter in "\\`*_[]|"})


# --- HTML


def _html(report: Report, plots: Mapping[str, str]) -> str:
    about = "".join(f"<li>{escape(name)}: {escape(value)}</li>" for name, value in report.about.items())
    parts = [
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{escape(report.title)}</title>",
        f"<meta name='viewport' content='width=device-width'><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(report.title)}</h1><ul>{about}</ul>",
        _html_table(_HEADINGS, _rows(report)),
        f"<p>{escape(_COUNTED)}</p><div class='plots'>{''.join(plots.values())}</div>",
    ]
    if report.unanswered:
        names = "".join(f"<li>{escape(name)}</li>" for name in report.unanswered)
        count = len(report.unanswered)
        parts.append(
            f"<details><summary>{count} problems have no generation</summary><ul>{names}</ul></details>"
        )
    classes = [_class_of(result) for result in report.results]
    parts.append(f"<h2>Generations</h2>{_html_table(_PROBLEM_HEADINGS, _problem_rows(report), classes)}")
    return "\n".join([*parts, "</body></html>", ""])


def _class_of(result: Result) -> str:
    if not result.is_judged:
        return "masked"
    return "passed" if result.verdict and result.verdict.verdict.standing.passed else "failed"


def _html_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], classes: Sequence[str] | None = None
) -> str:
    texts = {"problem", "verdict", "note"}
    head = "".join(f"<th{_text_class(name in texts)}>{escape(name)}</th>" for name in headings)
    body = []
    for number, row in enumerate(rows):
        cells = []
        for name, value in zip(headings, row, strict=True):
            mark = f" {classes[number]}" if classes and name == "verdict" else ""
            cells.append(f"<td{_text_class(name in texts, mark)}>{escape(value)}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _text_class(is_text: bool, mark: str = "") -> str:
    return f' class="text{mark}"' if is_text else ""
