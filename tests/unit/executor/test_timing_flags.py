from __future__ import annotations

import msgspec

from keck.messages import AloneMs, EventsMs, Interval, Timing
from keck_executor.judge.timing_flags import BUSY_S, reference_slowed, timing_flags


def _timing(**changed: object) -> Timing:
    plain = Timing(
        device="cuda",
        batch="burst",
        candidate_ms=Interval(median=0.010, ci95=(0.009, 0.011), n=100),
        reference_ms=Interval(median=0.020, ci95=(0.019, 0.021), n=100),
        events_ms=EventsMs(candidate=0.0101, reference=0.0199),
        baseline="eager",
        uncertainty_ms=0.0004,
        speedup=2.0,
        speedup_lower=1.9,
        noise=0.01,
    )
    return msgspec.structs.replace(plain, **changed)


def _codes(timing: Timing, *busy_s: float) -> list[str]:
    return [flag.code for flag in timing_flags(timing, busy_s)]


def test_a_plain_measurement_has_no_flags() -> None:
    assert _codes(_timing(), 0.0, 0.0, BUSY_S / 2) == []


def test_a_device_that_was_busy_before_most_bursts_is_told() -> None:
    assert _codes(_timing(), 0.0, 2 * BUSY_S) == []
    assert _codes(_timing(), 0.0, 2 * BUSY_S, 3 * BUSY_S) == ["timing.device_busy"]


def test_calls_that_were_timed_one_by_one_are_told_on_a_gpu_alone() -> None:
    assert _codes(_timing(batch="single", events_ms=None)) == ["timing.single_calls"]
    assert _codes(_timing(batch="single", events_ms=None, device="cpu")) == []


def test_clocks_that_differ_by_more_than_a_tenth_disagree() -> None:
    assert _codes(_timing(events_ms=EventsMs(candidate=0.0112, reference=0.02))) == []
    assert _codes(_timing(events_ms=EventsMs(candidate=0.0125, reference=0.02))) == ["timing.clocks_disagree"]


def test_calls_that_do_each_others_work_are_told_with_what_they_are_charged() -> None:
    alone = AloneMs(candidate=0.050, reference=0.024)
    assert _codes(_timing(alone_ms=alone)) == []
    (flag,) = timing_flags(_timing(alone_ms=alone, charged_ms=0.044))
    assert (flag.code, flag.severity) == ("timing.calls_merged", "warn")
    assert "50.00 us alone" in flag.evidence
    assert "Charged: 44.00 us" in flag.evidence


def test_calls_too_short_to_tell_apart_are_no_accusation() -> None:
    short = _timing(alone_ms=AloneMs(candidate=0.009, reference=0.008), charged_ms=0.003)
    (flag,) = timing_flags(short)
    assert (flag.code, flag.severity) == ("timing.short_calls", "info")


def test_a_reference_that_was_slowed_is_told_with_both_times() -> None:
    during = Interval(median=0.030, ci95=(0.029, 0.031), n=100)
    flag = reference_slowed(during, Interval(median=0.020, ci95=(0.019, 0.021), n=7))
    assert (flag.code, flag.severity) == ("timing.reference_slowed", "warn")
    assert "30.00 us" in flag.evidence
    assert "20.00 us, which counts" in flag.evidence
