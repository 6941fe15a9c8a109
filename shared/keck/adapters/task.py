"""The task of a sample: a reference, as data sets carry it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from keck.errors import BadRequest
from keck.messages import DECODING_ERRORS, Options

__all__ = ["Task", "task_of"]


class Task(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a candidate is judged against."""

    reference: str
    kind: str = ""
    """Empty: the adapter's."""
    options: dict[str, Any] = {}
    """Instead of the adapter's, one by one."""

    def options_over(self, general: Options) -> Options:
        """The adapter's options with this task's in their place.

        Raises:
            BadRequest: a name or a value is not one that exists.
        """
        unknown = sorted(set(self.options) - set(Options.__struct_fields__))
        if unknown:
            raise BadRequest(f"the task has unknown options: {', '.join(unknown)}")
        try:
            return msgspec.convert(msgspec.to_builtins(general) | self.options, Options)
        except msgspec.ValidationError as error:
            raise BadRequest(f"the task's options: {error}") from error


def task_of(label: object) -> Task:
    """The task in a data set's ground truth, label or answer.

    Args:
        label: the reference's source; or a mapping with `reference` and, if wanted, `kind` and `options`; or such a
            mapping as JSON, for data sets that hold nothing but text.

    Raises:
        BadRequest: it is none of these.
    """
    if isinstance(label, str):
        if not label.lstrip().startswith("{"):
            return _checked(Task(reference=label))
        try:
            return _checked(msgspec.json.decode(label, type=Task))
        except DECODING_ERRORS as error:
            raise BadRequest(f"the task is no reference's source and no JSON of one: {error}") from error
    if isinstance(label, Mapping):
        try:
            return _checked(msgspec.convert({**label}, Task))
        except msgspec.ValidationError as error:
            raise BadRequest(f"the task: {error}") from error
    raise BadRequest(
        f"the task is a {type(label).__name__}; give the reference's source, or a mapping with it"
    )


def _checked(task: Task) -> Task:
    if not task.reference.strip():
        raise BadRequest("the task has no reference")
    return task
