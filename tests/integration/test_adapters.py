"""Adapters as their trainers call them, over a real gateway and bus; the judge is played. The real packages: tests/trainers."""

from __future__ import annotations

import asyncio
import inspect
import multiprocessing
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from keck import BadRequest, CheckRequested, EvalDone, NotJudged, Verdict
from keck.adapters import nemo_gym, openrlhf, scorer_for, slime, trl, verl
from keck.adapters.score import KEYS
from keck.messages import verdict_of
from keck.played import PlayedSystem
from keck.testing import sample_eval_done

REFERENCE = "class Model: ...\n"
JUDGED = [verdict for verdict in Verdict if not verdict.standing.mask_sample]
MASKED = [verdict for verdict in Verdict if verdict.standing.mask_sample]
OUTCOMES = [*map(str, Verdict), "no code at all"]


def answer(outcome: str, number: int = 0) -> str:
    """A model's answer that ends in this verdict."""
    if outcome == "no code at all":
        return "I would rather not."
    return f"Here you are:\n```python\n# verdict: {outcome} {number}\nclass ModelNew: ...\n```\n"


@pytest.fixture(params=["http", "nats"])
def settings(request: pytest.FixtureRequest, played: PlayedSystem) -> dict[str, Any]:
    return {"url": getattr(played, f"{request.param}_url"), "retries": 0}


class TestVerl:
    async def test_each_outcome_has_the_same_keys_and_a_score(self, settings: dict[str, Any]) -> None:
        """verl takes the keys of sample 0 and indexes all others with them."""
        assert inspect.iscoroutinefunction(verl.compute_score)  # how verl tells
        results = await asyncio.gather(
            *(
                verl.compute_score(
                    data_source="kernels",
                    solution_str=answer(outcome),
                    ground_truth=REFERENCE,
                    extra_info={"num_turns": None},
                    reward_router_address=None,
                    neutral=0.25,
                    **settings,
                )
                for outcome in OUTCOMES
            )
        )
        assert {tuple(result) for result in results} == {("score", *KEYS)}
        by_outcome = dict(zip(OUTCOMES, results, strict=True))
        assert by_outcome["passed"]["score"] == pytest.approx(1.36)
        assert by_outcome["hack_detected"]["score"] == -1.0
        assert by_outcome["no code at all"]["verdict"] == "format_error"
        for verdict in MASKED:
            assert (by_outcome[verdict]["score"], by_outcome[verdict]["mask_sample"]) == (0.25, 1)

    @pytest.mark.parametrize("verdict", MASKED)
    async def test_what_could_not_be_judged_is_raised(
        self, settings: dict[str, Any], verdict: Verdict
    ) -> None:
        with pytest.raises(NotJudged, match=str(verdict)):
            await verl.compute_score("kernels", answer(verdict), REFERENCE, None, **settings)

    def test_a_batch_comes_back_in_order(self, settings: dict[str, Any], played: PlayedSystem) -> None:
        answers = [answer("passed" if number % 3 else "crashed", number) for number in range(60)]
        results = verl.compute_score_batch(
            data_sources=["kernels"] * 60,
            solution_strs=answers,
            ground_truths=[REFERENCE] * 60,
            extra_infos=[{}] * 60,
            **settings,
        )
        assert [result["verdict"] for result in results] == [
            "passed" if number % 3 else "crashed" for number in range(60)
        ]
        assert {request.lane for request in played.requests} == {"bulk"}

    def test_threads_of_a_manager_share_one_client(self, settings: dict[str, Any]) -> None:
        assert not inspect.iscoroutinefunction(verl.compute_score_sync)  # `remote` asserts it
        with ThreadPoolExecutor(16) as pool:
            results = list(
                pool.map(
                    lambda number: verl.compute_score_sync(
                        "kernels", answer("passed", number), REFERENCE, {}, **settings
                    ),
                    range(64),
                )
            )
        assert {result["verdict"] for result in results} == {"passed"}
        assert len([thread for thread in threading.enumerate() if thread.name == "keck-client"]) <= 20

    @pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
    def test_a_forked_process_has_a_client_of_its_own(self, settings: dict[str, Any]) -> None:
        """`prime` scores in a pool of processes, which may be forked after this process has a client."""
        verl.compute_score_sync("kernels", answer("passed"), REFERENCE, {}, **settings)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            calls = [
                pool.apply_async(
                    verl.compute_score_sync, ("kernels", answer("passed", n), REFERENCE, {}), settings
                )
                for n in range(4)
            ]
            assert [call.get(timeout=30)["verdict"] for call in calls] == ["passed"] * 4

    def test_what_could_not_be_judged_is_taken_out_of_the_loss(self) -> None:
        torch = pytest.importorskip("torch")
        batch = SimpleNamespace(
            batch={"response_mask": torch.ones(3, 4)}, non_tensor_batch={"mask_sample": [0, 1, 0]}
        )
        assert verl.mask_out(batch) == 1
        assert batch.batch["response_mask"].sum(dim=1).tolist() == [4, 0, 4]


class TestRetries:
    def _failing_first(self, failures: int) -> Any:
        seen: list[str] = []

        def judge(request: CheckRequested) -> EvalDone:
            seen.append(request.check_id)
            if len(seen) <= failures:
                return verdict_of(
                    request, Verdict.INFRA_ERROR, stage="load", message="gpu", failure_kind="gpu_lost"
                )
            return sample_eval_done(request)

        return judge, seen

    async def test_our_failure_is_tried_again_as_a_fresh_check(
        self, settings: dict[str, Any], played: PlayedSystem
    ) -> None:
        played.answer, seen = self._failing_first(2)
        result = await verl.compute_score("k", answer("passed"), REFERENCE, None, **settings | {"retries": 2})
        assert result["verdict"] == "passed"
        assert len(set(seen)) == 3

    async def test_it_is_told_after_the_last_try(
        self, settings: dict[str, Any], played: PlayedSystem
    ) -> None:
        played.answer, seen = self._failing_first(9)
        with pytest.raises(NotJudged, match="gpu_lost"):
            await verl.compute_score("k", answer("passed"), REFERENCE, None, **settings | {"retries": 1})
        assert len(seen) == 2

    async def test_keck_out_of_reach_is_a_mask_and_no_reward(self, unused_tcp_port_url: str) -> None:
        function = trl.reward(url=unused_tcp_port_url, patience_s=0.2)
        assert await function(prompts=["p"], completions=[answer("passed")], reference=[REFERENCE]) == [None]

    async def test_a_task_that_is_none_is_its_authors_mistake_and_is_raised(
        self, settings: dict[str, Any]
    ) -> None:
        with pytest.raises(BadRequest, match="no reference"):
            await verl.compute_score("k", answer("passed"), "", None, **settings)
        with pytest.raises(BadRequest, match="unknown setting 'devise'"):
            await verl.compute_score("k", answer("passed"), REFERENCE, None, devise="cpu", **settings)


@pytest.fixture
def unused_tcp_port_url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where nobody listens."""
    import socket

    monkeypatch.setattr("keck._transport._http._PAUSES_S", (0.01,))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"

    async def test_a_scorer_that_was_closed_connects_again(self, settings: dict[str, Any]) -> None:
        scorer = scorer_for(settings)
        assert (await scorer.score(answer("passed", 1), REFERENCE)).facts["verdict"] == "passed"
        scorer.close()
        scorer.close()
        assert (await scorer.score(answer("passed", 2), REFERENCE)).facts["verdict"] == "passed"


class TestTrl:
    async def test_none_is_the_mask_and_order_is_kept(self, settings: dict[str, Any]) -> None:
        logged: dict[str, Any] = {}
        rewards = await trl.reward(**settings)(
            prompts=["p"] * len(OUTCOMES),
            completions=[[{"role": "assistant", "content": answer(outcome)}] for outcome in OUTCOMES],
            completion_ids=[[1]] * len(OUTCOMES),
            reference=[REFERENCE] * len(OUTCOMES),
            trainer_state=None,
            log_extra=logged.__setitem__,
            log_metric=logged.__setitem__,
        )
        by_outcome = dict(zip(OUTCOMES, rewards, strict=True))
        assert {outcome for outcome, reward in by_outcome.items() if reward is None} == set(map(str, MASKED))
        assert by_outcome["passed"] == pytest.approx(1.36)
        assert logged["keck_verdict"] == [*map(str, Verdict), "format_error"]
        assert logged["keck/masked"] == pytest.approx(len(MASKED) / len(OUTCOMES))
        assert logged["keck/passed"] == pytest.approx(1 / (len(JUDGED) + 1))

    def test_the_sync_form_gives_the_same(self, settings: dict[str, Any]) -> None:
        function = trl.reward_sync(column="code", **settings)
        given = {"prompts": ["p"] * 2, "completions": [answer("passed"), answer("infra_error")]}
        assert function(**given, code=[REFERENCE] * 2) == [pytest.approx(1.36), None]
        with pytest.raises(BadRequest, match="no column 'code'"):
            function(**given)


@dataclass
class SlimeSample:
    """What of slime's ``Sample`` a reward function touches."""

    response: str
    label: str | None = REFERENCE
    group_index: int | None = 0
    remove_sample: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)


class TestSlime:
    async def test_one_sample_and_a_list_of_them(self, settings: dict[str, Any]) -> None:
        args = SimpleNamespace(keck=settings, reward_key=None)
        assert await slime.custom_rm(args, SlimeSample(answer("passed"))) == pytest.approx(1.36)
        samples = [SlimeSample(answer(outcome)) for outcome in OUTCOMES]
        rewards = await slime.custom_rm(args, samples)
        assert all(type(reward) is float for reward in rewards)
        assert [sample.remove_sample for sample in samples] == [
            outcome in set(map(str, MASKED)) for outcome in OUTCOMES
        ]

    async def test_with_a_reward_key_it_is_a_dict_of_the_same_keys(self, settings: dict[str, Any]) -> None:
        args = SimpleNamespace(keck=settings, reward_key="score")
        rewards = await slime.custom_rm(args, [SlimeSample(answer(outcome)) for outcome in OUTCOMES])
        assert {tuple(reward) for reward in rewards} == {("score", *KEYS)}

    async def test_a_removed_sample_does_not_move_its_groups_mean(self, settings: dict[str, Any]) -> None:
        args = SimpleNamespace(keck=settings, reward_key=None)
        outcomes = ["passed", "infra_error", "crashed"]
        samples = [SlimeSample(answer(outcome), group_index=0) for outcome in outcomes]
        other = SlimeSample(answer("infra_error", 7), group_index=1)
        rewards = await slime.custom_rm(args, [*samples, other])
        assert rewards[1] == pytest.approx((rewards[0] + rewards[2]) / 2)
        assert (rewards[3], other.remove_sample) == (0.0, True)

    async def test_the_route_answers_what_remote_rm_posts(self, played: PlayedSystem) -> None:
        async with httpx.AsyncClient(base_url=f"{played.http_url}/trainers/slime", timeout=30) as http:

            async def post(outcome: str, query: str = "?retries=0") -> httpx.Response:
                body = {"prompt": [{"role": "user"}], "response": answer(outcome), "label": REFERENCE}
                return await http.post(query, json=body)

            assert (await post("passed")).json() == pytest.approx(1.36)
            keyed = (await post("crashed", "?reward_key=score&wrong=-0.1")).json()
            assert set(keyed) == {"score", *KEYS}
            assert keyed["score"] == -0.1
            statuses = {str(verdict): (await post(verdict)).status_code for verdict in MASKED}
            assert statuses == {
                "reference_error": 422,
                "cancelled": 503,
                "deadline_exceeded": 503,
                "infra_error": 503,
            }
            assert "Retry-After" in (await post("infra_error")).headers
            assert (await post("infra_error", "?neutral=0.5&retries=0")).json() == 0.5
            assert (await post("passed", "?devise=cpu")).status_code == 400

    async def test_asking_again_waits_for_the_same_check_and_after_our_failure_for_a_fresh_one(
        self, played: PlayedSystem
    ) -> None:
        body = {"response": answer("nothing", 1), "label": REFERENCE}
        async with httpx.AsyncClient(base_url=f"{played.http_url}/trainers/slime") as http:
            with pytest.raises(httpx.ReadTimeout):
                await http.post("", json=body, timeout=1.0)
            again = asyncio.create_task(http.post("", json=body, timeout=30))
            await asyncio.to_thread(played.wait_for_requests, 1)
            event = verdict_of(
                played.requests[0], Verdict.INFRA_ERROR, stage="load", message="x", failure_kind="y"
            )
            played.answer = sample_eval_done
            await asyncio.to_thread(played.decide, event)
            assert (await again).json() == pytest.approx(1.36)
        ids = [request.check_id for request in played.requests]
        assert len(ids) == len(set(ids)) == 2


class TestOpenRlhf:
    def test_three_fields_of_tensors_of_numbers(self, settings: dict[str, Any]) -> None:
        torch = pytest.importorskip("torch")
        function = openrlhf.reward_function(neutral=0.5, **settings)
        prompt = "Improve this:\n```python\nclass ModelNew: bad\n```\n"
        found = function(
            queries=[f"<s>{prompt}{answer(outcome)}" for outcome in OUTCOMES],
            prompts=[prompt] * len(OUTCOMES),
            labels=[REFERENCE] * len(OUTCOMES),
        )
        assert set(found) == {"rewards", "scores", "extra_logs"}
        assert torch.equal(found["rewards"], found["scores"])
        masked = found["extra_logs"]["mask_sample"].bool().tolist()
        assert masked == [outcome in set(map(str, MASKED)) for outcome in OUTCOMES]
        assert found["rewards"][masked.index(True)].item() == 0.5
        assert all(len(values) == len(OUTCOMES) for values in found["extra_logs"].values())

    def test_what_could_not_be_judged_is_raised(self, settings: dict[str, Any]) -> None:
        with pytest.raises(NotJudged):
            openrlhf.reward_function(**settings)([f"p{answer('infra_error')}"], ["p"], [REFERENCE])

    def test_a_query_without_its_prompt_is_not_guessed_at(self, settings: dict[str, Any]) -> None:
        with pytest.raises(BadRequest, match="does not hold its prompt"):
            openrlhf.reward_function(**settings)([answer("passed")], ["another"], [REFERENCE])

    async def test_the_route_answers_what_openrlhf_posts(self, played: PlayedSystem) -> None:
        async with httpx.AsyncClient(base_url=f"{played.http_url}/trainers/openrlhf", timeout=30) as http:

            async def post(*outcomes: str, query: str = "?retries=0") -> httpx.Response:
                body = {
                    "query": [f"prompt{answer(outcome)}" for outcome in outcomes],
                    "prompts": ["prompt"] * len(outcomes),
                    "labels": [REFERENCE] * len(outcomes),
                }
                return await http.post(query, json=body)

            found = (await post("passed", "crashed", "hack_detected")).json()
            assert found["rewards"] == found["scores"] == [pytest.approx(1.36), 0.0, -1.0]
            assert found["extra_logs"]["hack"] == [0.0, 0.0, 1.0]
            assert (await post("passed", "infra_error")).status_code == 503
            assert (await post("passed", "reference_error")).status_code == 422
            neutral = (await post("infra_error", query="?retries=0&neutral=0.1")).json()
            assert (neutral["rewards"], neutral["extra_logs"]["mask_sample"]) == ([0.1], [1.0])
            uneven = {"query": ["a"], "prompts": [], "labels": []}
            assert (await http.post("", json=uneven)).status_code == 400


class TestNemoGym:
    def _body(self, outcome: str) -> dict[str, Any]:
        return {
            "responses_create_params": {"input": [{"role": "user", "content": "write"}]},
            "response": {
                "id": "r",
                "output": [
                    {"type": "reasoning", "summary": []},
                    {
                        "type": "message",
                        "role": "assistant",
                        "content": [{"type": "output_text", "text": answer(outcome)}],
                    },
                ],
            },
            "verifier_metadata": {"reference": REFERENCE, "settings": {"retries": 0}},
            "own_field": 7,
        }

    async def test_the_gateway_is_a_resources_server(self, played: PlayedSystem) -> None:
        async with httpx.AsyncClient(base_url=played.http_url, timeout=30) as http:
            assert (await http.post("/seed_session", json={})).json() == {}
            found = {
                outcome: (await http.post("/verify", json=self._body(outcome))).json() for outcome in OUTCOMES
            }
            lacking = await http.post("/verify", json={"response": {}})
        assert lacking.status_code == 400
        self._assert_right(found)

    async def test_so_is_a_server_of_ones_own(self, settings: dict[str, Any]) -> None:
        found = {
            outcome: await nemo_gym.verify(self._body(outcome), url=settings["url"]) for outcome in OUTCOMES
        }
        self._assert_right(found)

    def _assert_right(self, found: dict[str, dict[str, Any]]) -> None:
        assert len({tuple(answer) for answer in found.values()}) == 1
        assert {outcome for outcome, given in found.items() if given["mask_sample"]} == set(map(str, MASKED))
        assert found["passed"]["reward"] == pytest.approx(1.36)
        assert found["passed"]["own_field"] == 7
        assert found["passed"]["failure_kind"] is None
        assert found["cancelled"]["failure_kind"] == "cancelled"
        assert found["infra_error"]["failure_kind"] == "verifier_error"
        assert found["infra_error"]["failure_reason"] == "because infra_error\nlog"
        assert all(given["response"]["id"] == "r" for given in found.values())
