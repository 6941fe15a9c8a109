"""``GET /healthz``, in the original's words."""

from __future__ import annotations

from collections.abc import Sequence

from litestar import Response, get
from litestar.openapi.datastructures import ResponseSpec

from keck.messages import Heartbeat
from keck_gateway.bodies import Health, Resources
from keck_gateway.routes._answers import TheDesk, json_response

__all__ = ["health_of", "healthz"]


@get(
    "/healthz",
    summary="Health",
    operation_id="health",
    tags=["fleet"],
    responses={
        200: ResponseSpec(Health, description="What lives and what is free.", generate_examples=False)
    },
)
async def healthz(desk: TheDesk) -> Response[bytes]:
    """Whether the bus is connected, and the fleet's resources. Needs no token."""
    workers = desk.fleet.live()
    return json_response(health_of(workers, connected=desk.bus.nc.is_connected))


def health_of(workers: Sequence[Heartbeat], *, connected: bool) -> Health:
    """The fleet's resources: CPU cores of compilers, and CUDA executors that take work."""
    compilers = [worker for worker in workers if worker.role == "compiler"]
    cuda = [
        worker
        for worker in workers
        if worker.role == "executor" and worker.target.startswith("sm") and worker.state == "ready"
    ]
    return Health(
        nats_connected=connected,
        ray_initialized=connected,
        cluster_resources=Resources(CPU=sum(worker.cpus for worker in compilers), GPU=len(cuda)),
        available_resources=Resources(
            CPU=sum(map(_free_cpus, compilers)), GPU=sum(worker.busy == 0 for worker in cuda)
        ),
        isolation={worker.worker: worker.isolation.level for worker in workers if worker.isolation},
    )


def _free_cpus(compiler: Heartbeat) -> int:
    free_slots = max(0, compiler.slots - compiler.busy)
    return compiler.cpus * free_slots // max(1, compiler.slots)
