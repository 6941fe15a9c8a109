"""What a candidate sees of its inputs, and when: nothing of it may be known before the clock runs."""

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
    assert judged.output.count("CALLED") >= 2 + 6
    assert "SEEN BEFORE" not in judged.output


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
