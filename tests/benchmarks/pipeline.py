"""The real pipeline over the corpus: verdicts, durations, and twenty HTTP callers at once, as a table.

    python tests/benchmarks/pipeline.py [--only SUBSTRING] [--awaited] [--out FILE.md] [--raw FILE.json]

Starts nats-server, gateway, compiler and one executor per device as processes, submits every case of
``tests/kernels`` that this machine can judge, and prints Markdown. Exits with 1 if a verdict is not the one its
case expects.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

import httpx
import msgspec

from keck import Client, EvalDone
from keck.embedded import Embedded, devices_here
from keck.messages import to_json

CORPUS = Path(__file__).parents[1] / "kernels"
CALLERS = 20


def cases(only: str, *, awaited: bool) -> list[dict[str, Any]]:
    """The corpus as plain dictionaries, sources read; cases that await something only where they are asked for."""
    found = []
    for file in sorted(CORPUS.glob("*/*/case.toml")):
        case = tomllib.loads(file.read_text())
        name = str(file.parent.relative_to(CORPUS))
        if not any(part in name for part in only.split(",")) or case.get("compile_only"):
            continue
        if case.get("awaits") and not awaited:
            continue
        expect = case["expect"]
        found.append(
            {
                **case,
                "name": name,
                "expect": [expect] if isinstance(expect, str) else expect,
                "candidate": (file.parent / case.get("candidate", "candidate.py")).read_text(),
                "reference": (file.parent / case.get("reference", "reference.py")).read_text(),
            }
        )
    return found


def as_expected(case: dict[str, Any], done: EvalDone) -> bool:
    """Whether the verdict is one that the case names, and has not gained more than it may."""
    gained = done.timing.speedup if done.verdict == "passed" and done.timing is not None else 0.0
    return done.verdict in case["expect"] and gained < case.get("speedup_below", float("inf"))


async def judge(client: Client, case: dict[str, Any]) -> EvalDone:
    """One case through the whole system."""
    options = {"device": case["device"], **case.get("options", {})}
    done = await client.check(
        case["candidate"], case["reference"], kind=case.get("kind", "kernel"), options=options, timeout_s=900
    )
    print(
        f"{time.strftime('%X')} {case['name']}: {done.verdict} {done.message[:150]}",
        file=sys.stderr,
        flush=True,
    )
    return done


async def call_http(url: str, case: dict[str, Any]) -> tuple[dict[str, Any], float]:
    """One call of the original's route, with its wall time."""
    started = time.monotonic()
    form = {"cuda_code": case["candidate"], "torch_code": case["reference"]}
    async with httpx.AsyncClient(timeout=600) as http:
        answer = await http.post(f"{url}/compute_score", data=form)
    return {"status": answer.status_code, **answer.json()}, time.monotonic() - started


def table(rows: list[tuple[dict[str, Any], EvalDone]]) -> list[str]:
    """Verdicts and durations in Markdown."""
    lines = [
        (
            "| case | verdict | as expected | build s | build | device held s | candidate ms | reference ms "
            "| by events | speedup (lower) | calls checked | clock |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for case, done in rows:
        timing, checked = done.timing, done.correctness.calls_checked if done.correctness else 0
        times = ["", "", "", "", ""]
        if timing is not None:
            events = timing.events_ms
            times = [
                f"{timing.candidate_ms.median:.4f}",
                f"{timing.reference_ms.median:.4f}",
                f"{events.candidate:.4f} : {events.reference:.4f}" if events else "",
                f"{timing.speedup:.2f} ({timing.speedup_lower:.2f})",
                timing.batch + "".join(f"; {flag.code}" for flag in done.flags),
            ]
        lines.append(
            f"| {case['name']} | {done.verdict} | {'yes' if as_expected(case, done) else '**NO**'} "
            f"| {done.durations_s.compile:.1f} | {done.build.recipe} {done.build.cache} "
            f"| {done.durations_s.gpu_held:.2f} | {' | '.join(times[:4])} | {checked} | {times[4]} |"
        )
    return lines


async def run(only: str, raw: Path | None, *, awaited: bool) -> tuple[list[str], bool]:
    """Everything, and whether all verdicts were as expected."""
    devices = devices_here()
    gpus = [device for device in devices if device.startswith("cuda")]
    chosen = [case for case in cases(only, awaited=awaited) if gpus or case["device"] == "cpu"]
    out = [f"Machine: {platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}."]
    settings = {"COMPILER_CPUS": "1", "KECK_RUNNER_MEMORY": str(12 << 30), "EXEC_TIMEOUT": "20"}
    with tempfile.TemporaryDirectory() as directory:
        async with (
            Embedded(directory=Path(directory), devices=("cpu", *gpus), settings_env=settings) as system,
            Client(system.nats_url) as client,
        ):
            for executor in await client.executors():
                out.append(f"Executor {executor.target}: {json.dumps(executor.facts)}.")
            started = time.monotonic()
            verdicts = await asyncio.gather(*(judge(client, case) for case in chosen), return_exceptions=True)
            wall = time.monotonic() - started
            rows = [
                (case, done)
                for case, done in zip(chosen, verdicts, strict=True)
                if isinstance(done, EvalDone)
            ]
            lost = [
                (case, e) for case, e in zip(chosen, verdicts, strict=True) if not isinstance(e, EvalDone)
            ]
            out += ["", f"{len(chosen)} checks at once, builds included: {wall:.1f} s.", "", *table(rows)]
            out += [f"LOST: {case['name']}: {error!r}" for case, error in lost]
            out += await twenty_callers(system.http_url, chosen, gpus=bool(gpus))
            if raw is not None:
                await asyncio.to_thread(
                    raw.write_text,
                    "["
                    + ",\n".join(
                        to_json(msgspec.structs.replace(done, log="", profile=None)).decode()
                        for _, done in rows
                    )
                    + "]\n",
                )
    unexpected = [(case, done) for case, done in rows if not as_expected(case, done)]
    for case, done in unexpected:
        print(
            f"UNEXPECTED {case['name']}: {done.verdict} {done.message}\n{done.log[-1500:]}", file=sys.stderr
        )
    return out, not unexpected and not lost


async def twenty_callers(url: str, chosen: list[dict[str, Any]], *, gpus: bool) -> list[str]:
    """The original's route called by twenty at once; builds are look-ups by now."""
    device = "cuda" if gpus else "cpu"
    passing = [
        case
        for case in chosen
        if case["device"] == device
        and case["expect"] == ["passed"]
        and case.get("kind", "kernel") == "kernel"
    ]
    if not passing:
        return []
    asked = [passing[i % len(passing)] for i in range(CALLERS)]
    started = time.monotonic()
    answers = await asyncio.gather(*(call_http(url, case) for case in asked))
    wall = time.monotonic() - started
    passed = sum(bool(answer["passed"]) for answer, _ in answers)
    slowest = max(seconds for _, seconds in answers)
    tables = [answer["msg"]["torch_profile"] for answer, _ in answers if answer["passed"]]
    print("one profile table:", str(tables[:1])[:600], file=sys.stderr)
    for answer, _ in answers:
        if not answer["passed"]:
            print(f"HTTP {answer['status']}: {str(answer['msg'])[:400]}", file=sys.stderr)
    return [
        "",
        (
            f"{CALLERS} concurrent `POST /compute_score` ({device}, builds cached): {passed} passed, "
            f"all answered after {wall:.1f} s, the slowest caller waited {slowest:.1f} s."
        ),
    ]


def main() -> None:
    """Parse arguments, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="cases whose name contains this, or one of these (comma)")
    parser.add_argument("--awaited", action="store_true", help="also cases that await something to be built")
    parser.add_argument("--out", type=Path, help="also write the table here")
    parser.add_argument("--raw", type=Path, help="write every verdict as JSON here, without logs")
    arguments = parser.parse_args()
    lines, good = asyncio.run(run(arguments.only, arguments.raw, awaited=arguments.awaited))
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
