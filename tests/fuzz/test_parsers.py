"""What reads text and bytes from a candidate's process: only the documented errors, bounded results, linear time."""

from __future__ import annotations

import ast
import contextlib
import gc
import json
import os
import struct
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st

from keck.flag_codes import CODES
from keck.kinds import KINDS
from keck.messages import MAX_LOG_BYTES, MAX_SOURCE_BYTES, Heartbeat, Options, Reading
from keck_cell import ExtensionCall, ExtensionCallError, call_from_load_inline
from keck_cell.headers import local_headers
from keck_cell.signature import call_from_load
from keck_compiler import recorder
from keck_compiler.build_log import capped, shortened
from keck_compiler.diagnostics import first_error, parse_diagnostics, parse_ptxas
from keck_compiler.flags import refused_flag
from keck_compiler.reading.texts import ReadExtension, ReadFindings, answer
from keck_compiler.scan import builder_sites, may_build, missed_sites
from keck_compiler.target import capability, choose_arch, choose_target, expects_cuda
from keck_executor.judge.kernel_origin import ran_kernels
from keck_executor.runner.trace_lines import MAX_LINES, pack_trace, unpack_trace
from keck_executor.runner.tree import Unsupported, flatten, nodes_from_json, nodes_to_json, rebuild
from keck_executor.runner.wire import (
    DTYPES,
    MAX_DATAGRAM,
    MAX_DIMS,
    MAX_ELEMENTS,
    MAX_NODES,
    MAX_TENSORS,
    MAX_TEXT,
    Node,
    NodeKind,
    ProtocolError,
    Reply,
    Status,
    TensorRecord,
    pack_reply,
    unpack_reply,
)
from keck_gateway.admission import target_wanted
from keck_sandbox.capped_log import CappedLog
from keck_sandbox.collect import CellFileError, read_file

MESSAGE_BYTES = 1 << 20
"""What one message on the bus takes: a verdict with all it quotes must fit."""


def assert_fits_the_bus(*values: Any, limit_bytes: int = MESSAGE_BYTES) -> None:
    assert len(msgspec.msgpack.encode(values)) <= limit_bytes


def assert_one_line_for_people(text: str) -> None:
    assert len(text) <= 2_000, f"{len(text)} characters"
    text.encode()


# --- Time: each parser on an atom of its own grammar, repeated until the input is as large as it may be.


def repeated(*tokens: str) -> st.SearchStrategy[tuple[str, str, str]]:
    """A head, an atom to repeat, a tail, made of a grammar's own words."""
    few = st.lists(st.sampled_from(tokens), max_size=4).map("".join)
    return st.tuples(few, st.lists(st.sampled_from(tokens), min_size=1, max_size=4).map("".join), few)


def in_linear_time(parse: Callable[[str], object], size: int) -> Callable[[tuple[str, str, str]], None]:
    """A check that `parse` takes eight times as long for eight times as much, and not sixty-four."""

    def timed(drawn: tuple[str, str, str], size: int) -> float:
        head, atom, tail = drawn
        text = head + atom * (size // max(1, len(atom.encode("utf-8", "surrogatepass")))) + tail
        # A collection looks at all that the tests hold, which is not the parser's doing.
        gc.disable()
        try:
            began = time.process_time()
            parse(text)
            return time.process_time() - began
        finally:
            gc.enable()

    def check(drawn: tuple[str, str, str]) -> None:
        # Too little to be measured is fast enough; then `within` is what fails.
        whole_s = timed(drawn, size)
        if whole_s < 0.5 or (whole_s := min(whole_s, timed(drawn, size))) < 0.5:
            return
        part_s = min(timed(drawn, size // 8) for _ in range(3))
        assert whole_s < 24 * max(part_s, 0.005), (
            f"{part_s:.3f} s for {size // 8}, {whole_s:.3f} s for {size}"
        )

    return check


# --- Compiler output

LOG_TOKENS = (
    "main.cpp", "/", "a", "ld", "ld.", "ld.bfd", "collect2", "g++", "nvcc", "ptxas", "ptxas info", "nvlink", ":", ": ", "(",
    ")", "(3)", "7", "99999", "9" * 30, "9" * 5_000, "٣", " ", "\t", "  ", "\n", "\r", "\x0b", "\u2028", "error", "fatal error",
    "error: ", "warning: ", "note: ", "fatal", "catastrophic error", "remark", " #20-D", ", line ", "; ",
    "undefined reference to ", "multiple definition of ", "`f'", "'", "Compiling entry function '", "' for '", "sm_90'",
    "Used ", " registers", " bytes smem", " bytes spill stores, ", " bytes spill loads", "ld returned ", " exit status",
    "/usr/lib/python3/dist-packages/", "site-packages/", "dist-packages/", "tmpxft_", "0f_", "-1_", "/build/dir/", "work/",
    "\x1b[", "\x1b", "0;1m", "m", "é", "\ud800", "\0",
)  # fmt: skip
LOGS = st.lists(st.sampled_from(LOG_TOKENS) | st.text(max_size=6), max_size=40).map("".join)
KNOWN_LOGS = [
    # A line number of more digits than Python turns into an int: ValueError, and the check was tried again
    # until it was given up as our failure.
    "main.cpp:" + "9" * 5_000 + ":1: error: x",
    "main.cpp(" + "9" * 5_000 + "): error: x",
    "ptxas a.ptx, line " + "9" * 5_000 + "; error : x",
    # One that no event can carry: OverflowError when the verdict was sent.
    "main.cpp:" + "9" * 30 + ":1: error: x",
    "main.cpp:1:" + "9" * 30 + ": error: x",
    *(
        f"ptxas info : Compiling entry function 'k' for 'sm_90'\n{line}"
        for line in (
            "9" * 30 + " bytes spill stores, 1 bytes spill loads\nptxas info : Used 1 registers",
            "ptxas info : Used " + "9" * 30 + " registers",
            "ptxas info : Used " + "9" * 5_000 + " registers",
            "ptxas info : Used 1 registers, " + "9" * 30 + " bytes smem",
        )
    ),
]


def _read_log(log: str) -> None:
    found = parse_diagnostics(log)
    facts = parse_ptxas(log)
    assert len(found) <= 100
    assert len(facts) <= 100
    text = log.encode("utf-8", "replace").decode()
    if text == log:  # as every log that a process printed is
        assert_fits_the_bus(found, facts)
        assert_one_line_for_people(first_error(found))


def test_any_log_gives_bounded_diagnostics(fuzz):
    fuzz(LOGS, _read_log, known=KNOWN_LOGS)


@pytest.mark.fuzz(share=2)
def test_diagnostics_are_found_in_linear_time(fuzz):
    def parse(log: str) -> None:
        parse_diagnostics(log)
        parse_ptxas(log)

    fuzz(
        repeated(*LOG_TOKENS),
        in_linear_time(parse, MAX_LOG_BYTES),
        # A log of digits: each was the start of another search for ` bytes smem` or ` bytes spill stores`, 22 s in all.
        known=[
            ("", "7", ""),
            ("ptxas info : Used 1 registers", "7", ""),
            ("", "a:b:(", ""),
            ("", "9" * 5_000, ""),
        ],
        cpu_s=4.0,
    )


def test_any_build_log_is_shortened_and_capped(fuzz):
    def check(log: str) -> None:
        short = shortened(log, directory=Path("/build/dir"), cuda_home=Path("/usr/local/cuda"))
        for limit in (64, 1_000, MAX_LOG_BYTES):
            assert len(capped(short, limit).encode("utf-8", "replace")) <= limit

    fuzz(LOGS | LOGS.map(lambda log: log * 50), check)


@pytest.mark.fuzz(share=2)
def test_build_logs_are_shortened_in_linear_time(fuzz):
    def parse(log: str) -> None:
        shortened(log, directory=Path("/build/dir"), cuda_home=Path("/usr/local/cuda"))
        capped(log)

    # A log of slashes: each was the start of another search for `/site-packages/`, 29 s in all.
    known = [("", "/", ""), ("", "/a", " "), ("", "/site-packages", "/"), ("", "/dist-packages/", "")]
    fuzz(repeated(*LOG_TOKENS), in_linear_time(parse, MAX_LOG_BYTES), known=known, cpu_s=4.0)


def test_what_a_process_printed_is_bounded_and_printable(fuzz):
    pieces = st.lists(
        st.binary(max_size=40) | st.sampled_from(LOG_TOKENS).map(lambda s: s.encode("utf-8", "replace"))
    )

    def check(drawn: tuple[int, list[bytes], int]) -> None:
        limit, parts, times = drawn
        log = CappedLog(limit)
        for part in parts * times:
            log.write(part)
        text = log.text()
        # A byte that is no UTF-8 becomes three; the mark of the cut is short.
        assert len(text.encode()) <= 3 * limit + 64
        assert not any(
            (ord(letter) < 32 and letter not in "\t\n") or 127 <= ord(letter) < 160 for letter in text
        )
        if log.total <= limit and text.isascii():
            assert "bytes left out" not in text or b"left out" in b"".join(parts * times)

    fuzz(st.tuples(st.integers(2, 400), pieces, st.integers(1, 20)), check)


def test_what_a_process_printed_is_cleaned_in_linear_time(fuzz):
    def parse(text: str) -> None:
        log = CappedLog(MAX_LOG_BYTES)
        log.write(text.encode("utf-8", "replace"))
        log.text()

    tokens = ("\x1b", "\x1b[", "0", ";", " ", "/", "m", "@", "[", "\r", "\n", "\0", "\x9b", "a", "?")
    fuzz(repeated(*tokens), in_linear_time(parse, MAX_LOG_BYTES), cpu_s=4.0)


# --- What a candidate builds

_NAMES = (
    "load_inline",
    "load",
    "cpp_extension",
    "torch",
    "triton",
    "utils",
    "x",
    "ModelNew",
    "é",
    "cuda",
    "cuda_sources",
)
SOURCE_TOKENS = (
    *_NAMES, "import ", "from ", "as ", "torch.utils.cpp_extension", "(", ")", "[", "]", "{", "}", ".", ",", ":", "=", "\n",
    "\n    ", " ", "\t", "\f", "\r", "\0", "def ", "class ", "lambda: ", "async ", "await ", "@", "-", "not ", "+", "*", "**",
    "'", '"', '"""', "f'{", "}'", "\\", "#", "0", "1", "None", "if ", "else ", "for ", "in ", "match ", "case ", "with ", "()",
    "[]", ".load", ".load()", "\ufeff", "# -*- coding: utf-16 -*-",
)  # fmt: skip
SOURCES = st.lists(st.sampled_from(SOURCE_TOKENS) | st.text(max_size=3), max_size=30).map("".join)


def nested(*pairs: tuple[str, str]) -> st.SearchStrategy[str]:
    """Sources as deep as a parser may bear."""
    return st.tuples(st.sampled_from(pairs), st.integers(1, 3_000)).map(
        lambda drawn: f"load_inline\nx = {drawn[0][0] * drawn[1]}1{drawn[0][1] * drawn[1]}"
    )


NESTED = nested(("(", ")"), ("-", ""), ("not ", ""), ("", ".a"), ("", "()"), ("", ".load()"), ("", "+1"), ("[", "]"),
                ("lambda: ", ""), ("f(", ")"), ("", "**1"), ("", " if 1 else 1"), ("", "[0]"), ("1, (", ")"))  # fmt: skip


def _scan(source: str) -> None:
    # The compiler's order: what is no candidate is refused before it is scanned.
    problems = [
        problem
        for kind in KINDS.values()
        for problem in (kind.candidate_problem(source), kind.reference_problem(source))
    ]
    for problem in problems:
        assert_one_line_for_people(problem or "")
    may_build(source)
    expects_cuda(source, "auto")
    try:
        with warnings.catch_warnings(action="ignore", category=SyntaxWarning):
            ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    sites = builder_sites(source)
    lines = source.count("\n") + source.count("\r") + source.count("\f") + 1
    assert all(1 <= site.first_line <= site.last_line <= lines for site in sites)
    assert missed_sites(sites, {site.first_line for site in sites}) == []
    assert missed_sites(sites, ()) == sites


@pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")
def test_sources_of_any_text_are_scanned_or_refused(fuzz):
    fuzz(
        SOURCES | NESTED,
        _scan,
        known=[
            # Nested deeper than the visitor's stack but not than the parser's: RecursionError, retried until the
            # check was given up as our failure.
            "load_inline\ny = a" + ".b" * 900,
            "load_inline\ny = " + "-" * 900 + "1",
            "load_inline\nimport a as cpp_extension\ny = a" + ".load()" * 450,
        ],
        cpu_s=4.0,
    )


@pytest.mark.fuzz(share=2)
@pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")
def test_sources_are_looked_at_in_linear_time(fuzz):
    def look(source: str) -> None:
        may_build(source)
        expects_cuda(source, "auto")
        with contextlib.suppress(msgspec.ValidationError, UnicodeEncodeError):
            target_wanted(_request(source))

    tokens = [token for token in SOURCE_TOKENS if token not in ("cuda", "cuda_sources")] + [
        "cuda_sources",
        "CUDA",
        "(?",
    ]
    fuzz(
        repeated(*tokens),
        in_linear_time(look, MAX_SOURCE_BYTES),
        # Blank lines before an import of Triton: each was the start of another search to their end. At the size that
        # is taken the gateway and the compiler stood still for ten minutes.
        known=[
            ("", "\n", ""),
            ("", "\n\f", "x"),
            ("", " \n", ""),
            ("import", "\n", ""),
            ("cuda_sources=", "[ ", ""),
        ],
        cpu_s=4.0,
    )


@pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")
def test_sources_are_scanned_in_linear_time(fuzz):
    def scan(source: str) -> None:
        if all(kind.candidate_problem(f"class ModelNew: ...\n{source}") for kind in KINDS.values()):
            return
        missed_sites(builder_sites(source), range(2_000))

    fuzz(
        repeated(*SOURCE_TOKENS),
        in_linear_time(scan, MAX_SOURCE_BYTES // 8),
        # As many calls as fit, and as many lines as were recorded: each was compared with each.
        known=[
            ("", "load_inline()\n", ""),
            ("", "x.load()\n", ""),
            # Python's parser keeps each beginning of a dotted name: this one, as large as a candidate may be, took 20 GB,
            # all that the machine had, and was ended by the kernel.
            ("import ", "a.", "a"),
            ("from ", "é.\\\n", "a import b"),
            ("import \t", "a· . ", "a"),
        ],
        cpu_s=10.0,
        examples=60,
    )


FINDING_TOKENS = (
    *SOURCE_TOKENS, "torch", ".matmul(", "self.", "@ x", "try:", "except:", "contextlib.suppress(x)", "getattr(torch, ",
    "@triton.jit\n", "ext = load_inline()\n", '"""', "__global__ ", "#include <", "\\x00", "\\ud800",
)  # fmt: skip


@pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")
def test_findings_of_any_text_are_bounded_and_can_be_sent(fuzz):
    def read(source: str) -> None:
        try:
            found = answer(ReadFindings(source=source, low_types=False))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return  # was refused before
        for reading in (found.reading, found.strings):
            assert_is_a_reading(reading)

    fuzz(
        st.lists(st.sampled_from(FINDING_TOKENS) | st.text(max_size=3), max_size=30).map("".join) | NESTED,
        read,
        known=["x = '\\ud800 __global__ \\ud800('", "x = '''\f\x1c__global__ a(\u2028'''\ntorch.mm(x)"],
        cpu_s=4.0,
    )


CPP_TOKENS = (
    "/*", "*/", "//", "\n", "\\\n", '"', "'", 'R"(', ')"', "#include <cublas", ">", "##", "<<<", "at::", "matmul", "(", ")",
    "{", "}", "catch", "__global__ ", "__launch_bounds__", "TORCH_LIBRARY(", "x", "0", "1e", ".", "->", " ", "cublasX(", "half2",
)  # fmt: skip


def test_findings_of_any_cpp_are_bounded_and_can_be_sent(fuzz):
    def read(texts: list[tuple[str, str]]) -> None:
        assert_is_a_reading(answer(ReadExtension(texts=texts, low_types=False)).reading)

    text = st.lists(st.sampled_from(CPP_TOKENS) | st.text(max_size=3), max_size=60).map("".join)
    fuzz(
        st.lists(st.tuples(st.text(max_size=200), text), max_size=3),
        read,
        known=[[("a.cu", "__global__ \ud800(\ud801")], [("a.cu", "__global__ " + "x" * 300 + "()")]],
        cpu_s=4.0,
    )


def test_cpp_is_read_in_linear_time(fuzz):
    def read(text: str) -> None:
        answer(ReadExtension(texts=[("a.cu", text)], low_types=False))

    fuzz(
        repeated(*CPP_TOKENS),
        in_linear_time(read, MAX_SOURCE_BYTES),
        known=[
            ("", "##", ""),
            ("", 'R"(', ""),
            ("", "/*", ""),
            ("", "__global__ ", ""),
            ("", "catch{at::mm", ""),
        ],
        cpu_s=10.0,
        examples=60,
    )


def assert_is_a_reading(reading: Reading) -> None:
    """It is within the wire's bounds, and a small part of a message."""
    assert_fits_the_bus(reading, limit_bytes=MESSAGE_BYTES // 8)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(reading), type=Reading) == reading
    assert {finding.code for finding in reading.findings} <= set(CODES)


def test_traces_of_any_bytes_are_read_or_refused(fuzz):
    def read(data: bytes) -> None:
        try:
            lines = unpack_trace(data)
        except ProtocolError:
            return
        assert len(lines) <= MAX_LINES
        again = unpack_trace(pack_trace(lines))
        assert again == tuple(sorted(lines, key=lambda line: -line.nanoseconds))[: len(again)]
        assert_fits_the_bus(ran_kernels(lines, Reading(kernels=["x"], triton=["y"])))

    pieces = st.sampled_from(
        [b"K 1 1\tx\t\n", b"O 1 1\t", b"C ", b"\t", b"\n", b"0", b"9" * 16, b" ", b"<", b"(", b"::"]
    )
    fuzz(
        st.lists(pieces | st.binary(max_size=3), max_size=40).map(b"".join),
        read,
        known=[b"K 1 1\t" + b"(" * 200 + b"\t\n", b"K 1 1\tx\t\n" * 1_000],
        cpu_s=4.0,
    )


def _request(source: str) -> Any:
    from keck.testing import sample_request

    return sample_request(candidate=source)


# --- The recorder's file, which the candidate may have written itself

_CALL = ExtensionCall(
    kind="load_inline", name="x", cpp_sources=("int f();",), functions=(("f", "f"),)
).to_dict()
_TEXTS = st.text(max_size=12) | st.sampled_from(["\ud800", "\0", "a" * 200, "../x", "é" * 70, "kernel.cu"])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXTS | st.integers(4_000, 6_000).map(lambda n: 10**n - 1),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=10,
)  # fmt: skip
_RECORDS = st.fixed_dictionaries(
    {"calls": st.lists(st.dictionaries(st.sampled_from(sorted(_CALL)), _JSON, max_size=3).map(lambda d: _CALL | d), max_size=3),
     "lines": st.lists(st.integers(), max_size=4)},
    optional={"error": _JSON, "trace": _JSON, "refused": _JSON},
)  # fmt: skip


def _dumped(value: object) -> bytes:
    try:
        return json.dumps(value).encode()
    except (ValueError, RecursionError):  # an int beyond 4300 digits
        return b"9" * 5_000


def _read_record(data: bytes) -> None:
    try:
        run = recorder._parsed(data)
    except ExtensionCallError as error:
        assert_one_line_for_people(str(error))
        return
    assert_fits_the_bus(run.error, run.trace, limit_bytes=MESSAGE_BYTES // 4)
    assert len(run.calls) <= 64
    assert len(run.lines) <= 10_000
    for call in run.calls:
        assert ExtensionCall.from_json(call.to_json()) == call
        assert len(call.digest()) == 64
        reason = refused_flag(call)
        assert_one_line_for_people(reason or "")
        target = choose_target(Options(), "", [call], [], arch="9.0")
        assert_one_line_for_people(target if isinstance(target, str) else target.name)


def _record(**changes: Any) -> bytes:
    return json.dumps({"calls": [], "lines": []} | changes).encode()


def test_records_of_any_content_are_read_or_refused(fuzz):
    deep = st.integers(1, 3_000).map(
        lambda n: b'{"calls": [], "lines": [], "error": ' + b"[" * n + b"]" * n + b"}"
    )
    fuzz(
        _RECORDS.map(_dumped) | _JSON.map(_dumped) | st.binary(max_size=60) | deep,
        _read_record,
        known=[
            # A lone surrogate in what the candidate says of itself: UnicodeEncodeError when the verdict was sent,
            # which the candidate thereby turned into a failure of ours.
            b'{"calls": [], "lines": [], "error": "\\ud800", "trace": "\\udfff"}',
            # A message as long as the candidate likes: more than the bus takes, with the same end.
            _record(calls=[_CALL | {"kind": "k" * 2_000_000}]),
            _record(calls=[_CALL | {"extra_cflags": ["-?" + "a" * 2_000_000]}]),
            _record(calls=[_CALL | {"extra_ldflags": ["x" * 1_500_000 + "/y"]}]),
            # The same option inside itself, to any depth: RecursionError.
            _record(calls=[_CALL | {"extra_cflags": ["-Xlinker=" * 3_000 + "-x"]}]),
            _record(calls=[_CALL | {"extra_cflags": ["-Wl,-Wl," * 3_000 + "-x"]}]),
            # More lines than any module has: each was compared with each call in the source, for hours.
            _record(lines=list(range(200_000))),
            _record(lines=[True, 10**400, -1, 3]),
        ],
        cpu_s=4.0,
    )


def test_one_recorded_call_of_any_content_is_read_or_refused(fuzz):
    def check(data: bytes) -> None:
        try:
            call = ExtensionCall.from_json(data)
        except ExtensionCallError as error:
            assert_one_line_for_people(str(error))
            return
        assert ExtensionCall.from_json(call.to_json()) == call

    calls = st.dictionaries(st.sampled_from(sorted(_CALL)), _JSON, max_size=4).map(
        lambda changes: _dumped(_CALL | changes)
    )
    fuzz(
        calls | st.binary(max_size=40) | st.integers(1, 5_000).map(lambda n: b"[" * n),
        check,
        known=[_dumped(_CALL | {"kind": "k" * 100_000}), b"\xff\xfe", b"\xff"],
    )


# --- Flags

FLAG_TOKENS = (
    "-O3", "-D", "-Wl", "-Wl,", "-Xlinker", "-Xlinker=", "--linker-options=", "-Xcompiler", "-Xptxas", "-rpath", "-I", "-L", "-l",
    "-include", "-isystem", "--rpath=", "-T", "-o", "-x", "-fuse-ld=", "-fplugin", "-specs", "@file", "-", "--", "=", ",", " ",
    "/", "../", "/usr/lib", "a", ".o", ".so.1", ".1", "9", "'", '"', "\\", ";", "$", "\n", "\t", "\x0b", "é", "{{site}}", "#",
    "/usr/local/cuda", "-12.4", "--keep", "-Wp,", "x" * 100,
)  # fmt: skip
FLAGS = st.lists(st.lists(st.sampled_from(FLAG_TOKENS), max_size=6).map("".join) | _TEXTS, max_size=6)


def _flagged(flags: list[str], field: str = "extra_cflags") -> ExtensionCall:
    return ExtensionCall(kind="load_inline", name="x", **{field: tuple(flags)})


def test_flags_of_any_text_are_judged_in_one_line(fuzz):
    def check(flags: list[str]) -> None:
        for field in ("extra_cflags", "extra_cuda_cflags", "extra_ldflags"):
            assert_one_line_for_people(
                (refused_flag(_flagged(flags, field)) or "").encode("utf-8", "replace").decode()
            )

    known = [["-Xlinker=" * 3_000 + "-x"], ["-?" + "a" * 100_000], ["-Wl,-Wl," * 3_000 + "-x"]]
    fuzz(FLAGS, check, known=known)


@pytest.mark.fuzz(share=2)
def test_flags_are_judged_in_linear_time(fuzz):
    def parse(text: str) -> None:
        refused_flag(_flagged([text]))

    fuzz(
        repeated(*FLAG_TOKENS),
        in_linear_time(parse, 512 << 10),
        # One long word: shlex appends to it letter by letter, copying it each time; three minutes for 4 MiB.
        known=[("-D", "a", ""), ("-Xlinker=", "-Xlinker=", ""), ("-Wl,", "-Wl,", ""), ("-x", "'a'", "")],
        cpu_s=4.0,
        examples=100,
    )


# --- The recorded arguments

_ARGUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | _TEXTS | st.binary(max_size=4) | st.just(Path("k.cu")) | st.just(object()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3) | st.lists(inner, max_size=2).map(tuple),
    max_leaves=5,
)  # fmt: skip
_PARAMETERS = (
    "name", "cpp_sources", "cuda_sources", "sources", "functions", "extra_cflags", "extra_cuda_cflags", "extra_ldflags",
    "extra_include_paths", "with_cuda", "is_python_module", "no_implicit_headers", "is_standalone", "sycl_sources", "nonsense",
)  # fmt: skip


def test_arguments_of_any_kind_make_a_call_or_a_sentence(fuzz, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "k.cu").write_bytes(b'#include "k.cu"\n\xff')
    (tmp_path / "k.cpp").write_bytes(b"int f();")

    def check(drawn: tuple[list[Any], dict[str, Any]]) -> None:
        args, kwargs = drawn
        for read in (call_from_load_inline, call_from_load):
            try:
                call = read(args, kwargs)
            except ExtensionCallError as error:
                assert_one_line_for_people(str(error).encode("utf-8", "replace").decode())
                continue
            assert ExtensionCall.from_json(call.to_json()) == call

    plain = {"name": "x", "cpp_sources": "int f();", "cuda_sources": ""}
    calls = st.dictionaries(st.sampled_from(_PARAMETERS), _ARGUMENTS, max_size=4)
    loads = calls.map(lambda changes: {"name": "x", "sources": ["k.cpp"]} | changes)
    fuzz(
        st.tuples(st.lists(_ARGUMENTS, max_size=4), calls)
        | st.tuples(st.just([]), calls.map(lambda changes: plain | changes) | loads),
        check,
        known=[
            # Include paths and sources that are no paths: TypeError and ValueError where a sentence belongs.
            ([], plain | {"extra_include_paths": [3]}),
            ([], plain | {"extra_include_paths": 3}),
            ([], plain | {"extra_include_paths": [b"x"]}),
            ([], plain | {"extra_include_paths": ["\0"]}),
            ([], {"name": "x", "sources": 3}),
            ([], {"name": "x", "sources": [None]}),
            ([], {"name": "x", "sources": [b"k.cu"]}),
            ([], {"name": "x", "sources": ["\0.cu"]}),
        ],
    )


def test_includes_are_found_in_linear_time(fuzz, tmp_path):
    def parse(text: str) -> None:
        local_headers([(str(tmp_path), text)], [], beside_source=True)

    tokens = ("#", " ", "\t", "include", '"', "<", ">", "a", ".", "/", "../", "\n", "#include", "\r", "a.h")
    fuzz(repeated(*tokens), in_linear_time(parse, 64 << 10), cpu_s=10.0, examples=60)


# --- Files, targets


def test_files_a_cell_left_are_read_or_refused(fuzz, tmp_path):
    directory = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)

    def check(drawn: tuple[str, str, str, int, int]) -> None:
        kind, name, below, size, limit = drawn
        path = tmp_path / "work" / "file"
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        match kind:
            case "file":
                path.write_bytes(b"x" * size)
            case "link":
                path.symlink_to("/etc/passwd")
            case "loop":
                path.symlink_to(path)
            case "pipe":
                os.mkfifo(path)
            case _:
                pass
        try:
            data = read_file(directory, name, limit_bytes=limit, below=below)
        except CellFileError:
            return
        finally:
            path.unlink(missing_ok=True)
        assert kind == "file"
        assert len(data) == size <= limit

    names = st.sampled_from(["file", "work", "", ".", "..", "/etc/passwd", "a" * 300, "file/x"]) | st.just(
        "file"
    )
    fuzz(
        st.tuples(
            st.sampled_from(["file", "link", "loop", "pipe", "nothing"]),
            names,
            st.sampled_from(["work", "work", "", "nowhere", "work/file"]),
            st.integers(0, 64),
            st.integers(0, 64),
        ),
        check,
    )
    os.close(directory)


def test_any_request_has_a_target_or_a_reason(fuzz):
    archs = st.from_regex(r"[0-9a-zA-Z.+; ]{0,64}", fullmatch=True) | st.sampled_from(
        ["9.0", "9.0a", "8.0 9.0", "1" * 64]
    )
    beats = st.builds(
        lambda target, arch, slots, busy, state: Heartbeat(
            worker="w", role="executor", host="", pid=1, version="", started_at=0.0, at=0.0, slots=slots, busy=busy,
            target=target, arch=arch, state=state,
        ),
        st.sampled_from(["", "cpu", "sm90", "sm"]) | st.text(max_size=4), archs, st.integers(-1, 9), st.integers(-1, 2**63),
        st.sampled_from(["ready", "quarantined", "draining"]),
    )  # fmt: skip

    def check(drawn: tuple[str, str, str, str, list[Heartbeat]]) -> None:
        source, device, arch, configured, executors = drawn
        options = Options(device=device, arch=arch)  # type: ignore[arg-type]
        chosen = choose_arch(options, configured, executors)
        assert capability(chosen)
        for calls in ([], [_flagged([])], [ExtensionCall(kind="load_inline", name="x", cuda_sources=("x",))]):
            target = choose_target(options, source, calls, executors, arch=chosen)
            if not isinstance(target, str):
                assert msgspec.convert(target.name, str)
                assert target.name in {"cpu", "cuda-any"} or target.name[2:].isdigit()
                assert not set(target.name) & set(".*> ")

    fuzz(
        st.tuples(
            SOURCES, st.sampled_from(["auto", "cpu", "cuda"]), archs, archs, st.lists(beats, max_size=3)
        ),
        check,
    )


# --- The runner's datagrams

_NODE = st.builds(
    Node,
    st.sampled_from(NodeKind),
    st.integers(0, 12),
    st.binary(min_size=8, max_size=8),
    st.text("abé", max_size=10),
)
_SIZES = st.integers(0, 2**47) | st.sampled_from([0, 1, 2**47, 2**62])
_TENSOR = st.integers(0, MAX_DIMS).flatmap(
    lambda dims: st.builds(
        TensorRecord,
        st.sampled_from(DTYPES),
        st.tuples(*[_SIZES] * dims),
        st.tuples(*[_SIZES] * dims),
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**16 - 1),
        st.binary(min_size=64, max_size=64),
    )
)
_REPLIES = st.builds(
    Reply,
    st.integers(0, 2**32 - 1),
    st.sampled_from(Status),
    st.lists(_NODE, max_size=4).map(tuple),
    st.lists(_TENSOR, max_size=3).map(tuple),
    st.binary(max_size=20),
    st.tuples(st.floats(), st.floats()),
)


@st.composite
def datagrams(draw: st.DrawFn) -> bytes:
    data = bytearray(pack_reply(draw(_REPLIES)))
    for _ in range(draw(st.integers(0, 4))):
        match draw(st.sampled_from(("byte", "word", "cut", "more"))):
            case "byte":
                data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
            case "word" if len(data) > 8:
                at = draw(st.integers(0, (len(data) - 8) // 4)) * 4
                struct.pack_into("<I", data, at, draw(st.sampled_from([0, 1, 513, 1025, 2**31, 2**32 - 1])))
            case "cut":
                data = data[: max(1, draw(st.integers(0, len(data))))]
            case _:
                data += draw(st.binary(max_size=9))
    return bytes(data)


def _read_datagram(data: bytes) -> None:
    try:
        reply = unpack_reply(data)
    except ProtocolError:
        return
    assert len(data) <= MAX_DATAGRAM
    assert len(reply.nodes) <= MAX_NODES
    assert len(reply.tensors) <= MAX_TENSORS
    assert len(reply.text) <= MAX_TEXT
    assert all(0 <= number <= 2.0**53 for number in reply.numbers)
    for tensor in reply.tensors:
        count = 1
        for size in tensor.shape:
            count *= max(size, 1)
        assert count <= MAX_ELEMENTS
        assert min((*tensor.shape, *tensor.strides), default=0) >= 0
    again = unpack_reply(pack_reply(reply))
    assert (again.nodes, again.tensors, again.text) == (reply.nodes, reply.tensors, reply.text)


@pytest.mark.fuzz(share=2)
def test_datagrams_of_any_bytes_are_read_or_refused(fuzz):
    fuzz(datagrams() | st.binary(max_size=300), _read_datagram, examples=400)


def test_any_nodes_are_a_tree_or_refused(fuzz):
    import torch

    def check(nodes: list[Node]) -> None:
        tensors = [torch.zeros(1)]
        try:
            value = rebuild(nodes_from_json(json.loads(json.dumps(nodes_to_json(nodes)))), tensors)
        except ValueError:
            return
        with contextlib.suppress(Unsupported):
            again, _ = flatten(value)
            assert rebuild(again, tensors * MAX_TENSORS) is not None or value is None

    deep = st.integers(1, MAX_NODES).map(lambda n: [Node(NodeKind.LIST, 1)] * n + [Node(NodeKind.NONE)])
    fuzz(
        st.lists(_NODE, max_size=12) | deep,
        check,
        known=[
            # IndexError, TypeError and RecursionError where a ValueError was documented.
            [Node(NodeKind.TENSOR, 5)],
            [Node(NodeKind.DICT, 1), Node(NodeKind.LIST, 0), Node(NodeKind.NONE)],
            [Node(NodeKind.LIST, 1)] * (MAX_NODES - 1) + [Node(NodeKind.NONE)],
            [Node(NodeKind.INT, scalar=b"")],
        ],
    )


def test_values_of_any_kind_survive_the_wire_or_are_refused(fuzz):
    import torch

    tensors = st.sampled_from(
        [torch.zeros(2), torch.zeros(0), torch.zeros(1).to_sparse(), torch.zeros([1] * 9)]
    )
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | _TEXTS | tensors | st.binary(max_size=3) | st.just(object()),
        lambda inner: st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(_TEXTS | st.integers(), inner, max_size=3),
        max_leaves=12,
    )  # fmt: skip

    def check(value: object) -> None:
        for sort_keys in (False, True):
            with contextlib.suppress(Unsupported):
                nodes, found = flatten(value, sort_keys=sort_keys)
                reply = unpack_reply(pack_reply(Reply(1, Status.OK, nodes)))
                assert reply.nodes == nodes
                rebuild(nodes, found)

    fuzz(values, check)
