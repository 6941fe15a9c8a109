"""Loading and constructing what the user wrote."""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import random
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import torch

from keck_cell.extension_call import ExtensionCall
from keck_cell.patch import replace_builders

__all__ = [
    "MissingName",
    "draw_inputs",
    "float32_matmul",
    "load_module",
    "prebuilt_extensions",
    "seed_everything",
]


class MissingName(Exception):
    """The source does not define a name that it must."""


def load_module(path: str, name: str) -> ModuleType:
    """Import a source file under a name of its own; whatever it raises passes through."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Triton, dataclasses and pickle look a module up by its name.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def prebuilt_extensions(extensions: Mapping[str, tuple[str, str]], *, role: str) -> None:
    """Make ``load_inline`` and ``load`` return what the compiler built.

    Args:
        extensions: digest of the call to module name and path of the shared object.
        role: whose code runs here, for the message.
    """

    def provide(call: ExtensionCall) -> object:
        found = extensions.get(call.digest())
        if found is None:
            raise RuntimeError(
                f"the {role} asks for an extension {call.name!r} that was not seen at the build stage: call "
                "load_inline at import or in __init__, with arguments that do not change from run to run"
            )
        name, path = found
        if not call.is_python_module:
            torch.ops.load_library(path)  # type: ignore[no-untyped-call]
            return path
        loader = importlib.machinery.ExtensionFileLoader(name, path)
        spec = importlib.util.spec_from_loader(name, loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
        return module

    replace_builders(provide)


def seed_everything(seed: int) -> None:
    """Seed CPU, CUDA, numpy and `random` from one 64-bit number."""
    # Not torch.manual_seed: for every kind of device that was never used it notes the whole stack, each time.
    torch.default_generator.manual_seed(seed & (2**63 - 1))
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed & (2**63 - 1))
    random.seed(seed)
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)


def draw_inputs(module: ModuleType, device: torch.device, seed: int, *, law: str) -> tuple[object, bool]:
    """What the function `law` of the module returns under a seed, with the device as default around that call only.

    Returns:
        the inputs, and whether they were drawn on the device (else on the CPU, because there it failed).

    Raises:
        MissingName: the module has no such function.
    """
    draw = getattr(module, law, None)
    if draw is None:
        raise MissingName(f"`{law}` is not defined")
    seed_everything(seed)
    if device.type != "cpu":
        with contextlib.suppress(RuntimeError, TypeError, ValueError, AssertionError), device:
            return draw(), True
        seed_everything(seed)
    return draw(), device.type == "cpu"


@contextlib.contextmanager
def float32_matmul(mode: str) -> Iterator[None]:
    """``off``: no TF32, for expected values; ``stock``: whatever the process has."""
    if mode != "off":
        yield
        return
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn
