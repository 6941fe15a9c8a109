"""Containment at the start of a service: the strongest tier this host allows, or a refusal that says what to do."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from keck.errors import SettingError
from keck.logs import logger
from keck.messages import Isolation
from keck.settings import Settings
from keck_sandbox import Tier
from keck_sandbox.ladder import Standing, TooWeak, climb

__all__ = ["establish", "isolation_of", "verdict_facts"]


def establish(
    settings: Settings, *, env: Mapping[str, str] | None = None, devices: Sequence[Path] = ()
) -> Isolation:
    """Choose the tier that all cells of this process are made on; once, before anything else runs.

    Args:
        settings: the floor (``KECK_SANDBOX_MIN``), or the one tier to use (``KECK_SANDBOX``).
        env, devices: of a GPU that must work in the cells.

    Raises:
        SettingError: this host allows less than is asked for.
    """
    only = None if settings.sandbox == "auto" else Tier(settings.sandbox)
    floor = Tier(settings.sandbox_min)
    if only is not None and only.rank > floor.rank:
        raise SettingError(
            f"KECK_SANDBOX={only} is below KECK_SANDBOX_MIN={floor}: set KECK_SANDBOX_MIN={only} as well to allow it"
        )
    try:
        standing = asyncio.run(climb(at_least=floor, only=only, env=env, devices=devices))
    except TooWeak as error:
        raise SettingError(str(error)) from error
    log = logger().warning if standing.level is Tier.X else logger().info
    log("containment", standing=standing.summary, failed=list(standing.failed))
    return isolation_of(standing)


def isolation_of(standing: Standing) -> Isolation:
    """As heartbeats carry it."""
    return msgspec.convert(dataclasses.asdict(standing), Isolation)


def verdict_facts(isolation: Isolation | None) -> dict[str, str | float | None]:
    """What a verdict's environment says of it."""
    if isolation is None:
        return {"sandbox": None, "sandbox_open": None}
    open_ = [f"{name}: {state}" for name, state in isolation.properties.items() if not state.startswith("ok")]
    return {"sandbox": isolation.level, "sandbox_open": "; ".join(open_)}
