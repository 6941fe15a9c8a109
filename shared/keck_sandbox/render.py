"""A policy, as this host can enforce it: the one place that knows what each tier consists of."""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from keck_sandbox.environment import PLACES, cell_environment, import_paths
from keck_sandbox.inside import landlock
from keck_sandbox.inside.linux import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
)
from keck_sandbox.inside.seccomp import compile_filter
from keck_sandbox.inside.spec import Files, Spec
from keck_sandbox.policy import Policy
from keck_sandbox.tier import Tier
from keck_sandbox.users import lease_user

__all__ = ["render"]

_WITHOUT_PROCESSES = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWCGROUP
_SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/alternatives", "/etc/ld.so.cache",
    "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/sys/devices/system",
)  # fmt: skip
# libcuda looks its card up there, and gives up where it is not.
_GPU_SYSTEM = ("/sys/bus/pci", "/sys/class", "/sys/devices", "/sys/module", "/etc/OpenCL", "/etc/vulkan")


def render(policy: Policy, tier: Tier) -> Spec:
    """What a cell of this policy consists of on this tier; its directories are made.

    Raises:
        OSError: a directory cannot be made, or there is no user left for the cell.
    """
    root = os.getuid() == 0
    _make_directories(policy)
    foreign = policy.trust == "none"
    contained = tier is not Tier.X and policy.trust != "zygote"
    namespaces = _namespaces(tier, foreign=foreign, root=root) if contained else 0
    uid = None
    if contained and root and tier is not Tier.C:
        uid = lease_user(shared=policy.shares_user)
        _open_way(policy.directory, whole=not namespaces)
    bare_processes = not namespaces & CLONE_NEWPID
    scopes = landlock.abi() >= landlock.ABI_SCOPES
    return Spec(
        namespaces=namespaces,
        files=_files(policy),
        fresh_proc=bool(namespaces & CLONE_NEWPID),
        uid=uid,
        confined=policy.trust != "zygote",
        landlock=contained and foreign and landlock.abi() > 0,
        seccomp=_filter(
            gpu=bool(policy.devices),
            same_session=bare_processes,
            same_user=not namespaces,
            truncate=not namespaces and landlock.abi() < landlock.ABI_TRUNCATE,
        )
        if contained and foreign
        else "",
        lock_signals=bare_processes and not scopes,
        # With processes of its own to itself, a cell may look into itself; libcuda does.
        dumpable=not bare_processes,
        limits=_limits(policy),
        env=cell_environment(policy.work, policy.env),
    )


def _namespaces(tier: Tier, *, foreign: bool, root: bool) -> int:
    if not tier.has_namespaces:
        return 0
    flags = _WITHOUT_PROCESSES if root else _WITHOUT_PROCESSES | CLONE_NEWUSER
    return flags | CLONE_NEWPID if foreign and tier is Tier.A else flags


@functools.cache
def _filter(*, gpu: bool, same_session: bool, same_user: bool, truncate: bool) -> str:
    program = compile_filter(
        sockets="driver" if gpu else "none", same_session=same_session, same_user=same_user, truncate=truncate
    )
    return program.hex()


def _make_directories(policy: Policy) -> None:
    # "root" is where a mount namespace puts its root together.
    for place in (policy.directory, policy.directory / "root", policy.work):
        place.mkdir(parents=True, exist_ok=True)


def _open_way(directory: Path, *, whole: bool) -> None:
    """Let another user read the cell's directory, and, where it has no root of its own, come there."""
    directory.chmod(0o755)
    base = Path(tempfile.gettempdir()).resolve()
    if whole and base in directory.parents:
        for parent in directory.parents:
            if parent == base:
                return
            parent.chmod(parent.stat().st_mode | 0o011)


def _files(policy: Policy) -> Files:
    system = _SYSTEM + (_GPU_SYSTEM if policy.devices else ())
    return Files(
        read=(*system, *_outermost((*_interpreter(), *(str(path.resolve()) for path in policy.readable)))),
        devices=tuple(map(str, policy.devices)),
        directory=str(policy.directory),
        work=str(policy.work),
        places=PLACES,
        work_bytes=policy.work_bytes,
        work_inodes=policy.work_inodes,
        shm_bytes=policy.shm_bytes,
    )


@functools.cache
def _interpreter() -> tuple[str, ...]:
    """Where Python, what it imports, and the operator's libraries lie."""
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    toolkit = [os.environ[name] for name in ("CUDA_HOME",) if os.environ.get(name)]
    return (sys.prefix, sys.base_prefix, *import_paths(), *filter(os.path.isdir, libraries), *toolkit)


def _outermost(paths: Iterable[str]) -> list[str]:
    """Paths that lie in no other, and not in the system's, which are there anyway; never the root itself."""
    kept: list[Path] = []
    for path in sorted(
        {Path(each) for each in paths if os.path.isabs(each)}, key=lambda each: len(each.parts)
    ):
        covered = any(path == other or other in path.parents for other in (*kept, Path("/usr")))
        if not covered and len(path.parts) > 1:
            kept.append(path)
    return [str(path) for path in kept]


def _limits(policy: Policy) -> dict[str, int]:
    wanted = {
        "RLIMIT_CORE": 0,
        "RLIMIT_NOFILE": policy.open_files,
        "RLIMIT_AS": policy.address_space_bytes,
        "RLIMIT_DATA": policy.data_bytes,
        "RLIMIT_FSIZE": policy.file_bytes,
        "RLIMIT_NPROC": policy.processes if policy.trust == "none" else None,
        "RLIMIT_CPU": policy.cpu_s,
        "RLIMIT_MSGQUEUE": 0,
        "RLIMIT_RTPRIO": 0,
    }
    return {name: value for name, value in wanted.items() if value is not None}
