"""Plots as SVG text: no library, no script, no network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from keck.evaluation.results import Result
from keck.evaluation.scores import fast_p, speedups_of

__all__ = ["fast_p_plot", "speedup_plot", "verdict_plot"]

_WIDTH: Final = 640
_HEIGHT: Final = 300
_LEFT: Final = 48
_BOTTOM: Final = 40
_TOP: Final = 16
_RIGHT: Final = 130
_COLOURS: Final = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#475569")
_MOST_P: Final = 3.0
_STEPS: Final = 120
_BAR: Final = 22


def fast_p_plot(groups: Mapping[str, Sequence[Result]]) -> str:
    """fast_p over p, one line a group."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for title, results in groups.items():
        judged = sum(result.is_judged for result in results)
        passed = [result for result in results if result.verdict and result.verdict.verdict.standing.passed]
        speedups = speedups_of(passed)
        thresholds = [step * _MOST_P / _STEPS for step in range(_STEPS + 1)]
        lines[title] = [(p, fast_p(speedups, judged, p, correct=len(passed))) for p in thresholds]
    parts = [
        _axes(x_ticks=[0, 0.5, 1, 1.5, 2, 2.5, 3], y_ticks=[0, 0.25, 0.5, 0.75, 1], x_most=_MOST_P, y_most=1)
    ]
    parts.append(_label(_x(_MOST_P / 2, _MOST_P), _HEIGHT - 6, "p", anchor="middle"))
    for number, (title, points) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(f"{_x(p, _MOST_P):.1f},{_y(share, 1):.1f}" for p, share in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(_legend(number, title, colour))
    return _svg("fast_p over p", parts, _HEIGHT)


def speedup_plot(groups: Mapping[str, Sequence[Result]]) -> str:
    """Speedups of the correct ones from the slowest to the fastest, on a logarithmic scale."""
    found = {title: sorted(speedups_of(results)) for title, results in groups.items()}
    everything = [value for values in found.values() for value in values]
    low = min(-1, math.floor(math.log2(min(everything, default=0.5))))
    high = max(1, math.ceil(math.log2(max(everything, default=2))))
    step = max(1, (high - low) // 8)
    most = float(high - low)
    ticks = range(low, high + 1, step)
    parts = [_axes(x_ticks=[], y_ticks=[], x_most=1, y_most=most)]
    for tick in ticks:
        parts.append(_rule(_y(tick - low, most), strong=tick == 0))
        parts.append(_label(_LEFT - 6, _y(tick - low, most) + 4, f"{2.0**tick:g}", anchor="end"))
    parts.append(_label(_x(0.5, 1), _HEIGHT - 14, "correct generations, by speedup", anchor="middle"))
    for number, (title, values) in enumerate(found.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        for rank, value in enumerate(values):
            x = _x((rank + 0.5) / len(values), 1)
            y = _y(math.log2(value) - low, most)
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}" fill-opacity="0.75"/>')
        parts.append(_legend(number, title, colour))
    return _svg("speedups", parts, _HEIGHT)


def verdict_plot(verdicts: Mapping[str, int]) -> str:
    """How many of each verdict."""
    most = max(verdicts.values(), default=1)
    room = _WIDTH - 170 - 60
    parts = []
    for row, (verdict, count) in enumerate(verdicts.items()):
        y = _TOP + row * _BAR
        colour = "#059669" if verdict == "passed" else "#94a3b8"
        parts.append(_label(160, y + 14, verdict, anchor="end"))
        parts.append(
            f'<rect x="170" y="{y + 2}" width="{room * count / most:.1f}" height="{_BAR - 6}" fill="{colour}"/>'
        )
        parts.append(_label(176 + room * count / most, y + 14, str(count)))
    return _svg("verdicts", parts, 2 * _TOP + _BAR * len(verdicts))


def _svg(title: str, parts: Sequence[str], height: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="currentColor">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def _axes(*, x_ticks: Sequence[float], y_ticks: Sequence[float], x_most: float, y_most: float) -> str:
    parts = []
    for tick in y_ticks:
        parts.append(_rule(_y(tick, y_most), strong=tick == 0))
        parts.append(_label(_LEFT - 6, _y(tick, y_most) + 4, f"{tick:g}", anchor="end"))
    parts += [
        _label(_x(tick, x_most), _HEIGHT - _BOTTOM + 16, f"{tick:g}", anchor="middle") for tick in x_ticks
    ]
    return "".join(parts)


def _rule(y: float, *, strong: bool) -> str:
    opacity = 0.6 if strong else 0.15
    return (
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
        f'stroke="currentColor" stroke-opacity="{opacity}"/>'
    )


def _legend(number: int, title: str, colour: str) -> str:
    y = _TOP + 10 + 18 * number
    x = _WIDTH - _RIGHT + 12
    return f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{colour}"/>{_label(x + 16, y, title)}'


def _label(x: float, y: float, text: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _x(value: float, most: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * value / most


def _y(value: float, most: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * value / most
