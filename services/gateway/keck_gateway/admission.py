"""What may enter: ids that mean one thing, a queue with room, and somebody alive to do the work."""

from __future__ import annotations

import re

from keck import subjects
from keck.bus import Bus
from keck.errors import Unavailable
from keck.fleet import Fleet
from keck.messages import CheckRequested
from keck_gateway.lookup import Lookup, fingerprint_of
from keck_gateway.problems import Conflict

__all__ = ["Admission", "device_wanted"]

_CUDA_IN_SOURCE = re.compile(
    r"""\bcuda_sources\s*=(?!\s*(?:\[\s*\]|\(\s*\)|None\b|""(?!")|''(?!')))|^\s*(?:import|from)\s+triton\b""",
    re.MULTILINE,
)
"""CUDA sources that are not plainly empty, or Triton: such a candidate is nothing for the CPU device."""


class Admission:
    """Puts checks on the bus."""

    def __init__(self, bus: Bus, *, lookup: Lookup, fleet: Fleet) -> None:
        self._bus = bus
        self._lookup = lookup
        self._fleet = fleet

    def require_executor(self, request: CheckRequested) -> None:
        """For a caller that waits.

        Raises:
            Unavailable: nobody alive could judge this.
        """
        match device_wanted(request):
            case "cuda" if not self._fleet.has_target(subjects.CUDA_ANY):
                needed = "CUDA executor"
            case "cpu" if not self._fleet.has_target("cpu"):
                needed = "CPU executor"
            case "any" if not any(worker.state == "ready" for worker in self._fleet.executors()):
                needed = "executor"
            case _:
                return
        raise Unavailable(
            f"no live {needed}: start one (`keck up`, `keck-executor`), or submit without waiting "
            "(POST /v1/checks), which queues the check until there is one"
        )

    async def admit(self, request: CheckRequested, *, id_is_callers: bool) -> None:
        """Store the request; the same id with the same content again is the same check.

        Raises:
            Conflict: the id is in use for other content.
            QueueFull: nothing was stored.
            Unavailable: the bus does not answer.
        """
        if id_is_callers and await self.is_known(request):
            return
        # The server drops a second message of this id, whoever of gateways and clients sends it.
        await self._bus.publish(
            subjects.check_requested(request.lane, request.run, request.check_id),
            request,
            msg_id=f"{request.run}.{request.check_id}.{request.generation}.check.requested",
        )
        if id_is_callers:
            # Two callers may have sent different content under one id at once; one of them was dropped.
            await self.is_known(request)

    async def is_known(self, request: CheckRequested) -> bool:
        """Whether this very check is on the bus or judged already.

        Raises:
            Conflict: another check has its id.
        """
        known = await self._lookup.fingerprint(request.run, request.check_id)
        if known is None:
            return False
        if not known.fits(fingerprint_of(request)):
            raise Conflict(
                f"the id {request.check_id} in run {request.run} is in use for another candidate, reference, kind "
                "or options: send a fresh id, or none"
            )
        return True


def device_wanted(request: CheckRequested) -> str:
    """What kind of executor a check needs: ``cuda``, ``cpu`` or ``any``."""
    if request.options.device != "auto":
        return request.options.device
    return "cuda" if _CUDA_IN_SOURCE.search(request.candidate) else "any"
