"""What the client refuses before anything is sent, and where it would send it."""

from __future__ import annotations

import pytest

from keck import BadRequest, Client, Options, Settings, SyncClient, Unavailable
from keck.client import DEFAULT_URL, options_from


def test_options_may_be_a_mapping() -> None:
    assert options_from({"device": "cpu", "atol": 0}) == Options(device="cpu", atol=0.0)
    assert options_from(None) == Options()


def test_an_unknown_option_is_refused_by_name() -> None:
    with pytest.raises(BadRequest, match="unknown option devise; known are device"):
        options_from({"devise": "cpu"})


@pytest.mark.parametrize(
    "wrong", [{"device": "tpu"}, {"correctness_sets": 0}, {"atol": -1}, {"arch": "9.0\n"}]
)
def test_an_option_out_of_bounds_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(BadRequest, match="options:"):
        options_from(wrong)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Settings(url="http://gateway:80", nats_url="nats://bus:4222"), "http://gateway:80"),
        (Settings(nats_url="nats://bus:4222"), "nats://bus:4222"),
        (Settings(), DEFAULT_URL),
    ],
)
def test_the_gateway_comes_before_the_bus_and_both_before_the_default(
    settings: Settings, expected: str
) -> None:
    assert Client(settings=settings).url == expected


@pytest.mark.parametrize("url", ["ftp://host", "localhost:8000", "nats://"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(BadRequest, match=r"scheme|not a URL"):
        Client(url, settings=Settings())


async def test_a_bus_that_is_not_there_is_unavailable_and_says_where() -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9"):
        async with Client("nats://127.0.0.1:9", settings=Settings()):
            pass


def test_a_sync_client_that_cannot_connect_leaves_no_thread_behind() -> None:
    with pytest.raises(Unavailable):
        SyncClient("nats://127.0.0.1:9", settings=Settings())


async def test_a_client_that_is_not_open_says_how_to_open_it() -> None:
    with pytest.raises(BadRequest, match="async with"):
        await Client("nats://127.0.0.1:9", settings=Settings()).executors()


@pytest.mark.parametrize("name", ["two words", "a.b", "", "x\n", "x" * 65])
async def test_a_run_that_is_no_subject_token_is_refused(name: str) -> None:
    client = Client("nats://127.0.0.1:9", settings=Settings())
    with pytest.raises(BadRequest, match="run"):
        await client.submit("a", "b", run=name)
