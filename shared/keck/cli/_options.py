"""Options that several commands have, said once."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

__all__ = [
    "Arch",
    "CompileTimeout",
    "CorrectnessSets",
    "Deadline",
    "Device",
    "ExecTimeout",
    "Gpu",
    "Json",
    "Kind",
    "Policy",
    "TimedCalls",
    "Tolerance",
    "Url",
]

Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to run it.")]
Kind = Annotated[str, typer.Option(help="kernel, or torch for one PyTorch module against another.")]
Tolerance = Annotated[
    Literal["keck", "kernelbench"],
    typer.Option(help="keck: 1e-2 for all; kernelbench: fp32 1e-4, fp16 and bf16 1e-2."),
]
Policy = Annotated[
    Literal["library-allowed", "custom-only"],
    typer.Option(help="custom-only: the candidate's own kernels must do the work."),
]
Arch = Annotated[str, typer.Option(help='TORCH_CUDA_ARCH_LIST of the build, such as "9.0".')]
Gpu = Annotated[str, typer.Option(help="Model of GPU to run on, such as H200; empty: any.")]
TimedCalls = Annotated[int, typer.Option(help="Timed calls a side; 0: correctness only.")]
CorrectnessSets = Annotated[int, typer.Option(help="Secret input sets compared before timing.")]
CompileTimeout = Annotated[
    float | None,
    typer.Option(help="Seconds for one build. [default, and most: the compiler's COMPILE_TIMEOUT]"),
]
ExecTimeout = Annotated[
    float | None,
    typer.Option(
        help="Seconds of the candidate's own time. [default, and most: the executor's EXEC_TIMEOUT]"
    ),
]
Deadline = Annotated[float, typer.Option(help="Seconds after which nobody wants the verdict.")]
Url = Annotated[
    str,
    typer.Option(
        help="A gateway (http://…) or a bus (nats://…); default KECK_URL, then KECK_NATS_URL, "
        "else a private system is started."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="The verdict as one line of JSON.")]
