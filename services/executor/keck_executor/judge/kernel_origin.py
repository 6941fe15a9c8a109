"""Whose kernel it is, by its name, by the operator that launched it, and by what the candidate defines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from keck.messages import RanKernel, Reading
from keck_executor.runner.trace_lines import TraceLine

__all__ = ["origin_of", "ran_kernels"]

Origin = Literal["own", "triton", "library", "aten", "inductor", "unknown"]

_INDUCTOR = re.compile(r"triton_(?:poi|per|red|tem|mm|bmm|for|split_scan|helion|unk)_")
_ATEN = re.compile(
    r"\bat::(?:native|cuda|functorch)\b|\bat_cuda_detail::|\bc10::|\bpytorch_flash::|\bfmha_cutlass"
)
_TEMPLATES = re.compile(r"\b(?:cutlass|cub|thrust|cute|CUB_\w+)::")
"""Libraries of headers: their kernels are compiled by whoever includes them, vendors' libraries among them."""
_VENDORS = re.compile(
    r"""
      ^(?:cublas|cudnn|cusparse|cusolver|cufft|cutensor|nccl|nvjet|xmma|magma|cask)
    | ^(?:maxwell|volta|turing|ampere|ada|hopper|blackwell|sm[0-9]{2,3})_
    | ^(?:gemmk1|gemmSN|gemvNSP|gemv2[TN]|gemvx|splitKreduce|dot_kernel|reduce_1Block|implicit_convolve|winograd)
    | \bcutlass_[0-9_]+ | \bcublas(?:Lt)?:: | \bcudnn:: | \bcusparse:: | \bxmma | _cudnn_ | gemvx:: | nchwToNhwc | nhwcToNchw
    """,
    re.VERBOSE,
)
_COPIES = ("Memcpy", "Memset")


def ran_kernels(lines: Sequence[TraceLine], reading: Reading) -> list[RanKernel]:
    """A trace's kernels with their origins."""
    return [
        RanKernel(
            name=line.name,
            count=line.count,
            total_us=line.nanoseconds / 1e3,
            origin=origin_of(line.name, line.launched_by, reading),
            launched_by=line.launched_by,
        )
        for line in lines
    ]


def origin_of(name: str, launched_by: str, reading: Reading) -> Origin:
    """The origin of one kernel.

    A name alone makes no kernel the candidate's: one that an operator of torch's launched is torch's whatever it is
    called, and one that looks like a vendor's is so where the candidate's text calls a vendor.
    """
    name = name.removeprefix("void ")
    by_torch = launched_by.startswith("aten::")
    last = _last_name(name)
    vendors = _VENDORS.search(name) is not None
    theirs: Origin = "library" if reading.library_calls else "own"
    if not by_torch and not _ATEN.search(name):
        if last in reading.kernels:
            return theirs if vendors else "own"
        if last in reading.triton:
            return "triton"
    rest: tuple[tuple[bool, Origin], ...] = (
        (_INDUCTOR.match(name) is not None, "inductor"),
        (vendors, "library"),
        (by_torch or _ATEN.search(name) is not None, "aten"),
        (_TEMPLATES.search(name) is not None, theirs),
        # Nobody's that is known, beside calls of a vendor: a vendor's kernel of a name not seen before.
        (bool(reading.library_calls) and not name.startswith(_COPIES), "library"),
    )
    return next((origin for applies, origin in rest if applies), "unknown")


def _last_name(name: str) -> str:
    """``softmax`` of ``void space::softmax<float, 4>(float const*, int)``."""
    depth, kept = 0, []
    for letter in name.replace("(anonymous namespace)", "anonymous"):
        if letter == "(" and depth == 0:
            break
        depth += (letter == "<") - (letter == ">")
        if depth == 0 and letter != ">":
            kept.append(letter)
    return "".join(kept).strip().rpartition("::")[2].rpartition(" ")[2]
