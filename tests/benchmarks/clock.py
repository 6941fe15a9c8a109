"""What the judge's clock says against device events and ``triton.testing.do_bench``, and how steadily.

    python tests/benchmarks/clock.py [--device cuda|cpu] [--repeats N] [--out FILE.json]

Each pair is the same computation on both sides, so the speedup should be 1; it is judged several times by the
executor's own parts, with every check on. Then the same computations are timed in a process of their own by
``do_bench``. The judge's constants are measured as well: what a null burst costs, and how far it drifts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from keck.messages import Options
from keck.settings import load
from keck_executor.placement import place
from keck_executor.station import open_station

from judged import judge, twin  # isort: skip - beside this file

REFERENCE = """
import torch
class Model(torch.nn.Module):
    def forward(self, x):
        return {body}
def get_inputs():
    return [torch.rand({shape})]
def get_init_inputs():
    return []
"""
# About 3, 10, 50 and 500 microseconds and 5 milliseconds on an H100 or H200.
CUDA_PAIRS = {
    "3 us": ("torch.relu(x)", "1 << 18"),
    "10 us": ("torch.relu(x)", "3 << 20"),
    "50 us": ("torch.relu(x)", "16 << 20"),
    "500 us": ("torch.relu(x)", "160 << 20"),
    "5 ms": ("x @ x", "5120, 5120"),
}
CPU_PAIRS = {"1 ms": ("torch.exp(x)", "1 << 20"), "10 ms": ("x @ x", "700, 700")}
DO_BENCH = """
import json, sys, torch
from triton.testing import do_bench
found = {}
for name, (body, shape) in json.loads(sys.argv[1]).items():
    x = torch.rand(*eval(f"({shape},)"), device="cuda")
    found[name] = do_bench(eval(f"lambda: {body}"), return_mode="median")
print(json.dumps(found))
"""


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every pair, several times, in turns."""
    placement = place(load({**os.environ, "KECK_DEVICE": arguments.device}))
    pairs = CPU_PAIRS if placement.kind == "cpu" else CUDA_PAIRS
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in pairs}
    with tempfile.TemporaryDirectory(prefix="keck-bench-", ignore_cleanup_errors=True) as name:
        os.chmod(name, 0o711)  # for cells without a root of their own
        async with open_station(load(), placement, Path(name)) as station:
            for _ in range(arguments.repeats):
                for pair, (body, shape) in pairs.items():
                    reference = REFERENCE.format(body=body, shape=shape)
                    judged = await judge(station, twin(reference), reference, Options(timed_calls=100))
                    outcome = judged.outcome
                    if outcome.timing is None:
                        raise SystemExit(f"{pair}: {outcome.verdict} {outcome.message} {outcome.detail}")
                    timing, events = outcome.timing, outcome.timing.events_ms
                    found[pair].append(
                        {
                            "clock": timing.batch,
                            "candidate_us": 1e3 * timing.candidate_ms.median,
                            "reference_us": 1e3 * timing.reference_ms.median,
                            "events_us": 1e3 * events.candidate if events else None,
                            "speedup": timing.speedup,
                            "calls": timing.candidate_ms.n,
                            "uncertainty_us": 1e3 * timing.uncertainty_ms,
                            "flags": [flag.code for flag in outcome.flags],
                            "held_s": outcome.held_s,
                            "null_us": 1e6 * outcome.phases_s["null"],
                            "phases_s": outcome.phases_s,
                            "suspicion": outcome.suspicion,
                        }
                    )
            facts = station.facts
    return {
        "facts": facts,
        "pairs": found,
        "do_bench_us": do_bench(pairs) if placement.kind == "cuda" else {},
    }


def do_bench(pairs: dict[str, tuple[str, str]]) -> dict[str, float]:
    """The same by Triton's own benchmark, in microseconds."""
    ran = subprocess.run(
        [sys.executable, "-c", DO_BENCH, json.dumps(pairs)], capture_output=True, text=True, check=True
    )
    return {name: 1e3 * ms for name, ms in json.loads(ran.stdout.splitlines()[-1]).items()}


def table(result: dict[str, Any]) -> str:
    """Markdown, medians over the repeats; the spread of the speedup is its largest less its smallest."""
    lines = [
        "| | clock | judge us | events us | do_bench us | judge/events | speedup | its spread | calls | null us (its spread) | held s | flags |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, checks in result["pairs"].items():
        middle = {
            key: statistics.median(check[key] for check in checks)
            for key in ("candidate_us", "speedup", "calls", "held_s")
        }
        told = [check["events_us"] for check in checks if check["events_us"] is not None]
        events = statistics.median(told) if told else None
        spread = max(check["speedup"] for check in checks) - min(check["speedup"] for check in checks)
        nulls = [check["null_us"] for check in checks]
        bench = result["do_bench_us"].get(name)
        flags = sorted({flag for check in checks for flag in check["flags"]})
        lines.append(
            f"| {name} | {checks[0]['clock']} | {middle['candidate_us']:.2f} | {_shown(events)} | {_shown(bench)} | "
            f"{_shown(middle['candidate_us'] / events if events else None, 3)} | {middle['speedup']:.3f} | "
            f"{spread:.3f} | {middle['calls']:.0f} | {statistics.median(nulls):.0f} ({max(nulls) - min(nulls):.0f}) | "
            f"{middle['held_s']:.2f} | {' '.join(flags)} |"
        )
    return "\n".join(lines)


def _shown(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    result = asyncio.run(measure(arguments))
    result["machine"] = {"cores": os.cpu_count(), "kernel": platform.release()}
    print(table(result))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
