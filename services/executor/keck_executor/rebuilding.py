"""A build whose artifacts are lost goes back to be compiled, once."""

from __future__ import annotations

from keck import subjects
from keck.bus import Bus
from keck.errors import QueueFull, Retry
from keck.logs import logger
from keck.messages import CheckRequested, CompileDone, decode, progress_of
from keck.subjects import CheckKey

__all__ = ["BuildLost", "Rebuilding"]

_DELAY_S = 2.0


class BuildLost(Exception):
    """What was built for a check is not in the store, or is not what it should be."""


class Rebuilding:
    """Sends checks back to the compilers."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def send_back(self, event: CompileDone, why: BuildLost) -> None:
        """Queue the check's request again; on return the build may be acknowledged.

        Raises:
            Retry: it was sent back before, or its request is not known any more.
        """
        request = None if event.rebuilds else await self._request(event)
        if request is None:
            raise Retry(str(why), delay_s=_DELAY_S, failure_kind="artifact_missing")
        key = CheckKey.of(request)
        try:
            await self._bus.publish(
                subjects.check_requested(request.lane, request.run, request.check_id),
                request,
                msg_id=subjects.request_id(key, rebuilds=request.rebuilds),
            )
        except QueueFull as error:
            raise Retry(f"{why}; {error}", delay_s=_DELAY_S, failure_kind="artifact_missing") from error
        logger().warning("build_lost", reason=str(why))
        await self._bus.publish_progress(
            progress_of(event, "queued", "what was built is gone: it is built once more")
        )

    async def _request(self, event: CompileDone) -> CheckRequested | None:
        """The request that led to a build; the sources come with the build, unless they were too large for it."""
        candidate, reference = event.candidate.text, event.reference.text
        if candidate is None or reference is None:
            subject = subjects.check_requested("*", event.run, event.check_id)
            found = await self._bus.last_by_subject(subjects.HISTORY, subject)
            if found is None:
                return None
            request = decode(found[1], CheckRequested)
            candidate, reference = request.candidate, request.reference
        return CheckRequested(
            check_id=event.check_id,
            run=event.run,
            generation=event.generation,
            lane=event.lane,
            kind=event.kind,
            candidate=candidate,
            reference=reference,
            options=event.options,
            deadline=event.deadline,
            submitted_at=event.submitted_at,
            rebuilds=event.rebuilds + 1,
        )
