"""What the judge needs of a device, and the two devices there are.

A :class:`Device` hands out arenas (memory the judge owns and a runner can be given), opens results that lie in
a runner's own memory, and knows whether calls can be enqueued ahead in bursts. Everything else in the judge is
the same on both.
"""

from __future__ import annotations

from keck_executor.devices._device import Arena, Device
from keck_executor.devices.select import open_device

__all__ = ["Arena", "Device", "open_device"]
