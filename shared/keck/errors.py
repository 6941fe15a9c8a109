"""Keck's own failures. What a *candidate* does wrong is never one of these: it is a verdict.

The tree::

    KeckError
    ├── BadRequest           the caller sent something that can never work; says what to change
    │   └── Misaddressed     a valid event on another check's subject
    ├── QueueFull            back-pressure: the bus holds as much as it may; try again later
    ├── NotFound             no such check
    ├── Unavailable          bus or service out of reach, or no worker of the needed kind
    │   └── NotPermitted     the bus answers, but refuses this to the user we are
    ├── DeadlineExceeded     the caller's own waiting time is over; the check goes on
    ├── NotJudged            an adapter has no verdict on a sample, and its trainer no way to leave it out
    ├── SettingError         an environment variable that cannot be read
    ├── ArtifactMissing      a build that should be in the store is not
    ├── ArtifactCorrupt      bytes that do not match their hash
    └── Disposition          raised by a message handler: decides what becomes of the message
        ├── Retry            hand it back, to be delivered again after a delay
        └── Reject           it can never succeed: dead letter
"""

from __future__ import annotations

__all__ = [
    "ArtifactCorrupt",
    "ArtifactMissing",
    "BadRequest",
    "DeadlineExceeded",
    "Disposition",
    "KeckError",
    "Misaddressed",
    "NotFound",
    "NotJudged",
    "NotPermitted",
    "QueueFull",
    "Reject",
    "Retry",
    "SettingError",
    "Unavailable",
]


class KeckError(Exception):
    """Root of everything Keck raises on its own account."""


class BadRequest(KeckError):
    """The request can never succeed as it stands."""


class Misaddressed(BadRequest):
    """A valid event on another check's subject."""


class QueueFull(KeckError):
    """The queue is at its limit; nothing was stored.

    Args:
        retry_after_s: when asking again makes sense, in seconds.
    """

    def __init__(self, message: str = "the queue is full", *, retry_after_s: float = 5.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotFound(KeckError):
    """No check with this run and id is known."""


class Unavailable(KeckError):
    """The bus, the gateway, or a worker of the needed kind cannot be reached."""


class NotPermitted(Unavailable):
    """The NATS server refuses a subject to this user."""


class DeadlineExceeded(KeckError):
    """The caller stopped waiting; the check itself may still finish."""


class NotJudged(KeckError):
    """A sample could not be judged for reasons that are not the model's."""


class SettingError(KeckError):
    """An environment variable holds a value that cannot be used."""


class ArtifactMissing(KeckError):
    """The object store has no object of this name."""


class ArtifactCorrupt(KeckError):
    """The bytes read do not hash to the name they were stored under."""


class Disposition(KeckError):
    """What a handler raises to decide the fate of the message in hand."""


class Retry(Disposition):
    """Deliver the message again after `delay_s` seconds; `reason` is what the final verdict would say."""

    def __init__(self, reason: str, *, delay_s: float = 1.0, failure_kind: str = "worker_lost") -> None:
        super().__init__(reason)
        self.delay_s = delay_s
        self.failure_kind = failure_kind


class Reject(Disposition):
    """The message can never be handled: store it as a dead letter and go on."""
