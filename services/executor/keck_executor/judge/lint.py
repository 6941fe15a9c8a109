"""The lint of a task: would a check find out an answer that computes nothing, and what is done where it would not.

Once per reference, tolerance and device: the result is kept for as long as the judge lives, so that a task that comes
again costs nothing. Null answers are held against what the reference returns for the input sets of the check in hand.
Where one passes the tolerance, the scale-aware comparison (:mod:`keck_executor.judge.scaled`) takes over for that
output if it refutes one, and the task's own ``get_stress_inputs`` is asked for sets to compare besides. What passes
even so makes the task *weak*: every verdict says it. docs/adr/0007 says why an honest answer to a weak task passes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch

from keck.messages import Flag, Lint, NullAnswer, Options, Tolerance
from keck.verdict import Verdict
from keck_executor.devices import Device
from keck_executor.judge.compare import compare, is_inexact, tolerance_for
from keck_executor.judge.contract import Acceptance
from keck_executor.judge.error_budget import precision_flag
from keck_executor.judge.failure import Failed, failure_of
from keck_executor.judge.input_changes import input_tensors, moved, rounded
from keck_executor.judge.inputs import InputDrawer, InputSet
from keck_executor.judge.null_answers import Answer, Null, Target, best_constant, distance, fit_of
from keck_executor.judge.outputs import Expected, JudgedSet, structure_of
from keck_executor.judge.rounding import Errors, Rounding, errors_of
from keck_executor.judge.scaled import Allowance, allowance_of, spread_between
from keck_executor.judge.side import CheckedSide, SingleCall
from keck_executor.judge.slices import sample_of_blocks
from keck_executor.runner.wire import Status

__all__ = ["Findings", "Linted", "Linter", "Lints"]

_LOOKED_AT = 3
"""Input sets that null answers are tried on: what passes on three is not chance."""
_STRESS_SETS = 2
_MEMORY_SHARE = 4
_SLOW_S = 0.25
"""A reference slower than this is not run in double precision, which some devices do 64 times slower."""
_KEPT = 512
_TOLD = 4

_EXACT = Tolerance(atol=0.0, rtol=0.0)

BF16_OPERANDS = "bf16_operands"
STRESS_LAW = "get_stress_inputs"


@dataclass(frozen=True, slots=True)
class _Output:
    """What the lint found of one output."""

    scaled: bool
    rounding: Rounding | None
    nulls: tuple[str, ...]
    """Null answers within whatever decides: what is nearer to one of them than to the right answer is wrong."""
    constant: float


@dataclass(frozen=True, slots=True)
class _Spread:
    """How much one output differs from set to set."""

    shape: torch.Size
    columns: tuple[torch.Tensor, ...]


@dataclass(frozen=True, slots=True)
class Findings:
    """What is kept of a reference."""

    record: Lint
    outputs: tuple[_Output, ...]
    flags: tuple[Flag, ...]
    dtypes: tuple[torch.dtype, ...] = ()


class Comparison:
    """How sets that belong together are compared: what the lint found, worked out for a set when it is asked for.

    An answer equal to the last bit needs none of it, and a burst has hundreds of sets.

    Args:
        judged: the sets, of one form where there are many.
        findings: of the lint.
        spreads: how much each output differs from set to set, where it is compared by scale.
        options: of the check.
        acceptance: of a task that decides itself; then nothing is compared.
    """

    def __init__(
        self,
        judged: Sequence[JudgedSet],
        findings: Findings | None,
        spreads: Sequence[_Spread | None],
        options: Options,
        acceptance: Acceptance | None = None,
    ) -> None:
        self._judged = judged
        self._spreads = spreads
        self._options = options
        known = findings is not None and all(_dtypes(e) == findings.dtypes for _, e in judged)
        self._outputs = findings.outputs if findings is not None and known else ()
        self._acceptance = acceptance
        self.plain = acceptance is None and not any(output.scaled or output.nulls for output in self._outputs)
        """The tolerance decides alone."""
        self._values: dict[int, dict[str, list[Answer]]] = {}

    def sets(self) -> list[JudgedSet]:
        """All of them, with what is expected worked out."""
        return [(inputs, self.expected(at)) for at, (inputs, _) in enumerate(self._judged)]

    def expected(self, at: int) -> Expected:
        """Of one set, with allowances for outputs compared by scale, and the null answers it must not be taken for."""
        inputs, expected = self._judged[at]
        if self._acceptance is not None:
            return replace(expected, objection=partial(self._acceptance.objection, inputs))
        if self.plain:
            return expected
        allowances: list[Allowance | None] = []
        nulls: list[tuple[Null, ...]] = []
        for index, output in enumerate(self._outputs):
            target = _target(expected.tensors[index], self._options)
            if output.scaled and output.rounding is not None:
                known = self._spreads[index]
                fits = known is not None and known.shape == target.expected.shape
                target = _by_scale(target, output.rounding, known.columns if known and fits else None)
            allowances.append(target.allowance)
            values = self._null_values(index, output.constant) if output.nulls else {}
            candidates = [Null(name, values[name][at]) for name in output.nulls if name in values]
            nulls.append(
                tuple(null for null in candidates if _is_apart(null, target.expected, output.rounding))
            )
        return replace(expected, allowances=tuple(allowances), nulls=tuple(nulls))

    def _null_values(self, index: int, constant: float) -> dict[str, list[Answer]]:
        if index not in self._values:
            self._values[index] = _null_values(index, self._judged, constant)
        return self._values[index]


class Lints:
    """Findings by reference, the least recently used forgotten first."""

    def __init__(self, limit: int = _KEPT) -> None:
        self._limit = limit
        self._known: OrderedDict[object, Findings] = OrderedDict()

    def get(self, key: object) -> Findings | None:
        """What is known under the key."""
        if key in self._known:
            self._known.move_to_end(key)
        return self._known.get(key)

    def put(self, key: object, findings: Findings) -> None:
        """Remember it."""
        self._known[key] = findings
        if len(self._known) > self._limit:
            self._known.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Linted:
    """A check's input sets, with the comparison that the lint chose."""

    sets: list[JudgedSet]
    stress: list[JudgedSet]
    """Further sets, to be compared and not timed."""
    record: Lint
    flags: tuple[Flag, ...]
    comparison_of: Callable[[Sequence[JudgedSet]], Comparison]
    """The same comparison for other sets of the task."""
    _known: tuple[Rounding | None, ...]

    def precision_flags(self, call: SingleCall, expected: Expected) -> list[Flag]:
        """What a right answer gives away of the precision it was computed in."""
        flag = precision_flag(call.outputs, expected.tensors, self._known, self.record.oracle)
        return [flag] if flag is not None else []


class Linter:
    """Lints the task of one check.

    Args:
        known: what was found in earlier checks of this judge.
        reference_hash: of the source; empty: nothing is kept.
        options: of the check.
        reference: its runner, model and input sets loaded.
        drawer: for stress sets.
        expect: the reference's answer to one input set.
        acceptance: of a task that decides itself what it accepts.
    """

    def __init__(
        self,
        known: Lints,
        reference_hash: str,
        options: Options,
        *,
        device: Device,
        reference: CheckedSide,
        drawer: InputDrawer,
        expect: Callable[[InputSet], Expected],
        acceptance: Acceptance | None,
    ) -> None:
        self._acceptance = acceptance
        self._known = known
        self._hash = reference_hash
        self._options = options
        self._device = device
        self._reference = reference
        self._drawer = drawer
        self._expect = expect
        self._stress: list[JudgedSet] | None = None

    def lint(self, sets: Sequence[JudgedSet], repeat: SingleCall) -> Linted:
        """Choose how each output is compared.

        Args:
            sets: the check's.
            repeat: another call of the reference on the first set, whose outputs are still there.

        Raises:
            Failed: ``get_stress_inputs`` raised.
        """
        options, dtypes = self._options, _dtypes(sets[0][1])
        if any(_dtypes(expected) != dtypes for _, expected in sets):
            return _unlinted(sets, options, self._acceptance)
        key = (self._hash, options.tolerance, options.atol, options.rtol, len(sets) > 1)
        findings = self._known.get(key) if self._hash else None
        if findings is None or findings.dtypes != dtypes:
            if self._acceptance is None:
                findings = self._examine(sets, repeat)
            else:
                findings = self._examine_acceptance(self._acceptance, sets, repeat)
            if self._hash:
                self._known.put(key, findings)
        stress = self._stress_sets(dtypes) if findings.record.stress_inputs else []
        spreads = _spreads(sets, findings.outputs)
        comparison_of = partial(
            Comparison, findings=findings, spreads=spreads, options=options, acceptance=self._acceptance
        )
        unspread = Comparison(stress, findings, [None] * len(findings.outputs), options, self._acceptance)
        return Linted(
            sets=comparison_of(sets).sets(),
            stress=unspread.sets(),
            record=findings.record,
            flags=findings.flags,
            comparison_of=comparison_of,
            _known=tuple(output.rounding for output in findings.outputs),
        )

    # --- finding out

    def _examine(self, sets: Sequence[JudgedSet], repeat: SingleCall) -> Findings:
        inputs, expected = sets[0]
        repeated = [
            compare(again, once, tolerance_for(once.dtype, self._options)).max_abs
            for again, once in zip(repeat.outputs, expected.tensors, strict=True)
        ]
        unsteady = _errors(repeat.outputs, expected.tensors)
        oracle, own = self._own_errors(inputs, expected, slow=repeat.seconds > _SLOW_S)
        given = sum(tensor.numel() for tensor in input_tensors(inputs))
        known = [
            Rounding(a | b, terms=given / max(1, tensor.numel())) if a and b else None
            for a, b, tensor in zip(own, unsteady, expected.tensors, strict=True)
        ]
        outputs, answers = [], []
        for index, rounding in enumerate(known):
            output, tried = self._examine_output(index, sets, rounding)
            outputs.append(output)
            answers += tried
        answers += self._with_rounded_operands(inputs, expected)
        weak = [answer for answer in answers if _is_weak(answer, outputs)]
        rms = [rounding.own.rms for rounding in known if rounding is not None]
        record = Lint(
            weak=bool(weak),
            comparison="scaled" if any(output.scaled for output in outputs) else "tolerance",
            answers=answers,
            repeat_max_abs_err=max(repeated),
            stress_inputs=None if self._stress is None else bool(self._stress),
            oracle=oracle,
            own_rms_err=max(rms) if rms else None,
            sets=min(len(sets), _LOOKED_AT),
        )
        return Findings(record, tuple(outputs), _weak_flags(weak, len(outputs)), _dtypes(expected))

    def _examine_acceptance(
        self, acceptance: Acceptance, sets: Sequence[JudgedSet], repeat: SingleCall
    ) -> Findings:
        """Whether the task takes its own answers, and takes none that computes nothing."""
        looked = sets[:_LOOKED_AT]
        again = tuple(
            output.clone() for output in repeat.outputs
        )  # the memory they lie in is needed for asking
        own = [(inputs, expected.tensors) for inputs, expected in looked]
        for inputs, outputs in [*own, (sets[0][0], again)]:
            objection = acceptance.objection(inputs, outputs)
            if objection:
                told = f"the task's accept_output refuses what the reference itself returns: {objection}"
                raise Failed(Verdict.REFERENCE_ERROR, told)
        count = len(sets[0][1].tensors)
        values = [_null_values(index, looked, 0.0) for index in range(count)]
        names = [name for name in values[0] if all(name in each for each in values) and name != "constant"]
        answers = []
        for name in names:
            given = [
                [_as_tensor(values[index][name][at], expected.tensors[index]) for index in range(count)]
                for at, (_, expected) in enumerate(looked)
            ]
            passes = not any(
                acceptance.objection(inputs, outputs)
                for (inputs, _), outputs in zip(looked, given, strict=True)
            )
            differences = [
                compare(one, other, _EXACT).max_abs
                for outputs, (_, expected) in zip(given, looked, strict=True)
                for one, other in zip(outputs, expected.tensors, strict=True)
            ]
            answers.append(NullAnswer(output=0, answer=name, passes=passes, max_abs_err=max(differences)))
        weak = [answer for answer in answers if answer.passes]
        record = Lint(
            weak=bool(weak),
            comparison="accept_output",
            answers=answers,
            repeat_max_abs_err=max(
                compare(one, other, _EXACT).max_abs
                for one, other in zip(again, sets[0][1].tensors, strict=True)
            ),
            stress_inputs=None,
            oracle="fp32",
            own_rms_err=None,
            sets=len(looked),
        )
        nothing = (_Output(False, None, (), 0.0),) * count
        return Findings(record, nothing, _weak_flags(weak, count), _dtypes(sets[0][1]))

    def _examine_output(
        self, index: int, sets: Sequence[JudgedSet], rounding: Rounding | None
    ) -> tuple[_Output, list[NullAnswer]]:
        """Try every null answer on one output, by the tolerance, and what passes by scale and under stress."""
        looked = sets[:_LOOKED_AT]
        plain = self._targets(index, looked)
        dtype = plain[0].expected.dtype
        if not any(target.expected.numel() for target in plain):
            return _Output(False, rounding, (), 0.0), []
        constant, constant_passes = best_constant(plain)
        fits = {name: fit_of(values, plain) for name, values in _null_values(index, looked, constant).items()}
        fits["constant"] = replace(fits["constant"], passes=constant_passes)
        accepted = tuple(name for name, fit in fits.items() if fit.passes)
        by_scale: dict[str, bool] = {}
        scaled = False
        if accepted and is_inexact(dtype) and rounding is not None:
            between = spread_between([expected.tensors[index] for _, expected in sets])
            finer = [_by_scale(target, rounding, between) for target in plain]
            values = _null_values(index, looked, constant)
            by_scale = {name: fit_of(values[name], finer).passes for name in accepted}
            if "constant" in accepted:
                by_scale["constant"] = best_constant(finer)[1]
            resolved = any(target.allowance is not None and target.allowance.resolved for target in finer)
            scaled = resolved and not all(by_scale[name] for name in accepted)
        dtypes = _dtypes(looked[0][1])
        under_stress = self._pass_under_stress(
            index, accepted, constant, rounding, scaled=scaled, dtypes=dtypes
        )
        tried = [
            NullAnswer(
                output=index,
                answer=name,
                passes=fit.passes,
                passes_scaled=by_scale.get(name),
                passes_stress=under_stress.get(name),
                max_abs_err=fit.max_abs,
                of_allowed=fit.ratio,
            )
            for name, fit in fits.items()
        ]
        left = tuple(name for name in accepted if not (scaled and not by_scale[name]))
        return _Output(scaled, rounding, left, constant), tried

    def _pass_under_stress(
        self,
        index: int,
        names: Sequence[str],
        constant: float,
        rounding: Rounding | None,
        *,
        scaled: bool,
        dtypes: Sequence[torch.dtype],
    ) -> dict[str, bool]:
        """Which null answers also pass on the task's stress sets; nothing where it has none."""
        sets = self._stress_sets(dtypes) if names else []
        if not sets:
            return {}
        targets = self._targets(index, sets)
        if scaled and rounding is not None:
            targets = [_by_scale(target, rounding, None) for target in targets]
        values = _null_values(index, sets, constant)
        return {name: name in values and fit_of(values[name], targets).passes for name in names}

    def _targets(self, index: int, sets: Sequence[JudgedSet]) -> list[Target]:
        tensors = [expected.tensors[index] for _, expected in sets]
        return [_target(tensor, self._options) for tensor in tensors]

    # --- the reference's own error

    def _own_errors(
        self, inputs: InputSet, expected: Expected, *, slow: bool
    ) -> tuple[Literal["fp64", "fp32"], list[Errors | None]]:
        """How far each output is from exact, and what that is known from."""
        if not self._has_room(inputs, expected):
            return "fp32", [None] * len(expected.tensors)
        if not slow:
            exact = self._probe(inputs, expected, double=True)
            if exact is not None and all(map(self._agree, expected.tensors, exact.outputs)):
                return "fp64", _errors(expected.tensors, exact.outputs)
        again = self._probe(moved(inputs), expected, double=False)
        if again is None:
            return "fp32", [None] * len(expected.tensors)
        return "fp32", _errors(again.outputs, expected.tensors)

    def _agree(self, expected: torch.Tensor, exact: torch.Tensor) -> bool:
        """Whether a run in double precision really was one, and means the same."""
        if not is_inexact(expected.dtype):
            return exact.dtype == expected.dtype
        wide = torch.complex128 if expected.dtype.is_complex else torch.float64
        tolerance = tolerance_for(expected.dtype, self._options)
        return exact.dtype == wide and not compare(exact.to(expected.dtype), expected, tolerance).mismatched

    def _probe(self, inputs: InputSet, expected: Expected, *, double: bool) -> SingleCall | None:
        """The answer of a copy of the model; None where there is none of the same structure."""
        try:
            call = self._reference.probe(inputs, double=double)
        except Failed:
            return None
        if structure_of(call.reply.nodes) != expected.structure or len(call.outputs) != len(expected.tensors):
            return None
        same = all(a.shape == b.shape for a, b in zip(call.outputs, expected.tensors, strict=True))
        return call if same else None

    def _with_rounded_operands(self, inputs: InputSet, expected: Expected) -> list[NullAnswer]:
        """Whether the answer to inputs rounded to bfloat16 is taken for the answer to the inputs."""
        changed = rounded(inputs) if self._has_room(inputs, expected) else None
        call = self._probe(changed, expected, double=False) if changed is not None else None
        if call is None:
            return []
        found = []
        for index, output in enumerate(call.outputs):
            target = Target(
                expected.tensors[index], tolerance_for(expected.tensors[index].dtype, self._options)
            )
            fit = fit_of([output], [target])
            found.append(
                NullAnswer(
                    output=index,
                    answer=BF16_OPERANDS,
                    passes=fit.passes,
                    max_abs_err=fit.max_abs,
                    of_allowed=fit.ratio,
                )
            )
        return found

    def _has_room(self, inputs: InputSet, expected: Expected) -> bool:
        """Whether a copy of the inputs, and outputs twice as wide, are a small part of what is free."""
        size = sum(tensor.numel() * tensor.element_size() for tensor in expected.tensors)
        return 2 * inputs.form.size + 4 * size <= self._device.free_bytes() // _MEMORY_SHARE

    # --- stress sets

    def _stress_sets(self, dtypes: Sequence[torch.dtype]) -> list[JudgedSet]:
        if self._stress is None:
            self._stress = list(self._draw_stress_sets(dtypes))
            self._drawer.close()
        return self._stress

    def _draw_stress_sets(self, dtypes: Sequence[torch.dtype]) -> Iterator[JudgedSet]:
        for _ in range(_STRESS_SETS):
            drawn = self._drawer.draw(STRESS_LAW)
            if not isinstance(drawn, InputSet):
                if drawn.status is Status.MISSING:
                    return
                raise failure_of("reference", drawn, f"calling {STRESS_LAW}")
            self._reference.learn(self._drawer.forms)
            expected = self._expect(drawn)
            if _dtypes(expected) != dtypes:
                told = "the reference's outputs for get_stress_inputs are other ones in number or dtype"
                raise Failed(Verdict.REFERENCE_ERROR, told)
            yield drawn, expected


def _dtypes(expected: Expected) -> tuple[torch.dtype, ...]:
    return tuple(tensor.dtype for tensor in expected.tensors)


def _unlinted(sets: Sequence[JudgedSet], options: Options, acceptance: Acceptance | None) -> Linted:
    """A reference whose outputs change in number or dtype from set to set: nothing is said of it."""
    record = Lint(
        weak=False,
        comparison="tolerance",
        answers=[],
        repeat_max_abs_err=0.0,
        stress_inputs=None,
        oracle="fp32",
        own_rms_err=None,
        sets=0,
    )
    comparison_of = partial(Comparison, findings=None, spreads=(), options=options, acceptance=acceptance)
    return Linted(
        sets=comparison_of(sets).sets(),
        stress=[],
        record=record,
        flags=(),
        comparison_of=comparison_of,
        _known=tuple(None for _ in sets[0][1].tensors),
    )


def _errors(actual: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> list[Errors | None]:
    return [errors_of(a, b) if is_inexact(b.dtype) else None for a, b in zip(actual, expected, strict=True)]


def _spreads(sets: Sequence[JudgedSet], outputs: Sequence[_Output]) -> list[_Spread | None]:
    """For each output that is compared by scale, how much it differs from set to set."""
    found: list[_Spread | None] = []
    for index, output in enumerate(outputs):
        tensors = [expected.tensors[index] for _, expected in sets]
        columns = spread_between(tensors) if output.scaled else None
        found.append(_Spread(tensors[0].shape, columns) if columns is not None else None)
    return found


def _target(expected: torch.Tensor, options: Options) -> Target:
    return Target(expected, tolerance_for(expected.dtype, options))


def _by_scale(target: Target, rounding: Rounding, between: Sequence[torch.Tensor] | None) -> Target:
    floor = rounding.largest_budget(target.expected.dtype)
    allowance = allowance_of(target.expected, target.tolerance, floor=floor, between=between)
    return replace(target, allowance=allowance)


def _null_values(index: int, sets: Sequence[JudgedSet], constant: float) -> dict[str, list[Answer]]:
    """Every null answer of one output, one value for each set."""
    tensors = [expected.tensors[index] for _, expected in sets]
    values: dict[str, list[Answer]] = {"zeros": [0.0] * len(sets), "constant": [constant] * len(sets)}
    if len(sets) > 1 and all(tensor.shape == tensors[0].shape for tensor in tensors):
        values["another_set"] = [*tensors[1:], tensors[0]]
    given = [input_tensors(inputs) for inputs, _ in sets]
    for number, column in enumerate(zip(*given, strict=False)):
        if all(a.shape == b.shape and a.dtype == b.dtype for a, b in zip(column, tensors, strict=True)):
            values[f"input {number}"] = list(column)
    return values


def _as_tensor(answer: Answer, like: torch.Tensor) -> torch.Tensor:
    return answer if isinstance(answer, torch.Tensor) else torch.full_like(like, answer)


def _is_apart(null: Null, expected: torch.Tensor, rounding: Rounding | None) -> bool:
    """Whether null answer and right answer differ by more than any honest answer's error, so that nearness decides.

    As a root mean square over the whole output, and four times the honest one.
    """
    if rounding is None or not is_inexact(expected.dtype):
        return False  # integers within the tolerance are equal
    only = sample_of_blocks(expected)
    honest = rounding.rms_budget(expected.dtype) * distance(0.0, expected, only)
    return distance(null.value, expected, only) > 4 * honest


def _is_weak(answer: NullAnswer, outputs: Sequence[_Output]) -> bool:
    """Whether a null answer passes everything there is."""
    if answer.answer == BF16_OPERANDS or not answer.passes or answer.passes_stress is False:
        return False
    return not (outputs[answer.output].scaled and answer.passes_scaled is False)


def _weak_flags(weak: Sequence[NullAnswer], outputs: int) -> tuple[Flag, ...]:
    if not weak:
        return ()
    told = [
        f"{answer.answer}{f' for output {answer.output}' if outputs > 1 else ''} (largest error "
        f"{answer.max_abs_err:.3g}, {_allowance_in_words(answer)})"
        for answer in weak[:_TOLD]
    ]
    more = f" and {len(weak) - _TOLD} more" if len(weak) > _TOLD else ""
    evidence = f"answers that compute nothing pass: {'; '.join(told)}{more}"
    return (Flag(code="weak_task", severity="warn", evidence=evidence),)


def _allowance_in_words(answer: NullAnswer) -> str:
    if answer.of_allowed is None:
        return "which accept_output takes"
    return f"{answer.of_allowed:.2g} of what the tolerance allows"
