"""What may enter: ids that mean one thing, a queue with room, and somebody alive to do the work."""

from __future__ import annotations

import re

from keck import subjects
from keck.bus import Bus
from keck.errors import QueueFull, Unavailable
from keck.fleet import Fleet
from keck.messages import CheckRequested, Lane
from keck.targets import CPU, gpu_model, model_target
from keck_gateway.lookup import Lookup, fingerprint_of
from keck_gateway.problems import Conflict

__all__ = ["Admission", "target_wanted"]

_CUDA_SOURCES = re.compile(r"""\bcuda_sources\s*=(?!\s*(?:\[\s*\]|\(\s*\)|None\b|""(?!")|''(?!')))""")
"""CUDA sources that are not plainly empty."""
# Not `\s*`: each of many blank lines would begin another search to the end of them.
_TRITON = re.compile(r"^[^\S\n]*(?:import|from)[^\S\n]+triton\b", re.MULTILINE)
_ONE_ARCH = re.compile(r"(\d+)\.(\d)[af]?")
_ROOM_FOR = 50
_RETRY_AFTER_S = 5.0
_LONGEST_RETRY_S = 60.0
_EXECUTOR_OF = {CPU: "CPU executor", subjects.CUDA_ANY: "CUDA executor"}


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
        target = target_wanted(request)
        if target is None:
            if any(worker.state == "ready" for worker in self._fleet.executors()):
                return
            needed = "executor"
        else:
            if self._fleet.has_target(target):
                return
            needed = _EXECUTOR_OF.get(target, f"CUDA executor that serves {target}")
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
        try:
            await self._bus.publish(
                subjects.check_requested(request.lane, request.run, request.check_id),
                request,
                msg_id=subjects.request_id(subjects.CheckKey.of(request)),
            )
        except QueueFull as error:
            raise QueueFull(
                "the queue is full: as many checks wait as may, and nothing was stored",
                retry_after_s=await self._room_in_s(request.lane),
            ) from error
        if id_is_callers:
            # Two callers may have sent different content under one id at once; one of them was dropped.
            await self.is_known(request)

    async def _room_in_s(self, lane: Lane) -> float:
        """When asking again makes sense: once some of the queue has been served, for others ask as well."""
        seconds = await self._lookup.front.seconds_for(
            subjects.CHECKS, subjects.compile_consumer(lane), _ROOM_FOR
        )
        return _RETRY_AFTER_S if seconds is None else min(_LONGEST_RETRY_S, seconds)

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


def target_wanted(request: CheckRequested) -> str | None:
    """The executors a check needs, as the compilers will name them; None where any will do."""
    has_cuda_sources = _CUDA_SOURCES.search(request.candidate) is not None
    if request.options.device == "cpu":
        return CPU
    if request.options.gpu:
        return model_target(gpu_model(request.options.gpu))
    arch = _ONE_ARCH.fullmatch(request.options.arch.strip())
    if arch and has_cuda_sources:
        return f"sm{arch[1]}{arch[2]}"
    if request.options.device == "cuda" or has_cuda_sources or _TRITON.search(request.candidate):
        return subjects.CUDA_ANY
    return None
