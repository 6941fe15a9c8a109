"""Whether a service that was started is there: by its heartbeat, and the gateway by its answer."""

from __future__ import annotations

import httpx

from keck.embedded._process import ChildProcess
from keck.errors import Unavailable
from keck.fleet import Fleet
from keck.messages import Heartbeat

__all__ = ["gateway_answers", "url_of", "worker_of"]


def worker_of(service: ChildProcess, fleet: Fleet) -> Heartbeat | None:
    """This service's heartbeat; not that of a namesake of an earlier system in the same directory."""
    return next((worker for worker in fleet.live() if worker.pid == service.pid), None)


def url_of(gateway: ChildProcess, fleet: Fleet) -> str:
    """Where the gateway listens, as its heartbeat says.

    Raises:
        Unavailable: the heartbeat does not say.
    """
    worker = worker_of(gateway, fleet)
    url = worker.facts.get("url") if worker is not None else None
    if not isinstance(url, str):
        raise Unavailable(f"the gateway reports no url; its log is {gateway.log}")
    return url


async def gateway_answers(url: str) -> bool:
    """Whether ``/healthz`` answers 200."""
    try:
        # Whatever names its certificate has: this asks our own child, and says nothing to it.
        async with httpx.AsyncClient(timeout=5.0, trust_env=False, verify=False) as client:
            return (await client.get(f"{url}/healthz")).is_success
    except httpx.TransportError:
        return False
