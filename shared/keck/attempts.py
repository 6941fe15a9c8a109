"""How often a message was *started*, which is less than how often it was delivered.

The server counts deliveries. A worker that shuts down hands back what it held, through no fault of the message,
so it notes that first; the next worker takes those deliveries off. Only handing back costs a write, and only a
redelivered message costs a read.
"""

from __future__ import annotations

import nats.errors
from nats.aio.msg import Msg

from keck.bus import Bus
from keck.errors import KeckError
from keck.logs import logger
from keck.streams import HANDED_BACK_BUCKET, MAX_ATTEMPTS, MAX_DELIVER

__all__ = ["attempt_of", "hand_back", "is_used_up"]


async def attempt_of(bus: Bus, message: Msg) -> int:
    """The number of this start, from 1."""
    delivered = message.metadata.num_delivered
    if delivered == 1:
        return 1
    return max(1, delivered - await _handed_back(bus, message))


def is_used_up(message: Msg, attempt: int) -> bool:
    """Whether this message must be given up instead of started: too many starts, or nearly out of deliveries."""
    return attempt > MAX_ATTEMPTS or message.metadata.num_delivered >= MAX_DELIVER - 1


async def hand_back(bus: Bus, message: Msg) -> None:
    """Give a message to another worker without it costing the message an attempt; never raises."""
    try:
        if bus.nc.is_connected:
            count = await _handed_back(bus, message) if message.metadata.num_delivered > 1 else 0
            await bus.js.publish(_key(message), str(count + 1).encode())
        await message.nak()
    except (KeckError, nats.errors.Error, TimeoutError) as error:
        # Not handed back, the server delivers it again after ack_wait; not noted, it costs one attempt.
        logger().warning("hand_back_failed", error=str(error))


async def _handed_back(bus: Bus, message: Msg) -> int:
    try:
        found = await bus.last_by_subject(f"KV_{HANDED_BACK_BUCKET}", _key(message))
        return int(found[1]) if found else 0
    except (KeckError, ValueError) as error:
        logger().warning("hand_backs_unknown", error=str(error))
        return 0


def _key(message: Msg) -> str:
    meta = message.metadata
    return f"$KV.{HANDED_BACK_BUCKET}.{meta.stream}.{meta.sequence.stream}"
