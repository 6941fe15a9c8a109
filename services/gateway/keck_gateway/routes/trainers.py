"""Routes that trainers call by themselves: slime's ``remote_rm``, OpenRLHF's ``--remote_rm_url``, NeMo Gym's ``/verify``."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from litestar import Response, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody

from keck.adapters.nemo_gym import answer_of, asked_in
from keck.adapters.openrlhf import answer_in, rewards_of
from keck.adapters.score import Score
from keck.adapters.settings import AdapterSettings
from keck.adapters.task import task_of
from keck.errors import BadRequest
from keck_gateway.routes._answers import (
    GatewayRequest,
    TheDesk,
    json_only,
    json_response,
    problems,
    unless_gone,
)
from keck_gateway.trainer_desk import require_reward, score_of, settings_in

__all__ = ["openrlhf", "seed_session", "slime", "verify"]

_MAX_BODY_BYTES: Final = 32 << 20
"""A batch of answers, or a response with its token ids."""
_STATUSES: Final = (413, 415, 422, 429, 503, 504)
_SETTINGS: Final = " The query holds settings of the adapters, such as `device`, `extract`, `tolerance`, `policy`, or what a verdict is worth."


class SlimeBody(msgspec.Struct, frozen=True):
    """What slime's ``remote_rm`` sends."""

    response: str
    label: str | dict[str, Any]
    """The reference's source, or a mapping with it."""
    prompt: Any = None


class OpenRlhfBody(msgspec.Struct, frozen=True):
    """What OpenRLHF sends to ``--remote_rm_url``; a query is prompt and answer in one."""

    query: list[str]
    prompts: list[str]
    labels: list[str | dict[str, Any]]


class OpenRlhfAnswer(msgspec.Struct, frozen=True):
    """What OpenRLHF reads."""

    rewards: list[float]
    scores: list[float]
    extra_logs: dict[str, list[float]]


@post(
    "/trainers/slime",
    status_code=200,
    request_max_body_size=_MAX_BODY_BYTES,
    guards=[json_only],
    summary="Reward for slime",
    operation_id="rewardForSlime",
    tags=["trainers"],
    description="One answer's reward, as slime's `remote_rm` reads it: a number, or with `?reward_key=NAME` a mapping with "
    "the reward under that name and the verdict beside it. What could not be judged has another status than 200, "
    "unless `neutral` names a reward for it." + _SETTINGS,
    responses={
        200: ResponseSpec(float | dict[str, Any], description="The reward.", generate_examples=False),
        **problems(*_STATUSES),
    },
)
async def slime(request: GatewayRequest, data: JSONBody[SlimeBody], desk: TheDesk) -> Response[bytes]:
    """One answer's reward."""
    query = dict(request.query_params)
    key = query.pop("reward_key", "")
    settings = settings_in(query)
    score = await unless_gone(request, score_of(desk, data.response, task_of(data.label), settings))
    reward = require_reward(score, settings.judge.neutral)
    return json_response({**score.facts, key: reward} if key else reward)


@post(
    "/trainers/openrlhf",
    status_code=200,
    request_max_body_size=_MAX_BODY_BYTES,
    guards=[json_only],
    summary="Rewards for OpenRLHF",
    operation_id="rewardsForOpenRlhf",
    tags=["trainers"],
    description="Rewards in the order of the queries. What could not be judged makes the whole answer another status than 200, "
    "unless `neutral` names a reward for it." + _SETTINGS,
    responses={
        200: ResponseSpec(OpenRlhfAnswer, description="The rewards.", generate_examples=False),
        **problems(*_STATUSES),
    },
)
async def openrlhf(request: GatewayRequest, data: JSONBody[OpenRlhfBody], desk: TheDesk) -> Response[bytes]:
    """Rewards in the order of the queries."""
    settings = settings_in(dict(request.query_params))
    if not len(data.query) == len(data.prompts) == len(data.labels):
        raise BadRequest("`query`, `prompts` and `labels` must be of one length")
    answers = [answer_in(query, prompt) for query, prompt in zip(data.query, data.prompts, strict=True)]
    tasks = [task_of(label) for label in data.labels]
    scoring = asyncio.gather(
        *(score_of(desk, answer, task, settings) for answer, task in zip(answers, tasks, strict=True))
    )
    scores: list[Score] = await unless_gone(request, scoring)
    for score in scores:
        require_reward(score, settings.judge.neutral)
    return json_response(rewards_of(scores, neutral=settings.judge.neutral))


@post(
    "/seed_session",
    status_code=200,
    summary="Begin a session of NeMo Gym",
    operation_id="seedSession",
    tags=["trainers"],
    responses={
        200: ResponseSpec(
            dict[str, Any], description="Nothing: a session has no state.", generate_examples=False
        ),
        **problems(),
    },
)
async def seed_session() -> Response[bytes]:
    """Keck's tasks have no state; NeMo Gym asks all the same."""
    return json_response({})


@post(
    "/verify",
    status_code=200,
    request_max_body_size=_MAX_BODY_BYTES,
    guards=[json_only],
    summary="Verify for NeMo Gym",
    operation_id="verify",
    tags=["trainers"],
    description="The request again, with `reward`, `mask_sample`, `failure_kind`, `failure_reason` and the verdict. "
    "`verifier_metadata` holds `reference`; `response` is one of OpenAI's Responses API." + _SETTINGS,
    responses={
        200: ResponseSpec(
            dict[str, Any],
            description="The request with its reward; what could not be judged has `mask_sample`.",
            generate_examples=False,
        ),
        **problems(*_STATUSES),
    },
)
async def verify(request: GatewayRequest, data: JSONBody[dict[str, Any]], desk: TheDesk) -> Response[bytes]:
    """One rollout's reward, or that it must be left out."""
    answer, task, own = asked_in(data)
    settings = _merged(dict(request.query_params), own)
    score = await unless_gone(request, score_of(desk, answer, task_of(task), settings))
    return json_response(answer_of(data, score))


def _merged(query: dict[str, str], own: Any) -> AdapterSettings:
    """Settings of the query, with the row's own in their place."""
    return settings_in(query | {name: str(value) for name, value in own.items()})
