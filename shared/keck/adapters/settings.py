"""Settings of an adapter, flat, as trainers' configurations and query strings give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Self

import msgspec

from keck.adapters.extraction import Which
from keck.adapters.rewards import RewardPolicy
from keck.errors import BadRequest
from keck.messages import Name, Options
from keck.patience import PATIENCE_S

__all__ = ["AdapterSettings", "JudgeSettings"]

_Seconds = Annotated[float, msgspec.Meta(gt=0, le=7 * 86_400)]


class JudgeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What concerns neither a check's options nor rewards."""

    url: str = ""
    """Of a gateway or a bus; empty: ``KECK_URL``, then ``KECK_NATS_URL``, then this machine's gateway."""
    run: Name = "default"
    kind: Name = "kernel"
    extract: Which = "last"
    """Which code block of an answer is the candidate: ``last``, ``first``, ``only``, ``all``."""
    deadline_s: _Seconds = 3600.0
    """Seconds for one check."""
    patience_s: _Seconds = PATIENCE_S
    """Seconds that Keck may be out of reach."""
    retries: Annotated[int, msgspec.Meta(ge=0, le=10)] = 2
    """Fresh checks after a verdict of ``infra_error``."""
    neutral: float | None = None
    """Where a trainer has no mask: the reward of a sample that could not be judged; None: raise instead."""


class AdapterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """All three kinds."""

    judge: JudgeSettings = JudgeSettings()
    options: Options = Options()
    rewards: RewardPolicy = RewardPolicy()

    @classmethod
    def of(cls, given: Mapping[str, Any], *, from_text: bool = False) -> Self:
        """Settings from one flat mapping: names of :class:`JudgeSettings`, :class:`RewardPolicy` and of a check's options.

        Args:
            given: what a configuration says; mappings and lists of other libraries are taken as what they are like.
            from_text: values are strings, as in a query.

        Raises:
            BadRequest: a name is none of them, or a value cannot be one.
        """
        parts: dict[str, dict[str, Any]] = {part: {} for part in _PARTS}
        for name, value in given.items():
            part = _PART_OF.get(name)
            if part is None:
                raise BadRequest(f"unknown setting {name!r}; known are {', '.join(_PART_OF)}")
            parts[part][name] = value
        try:
            return cls(
                judge=msgspec.convert(parts["judge"], JudgeSettings, strict=not from_text),
                options=msgspec.convert(parts["options"], Options, strict=not from_text),
                rewards=msgspec.convert(parts["rewards"], RewardPolicy, strict=not from_text),
            )
        except msgspec.ValidationError as error:
            raise BadRequest(f"settings: {error}") from error


_PARTS: Final[Mapping[str, type[msgspec.Struct]]] = {
    "judge": JudgeSettings,
    "options": Options,
    "rewards": RewardPolicy,
}
_PART_OF: Final = {name: part for part, kind in _PARTS.items() for name in kind.__struct_fields__}
