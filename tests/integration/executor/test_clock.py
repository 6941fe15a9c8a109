"""What the judge's clock counts: candidates that work before it starts, after it stopped, or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from keck.messages import Options
from keck.verdict import Verdict

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

OPTIONS = Options(timed_calls=6, correctness_sets=2)


async def test_no_timed_call_has_inputs_that_were_seen_before(bench: Any) -> None:
    remembering = """
    import torch
    class ModelNew(torch.nn.Module):
        seen = []
        def forward(self, x):
            if any(torch.equal(x, old) for old in self.seen): print("SEEN BEFORE", flush=True)
            print("CALLED", flush=True)
            self.seen.append(x.clone())
            return x * 2 + 1
    """
    judged = await bench.check(remembering, options=OPTIONS)
    assert judged.outcome.verdict is Verdict.PASSED
    assert judged.output.count("CALLED") == 2 + 6
    assert "SEEN BEFORE" not in judged.output


async def test_the_seeds_told_are_those_of_the_compared_sets_and_of_the_last_timed_one(bench: Any) -> None:
    outcome = (await bench.check("return x * 2 + 1", options=OPTIONS)).outcome
    assert len(set(outcome.seeds.split(","))) == 2 + 1


async def test_a_candidate_never_sees_inputs_being_written(bench: Any) -> None:
    large = """
    import torch
    class Model(torch.nn.Module):
        def forward(self, x):
            return x[:8] + 1
    def get_inputs():
        return [torch.rand(12 << 20)]
    def get_init_inputs():
        return []
    """
    watching = """
    import sys, threading, time, torch
    class ModelNew(torch.nn.Module):
        thread = None
        def forward(self, x):
            if self.thread is None:
                frame = sys._getframe()
                while not hasattr(frame.f_locals.get("self"), "_arenas"): frame = frame.f_back
                words = frame.f_locals["self"]._arenas[1].view(torch.float32)
                self.first, self.last = words[1 << 16 :], words[11 << 20 :]
                self.thread = threading.Thread(target=self.watch, daemon=True)
                self.thread.start()
            return x[:8] + 1
        def watch(self):
            first, last = float(self.first[0]), float(self.last[0])
            while True:
                time.sleep(0.0005)
                now_first = float(self.first[0])
                now_last = float(self.last[0])
                if now_first != first:
                    print("HALF" if now_last == last else "WHOLE", flush=True)
                    first, last = now_first, now_last
    """
    judged = await bench.check(watching, large, options=OPTIONS)
    assert judged.outcome.verdict is Verdict.PASSED
    assert "WHOLE" in judged.output
    assert "HALF" not in judged.output


async def test_what_other_processes_do_until_they_are_stopped_is_paid_for(bench: Any) -> None:
    crowd = """
    import os, subprocess, sys, time, torch
    class ModelNew(torch.nn.Module):
        crowd = None
        def forward(self, x):
            if self.crowd is None:
                many = "import os, time\\nfor _ in range(400):\\n if os.fork() == 0: time.sleep(60)\\ntime.sleep(60)"
                self.crowd = subprocess.Popen([sys.executable, "-S", "-c", many])
                time.sleep(1.0)
            return x * 2 + 1
    """
    alone = (await bench.check("return x * 2 + 1", options=OPTIONS)).outcome
    crowded = (await bench.check(crowd, options=OPTIONS)).outcome
    assert crowded.verdict is Verdict.PASSED, crowded
    assert crowded.timing.candidate_ms.median > alone.timing.candidate_ms.median + 2.0
