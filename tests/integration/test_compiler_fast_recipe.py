"""The fast recipe on the installed toolchain: what it builds is what the stock recipe builds, and so is what it refuses.

A small part of ``tests/extensions``; ``tests/benchmarks/build_cost.py`` compares the whole of it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from keck_cell import ExtensionCall, call_from_load_inline
from keck_compiler.builder import Builder
from keck_compiler.device_code import kernel_code
from keck_compiler.fast_recipe import FastRecipe, recipe_verdict
from keck_compiler.lean.toolchain import LeanToolchain
from keck_compiler.toolchain import Toolchain, find_toolchain

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

_EXTENSIONS = Path(__file__).parents[1] / "extensions"
_BEHAVIOUR = """
import importlib.util, json, sys, torch
found = []
spec = importlib.util.spec_from_file_location(sys.argv[1], sys.argv[2])
m = importlib.util.module_from_spec(spec)
spec.loader.exec_module(m)
def note(what):
    found.append(repr(what))
for name in sorted(vars(m)):
    if not name.startswith("__"):
        note((name, type(getattr(m, name)).__name__, getattr(m, name).__doc__))
for call in (
    "m.make([2, 3], torch.float64, torch.device('cpu'), None)", "m.make((1,), torch.int32, 'cpu', 3)",
    "m.make([1.5], torch.float32, torch.device('cpu'), None)", "m.make([2], 'float32', torch.device('cpu'), None)",
    "m.make(arg0=[2], arg1=torch.float16, arg2=torch.device('cpu'), arg3=2.0)", "m.make([2])",
    "m.shape_of(torch.ones(2, 3))", "m.shape_of(None)", "m.shape_of([1.0])", "m.shape_of(torch.nn.Parameter(torch.ones(2)))",
    "m.scaled(torch.ones(2), 3)", "m.scaled(torch.ones(2), 2.5)", "m.scaled(torch.ones(2), True)",
    "m.scaled(torch.ones(2), 1j)", "m.scaled(torch.ones(2), 'x')", "m.scaled(torch.ones(2), torch.tensor(2.0))",
    *(f"m.fails({kind})" for kind in range(6)), "m.fails(2**70)", "m.fails(1.0)", "m.nothing",
):
    try:
        note(eval(call))
    except BaseException as error:
        note((type(error).__mro__, str(error)))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def toolchain(tmp_path_factory: pytest.TempPathFactory) -> Toolchain:
    return find_toolchain(tmp_path_factory.mktemp("toolchain"))


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def lean(toolchain: Toolchain, state: Path) -> LeanToolchain:
    """The recipe, prepared and through its self-test."""

    async def prepare() -> tuple[LeanToolchain | None, str]:
        recipe = FastRecipe(toolchain, state)
        return await recipe.lean(), recipe.described

    found, described = asyncio.run(prepare())
    assert described == "fast"
    assert found is not None
    return found


@pytest.fixture
def builder(toolchain: Toolchain) -> Builder:
    return Builder(toolchain=toolchain, max_jobs=1, memory_bytes=8 << 30)


def _call(kind: str, name: str) -> ExtensionCall:
    case = tomllib.loads((_EXTENSIONS / kind / f"{name}.toml").read_text())
    arguments = {
        field: case[field] for field in ("functions", "extra_cflags", "extra_cuda_cflags") if field in case
    }
    return call_from_load_inline(
        (), {"name": name, "cpp_sources": case.get("cpp", ""), "cuda_sources": case.get("cuda"), **arguments}
    )


def _behaviour(module: bytes, name: str, directory: Path) -> list[str]:
    directory.mkdir()
    (directory / f"{name}.so").write_bytes(module)
    done = subprocess.run(
        [sys.executable, "-c", _BEHAVIOUR, name, str(directory / f"{name}.so")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return found


def _linked(module: bytes, directory: Path) -> list[str]:
    """What the loader is told: libraries, in order, and whether the stack is executable."""
    (directory / "m.so").write_bytes(module)
    told = subprocess.run(
        ["readelf", "-dlW", str(directory / "m.so")], capture_output=True, text=True, check=True
    ).stdout
    return [
        " ".join(line.split()[1:] if "NEEDED" in line else line.split()[-2:])
        for line in told.splitlines()
        if "NEEDED" in line or "GNU_STACK" in line
    ]


async def test_bindings_convert_document_and_fail_as_stocks_do(
    builder: Builder, lean: LeanToolchain, tmp_path: Path
) -> None:
    call = _call("builds", "cpp_only_bindings")
    fast = await builder.build_fast(call, lean, arch="", timeout_s=600)
    stock = await builder.build_stock(call, arch="", timeout_s=600)
    assert (fast.fallback, fast.outcome.recipe, stock.outcome.recipe) == ("", "fast", "stock")
    ours, theirs = (
        _behaviour(built.module, call.name, tmp_path / which) for which, built in (("f", fast), ("s", stock))
    )
    assert ours == theirs


async def test_device_code_is_stocks_byte_for_byte(
    builder: Builder, lean: LeanToolchain, tmp_path: Path
) -> None:
    call = _call("builds", "dispatch_floating")
    fast = await builder.build_fast(call, lean, arch="9.0", timeout_s=600)
    stock = await builder.build_stock(call, arch="9.0", timeout_s=1000)
    assert fast.fallback == ""
    assert kernel_code(fast.module) == kernel_code(stock.module) != []
    assert _linked(fast.module, tmp_path) == _linked(stock.module, tmp_path)
    assert [facts.kernel for facts in fast.outcome.ptxas] == [facts.kernel for facts in stock.outcome.ptxas]
    assert len(fast.outcome.ptxas) == 2
    assert all(facts.registers > 0 and facts.arch == "sm_90" for facts in fast.outcome.ptxas)


@pytest.mark.parametrize("name", ["missing_semicolon", "undefined_name_device", "too_few_arguments"])
async def test_a_sure_refusal_is_stocks_in_file_line_and_words(
    builder: Builder, lean: LeanToolchain, name: str
) -> None:
    case = tomllib.loads((_EXTENSIONS / "refused" / f"{name}.toml").read_text())
    fast = await builder.build_fast(_call("refused", name), lean, arch="9.0", timeout_s=600)
    assert (fast.fallback, fast.module) == ("", b"")
    error = next(item for item in fast.outcome.diagnostics if item.severity == "error")
    # As the stock recipe said it when the case was written.
    assert [error.file, error.line, error.text] == case["stock_error"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("#define TWO(a) a##a\nint TWO(f)() { return 1; }", "put together"),
        ("using namespace torch;\nTensor f(Tensor x) { return x; }", "using namespace torch"),
        ("int f() { return not_declared; }", "refused"),
    ],
)
async def test_what_is_in_doubt_is_left_to_stock(
    builder: Builder, lean: LeanToolchain, text: str, reason: str
) -> None:
    call = call_from_load_inline(("doubtful", text), {})
    fast = await builder.build_fast(call, lean, arch="", timeout_s=600)
    assert fast.module == b""
    assert reason in fast.fallback


async def test_stock_answers_for_what_is_in_doubt_and_says_why(builder: Builder, lean: LeanToolchain) -> None:
    async def ready() -> LeanToolchain:
        return lean

    both = dataclasses.replace(builder, lean=ready)
    call = call_from_load_inline(("doubtful", "#define TWO(a) a##a\nint TWO(f)() { return nothing; }"), {})
    built = await both.build(call, arch="", timeout_s=600)
    assert built.outcome.recipe == "stock"
    assert "##" in built.outcome.fallback
    assert "main.cpp:" in built.outcome.message


async def test_the_self_test_is_kept_for_the_next_compiler(
    toolchain: Toolchain, lean: LeanToolchain, state: Path
) -> None:
    verdict = recipe_verdict(lean.directory)
    assert verdict is not None
    assert (verdict.fast, verdict.toolchain) == (True, dict(toolchain.versions))
    async with asyncio.timeout(20):  # nothing is made again
        assert await FastRecipe(toolchain, state).lean() == lean


async def test_distrust_is_kept_too(toolchain: Toolchain, lean: LeanToolchain, state: Path) -> None:
    recipe = FastRecipe(toolchain, state)
    assert await recipe.lean() == lean
    kept = (lean.directory / "verdict.json").read_bytes()
    recipe.distrust("an audit found a difference")
    assert await recipe.lean() is None
    other = FastRecipe(toolchain, state)
    assert await other.lean() is None
    assert other.described == "stock: an audit found a difference"
    (lean.directory / "verdict.json").write_bytes(kept)
