"""OpenRLHF itself calls the adapter: a reward file, and the gateway's route."""

from __future__ import annotations

from pathlib import Path

import pytest

from keck.played import PlayedSystem

agent = pytest.importorskip("openrlhf.utils.agent", reason="`make test-trainers` installs openrlhf")

REFERENCE = "class Model: ...\n"
OUTCOMES = ["passed", "crashed", "hack_detected"]
QUERIES = [f"prompt```python\n# verdict: {outcome}\nclass ModelNew: ...\n```\n" for outcome in OUTCOMES]
GIVEN = (QUERIES, ["prompt"] * len(OUTCOMES), [REFERENCE] * len(OUTCOMES))


async def test_a_reward_file_of_two_lines(played: PlayedSystem, tmp_path: Path) -> None:
    file = tmp_path / "reward.py"
    file.write_text(
        "from keck.adapters.openrlhf import reward_function\n"
        f"reward_func = reward_function(url={played.http_url!r}, retries=0)\n"
    )
    executor = agent.SingleTurnAgentExecutor(str(file))
    found = await executor._fetch_rewards_via_func(*GIVEN)
    assert [one["rewards"].item() for one in found] == pytest.approx([1.36, 0.0, -1.0])
    assert [one["extra_logs"]["hack"].item() for one in found] == [0.0, 0.0, 1.0]


async def test_the_gateways_route(played: PlayedSystem) -> None:
    executor = agent.SingleTurnAgentExecutor(f"{played.http_url}/trainers/openrlhf?retries=0")
    found = await executor._fetch_rewards_via_http(*GIVEN)
    assert [value for one in found for value in one["rewards"]] == pytest.approx([1.36, 0.0, -1.0])
