"""Structured messages out of what gcc, nvcc, ptxas and the linker print."""

from __future__ import annotations

from pathlib import Path

import pytest

from keck.messages import Diagnostic
from keck_compiler.build_log import capped, shortened
from keck_compiler.diagnostics import first_error, parse_diagnostics, parse_ptxas


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "main.cpp:7:12: error: 'foo' was not declared in this scope",
            Diagnostic(file="main.cpp", line=7, column=12, severity="error", text="'foo' was not declared in this scope"),
        ),
        (
            "main.cpp:1:10: fatal error: nope.h: No such file or directory",
            Diagnostic(file="main.cpp", line=1, column=10, severity="error", text="nope.h: No such file or directory"),
        ),
        (
            "torch/include/c10/util/Exception.h:9:1: warning: something [-Wodd]",
            Diagnostic(
                file="torch/include/c10/util/Exception.h", line=9, column=1, severity="warning", text="something [-Wodd]"
            ),
        ),
        (
            'cuda.cu(12): error: identifier "blockIdz" is undefined',
            Diagnostic(file="cuda.cu", line=12, column=0, severity="error", text='identifier "blockIdz" is undefined'),
        ),
        (
            'cuda.cu(3): warning #177-D: variable "x" was declared but never referenced',
            Diagnostic(
                file="cuda.cu", line=3, column=0, severity="warning",
                text='variable "x" was declared but never referenced',
            ),
        ),
        (
            "cuda.cu(1): catastrophic error: cannot open source file",
            Diagnostic(file="cuda.cu", line=1, column=0, severity="error", text="cannot open source file"),
        ),
        (
            "ptxas error   : Entry function 'k' uses too much shared data (0x20000 bytes, 0xc000 max)",
            Diagnostic(
                file="", line=0, column=0, severity="error",
                text="Entry function 'k' uses too much shared data (0x20000 bytes, 0xc000 max)",
            ),
        ),
        (
            "ptxas cuda.ptx, line 31; error   : Arguments mismatch for instruction 'mov'",
            Diagnostic(
                file="cuda.ptx", line=31, column=0, severity="error", text="Arguments mismatch for instruction 'mov'"
            ),
        ),
        (
            "nvcc fatal   : Unsupported gpu architecture 'compute_10'",
            Diagnostic(file="", line=0, column=0, severity="error", text="Unsupported gpu architecture 'compute_10'"),
        ),
        (
            "/usr/bin/ld: cannot find -lnowhere: No such file or directory",
            Diagnostic(
                file="", line=0, column=0, severity="error", text="cannot find -lnowhere: No such file or directory"
            ),
        ),
        (
            "/usr/bin/ld: b.o:b.cpp:(.text+0x0): multiple definition of `twice()'; a.o:a.cpp:(.text+0x0): first defined here",
            Diagnostic(
                file="b.cpp", line=0, column=0, severity="error",
                text="multiple definition of `twice()'; a.o:a.cpp:(.text+0x0): first defined here",
            ),
        ),
    ],
)  # fmt: skip
def test_a_line_becomes_a_diagnostic(line: str, expected: Diagnostic) -> None:
    assert parse_diagnostics(f"[1/2] c++ -o main.o\n{line}\nninja: build stopped\n") == [expected]


@pytest.mark.parametrize(
    "line",
    [
        "[1/3] c++ -MMD -MF main.o.d -DTORCH_EXTENSION_NAME=m -c main.cpp -o main.o",
        "FAILED: main.o",
        "main.cpp: In function 'int f()':",
        "    7 |   return foo;",
        "/usr/bin/ld: main.o: in function `f()':",
        "collect2: error: ld returned 1 exit status",
        "ninja: build stopped: subcommand failed.",
        "1 error detected in the compilation of \"cuda.cu\".",
    ],
)  # fmt: skip
def test_other_lines_are_no_diagnostics(line: str) -> None:
    assert parse_diagnostics(line) == []


def test_repetitions_count_once_and_errors_are_kept_before_warnings() -> None:
    warnings = [f"a.cpp:{n}:1: warning: w{n}" for n in range(300)]
    log = "\n".join([*warnings, *warnings, "a.cpp:999:1: error: the one"])
    found = parse_diagnostics(log)
    assert len(found) == 100
    assert first_error(found) == "a.cpp:999: the one"


def test_ptxas_facts_are_read_where_the_candidate_asks_for_them() -> None:
    log = (
        "ptxas info    : 0 bytes gmem\n"
        "ptxas info    : Compiling entry function '_Z4relu' for 'sm_90'\n"
        "ptxas info    : Function properties for _Z4relu\n"
        "    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads\n"
        "ptxas info    : Used 32 registers, used 1 barriers, 4096 bytes smem, 376 bytes cmem[0]\n"
    )
    (facts,) = parse_ptxas(log)
    assert (facts.kernel, facts.arch, facts.registers, facts.shared_bytes) == ("_Z4relu", "sm_90", 32, 4096)
    assert (facts.spill_store_bytes, facts.spill_load_bytes) == (4, 12)


def test_logs_name_files_and_not_this_machine() -> None:
    log = (
        "/scratch/keck-build-1/work/main.cpp:3:1: error: x\n"
        "/scratch/keck-build-1/src/sub/a.h:1:1: error: y\n"
        "c++ -I/opt/env/lib/python3.11/site-packages/torch/include -c /scratch/keck-build-1/work/main.cpp\n"
        "/opt/cuda/include/cuda_runtime.h(9): warning: z\n"
    )
    short = shortened(log, directory=Path("/scratch/keck-build-1"), cuda_home=Path("/opt/cuda"))
    assert short.splitlines() == [
        "main.cpp:3:1: error: x",
        "sub/a.h:1:1: error: y",
        "c++ -Itorch/include -c main.cpp",
        "cuda/include/cuda_runtime.h(9): warning: z",
    ]


def test_a_long_log_keeps_head_and_tail() -> None:
    cut = capped("a" * 100_000 + "z" * 100_000, 1_000)
    assert len(cut.encode()) <= 1_000
    assert cut.startswith("aaa")
    assert cut.endswith("zzz")


def test_the_linkers_advice_is_no_error() -> None:
    log = (
        "/usr/bin/ld: warning: a.o: missing .note.GNU-stack section implies executable stack\n"
        "/usr/bin/ld: NOTE: This behaviour is deprecated and will be removed in a future version of the linker\n"
    )
    assert parse_diagnostics(log) == []
