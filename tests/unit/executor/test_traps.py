"""What the judge lays out around a call shows what was written where, and when."""

from __future__ import annotations

import math

import pytest
import torch

from keck_executor.judge.traps import Commit, RedZones, flat_bytes, poison


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("numel", [1, 3, 4, 1001])
def test_poison_is_not_a_number_in_any_format(dtype: torch.dtype, numel: int) -> None:
    values = torch.zeros(numel, dtype=dtype)
    poison(flat_bytes(values))
    assert values.isnan().all()


def test_poison_is_another_each_time() -> None:
    seen = set()
    for _ in range(10):
        values = torch.zeros(16)
        poison(flat_bytes(values))
        seen.add(bytes(flat_bytes(values).tolist()))
    assert len(seen) > 5


def test_poison_begins_where_it_is_told() -> None:
    memory = torch.zeros(64, dtype=torch.uint8)
    poison(memory[3:17])
    assert memory[:3].tolist() == [0, 0, 0]
    assert memory[17:].eq(0).all()
    assert memory[3:17].ne(0).all()


@pytest.mark.parametrize("at", [99, 200])
def test_red_zones_see_what_is_written_to_them(at: int) -> None:
    arena = torch.zeros(1000, dtype=torch.uint8)
    zones = RedZones(arena, 100, 200)
    arena[100:200] = 7
    assert zones.intact()
    arena[at] ^= 1
    assert not zones.intact()


def test_red_zones_at_the_ends_of_an_arena() -> None:
    arena = torch.zeros(100, dtype=torch.uint8)
    zones = RedZones(arena, 0, 100)
    arena.fill_(1)
    assert zones.intact()


def test_what_changes_after_the_commit_is_seen() -> None:
    outputs = [torch.rand(1000, 100), torch.rand(7), torch.empty(0, 3)]
    commit = Commit.prepare(outputs, dense=outputs)
    commit.take()
    assert commit.holds()
    outputs[0].mul_(1.5)
    assert not commit.holds()


def test_no_call_can_be_left_for_later() -> None:
    """Of every output a window is read, whichever is read in full."""
    outputs = [torch.zeros(10_000) for _ in range(64)]
    commit = Commit.prepare(outputs, dense=outputs[:1])
    commit.take()
    outputs[37].fill_(1)
    assert not commit.holds()


def test_a_tenth_of_an_output_cannot_be_left_for_later() -> None:
    output = torch.zeros(100_000)
    commit = Commit.prepare([output], dense=[output])
    commit.take()
    start = math.floor(0.5 * output.numel())
    output[start : start + output.numel() // 10].fill_(1)
    assert not commit.holds()
