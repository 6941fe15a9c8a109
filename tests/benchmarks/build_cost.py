"""What a build costs by the fast recipe and by the stock one, over ``tests/extensions``, and whether they give the same.

    python tests/benchmarks/build_cost.py [--recipes fast,stock] [--only SUBSTRING,…] [--call] [--raw FILE.json]

Builds each extension in a cell, one after the other, and compares by name: built or refused, first error, code of its kernels
byte for byte, dynamic symbols that the module defines. `--call` also loads both modules and compares what the case's call
returns, on a machine with a GPU. Every build is written to the raw file at once, and what is there is not built again,
so a run that was cut goes on. Prints a table in Markdown; exits with 1 where an outcome differs.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keck.settings import load
from keck_cell import ExtensionCall, call_from_load_inline
from keck_compiler.builder import Builder
from keck_compiler.built import BuildTimeout, Built
from keck_compiler.device_code import kernel_code
from keck_compiler.fast_recipe import FastRecipe
from keck_compiler.toolchain import find_toolchain
from keck_compiler.zygote import BuildZygote

CASES = Path(__file__).parents[1] / "extensions"
BUILD_S = 600.0
MEMORY_BYTES = 8 << 30
Record = dict[str, Any]

RUN = """
import importlib.util, json, sys, torch
name, path, is_module, expression = json.loads(sys.argv[1])
if is_module:
    spec = importlib.util.spec_from_file_location(name, path)
    m = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(m)
else:
    torch.ops.load_library(path)
torch.manual_seed(0)
torch.save(eval(expression), sys.argv[2])
"""
COMPARE = """
import sys, torch
def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b
sys.exit(0 if same(*(torch.load(path, weights_only=False) for path in sys.argv[1:])) else 1)
"""


def cases(only: str, kinds: str) -> Iterator[tuple[str, Record]]:
    """Cases by name (``builds/relu``), in order."""
    for kind in kinds.split(","):
        for file in sorted((CASES / kind).glob("*.toml")):
            name = f"{kind}/{file.stem}"
            if any(part in name for part in only.split(",")):
                yield name, tomllib.loads(file.read_text())


def call_of(name: str, case: Record) -> ExtensionCall:
    """The extension call of a case."""
    given = ("functions", "extra_cflags", "extra_cuda_cflags", "is_python_module")
    arguments = {field: case[field] for field in given if field in case}
    return call_from_load_inline(
        (),
        {
            "name": name.rpartition("/")[2],
            "cpp_sources": case.get("cpp", ""),
            "cuda_sources": case.get("cuda"),
            **arguments,
        },
    )


def record_of(built: Built, recipe: str) -> Record:
    """What is kept of a build."""
    outcome = built.outcome
    error = next((item for item in outcome.diagnostics if item.severity == "error"), None)
    return {
        "asked": recipe,
        "recipe": "stock" if built.fallback else outcome.recipe,
        "fallback": built.fallback or outcome.fallback,
        "built": bool(built.module),
        "message": outcome.message,
        "first_error": [error.file, error.line, error.text] if error else None,
        "cpu_s": round(outcome.cpu_s, 2),
        "wall_s": round(outcome.wall_s, 2),
        "peak_memory_bytes": outcome.peak_memory_bytes,
        "device_code": hashlib.sha256(repr(kernel_code(built.module)).encode()).hexdigest()
        if built.module
        else "",
        "size": len(built.module),
    }


async def build_all(arguments: argparse.Namespace, raw: dict[str, Any], modules: Path) -> None:
    """Every case by every recipe that is not in `raw` yet."""
    with tempfile.TemporaryDirectory(prefix="keck-bench-", ignore_cleanup_errors=True) as scratch:
        directory = Path(scratch)
        toolchain = await asyncio.to_thread(find_toolchain, directory)
        recipe = FastRecipe(toolchain, load().state_dir.expanduser())
        zygote = BuildZygote(toolchain, directory)
        raw.setdefault("machine", f"{platform.platform()}, {os.cpu_count()} cores")
        raw.setdefault("toolchain", dict(toolchain.versions))
        stock = Builder(toolchain=toolchain, max_jobs=1, memory_bytes=MEMORY_BYTES)
        fast = Builder(
            toolchain=toolchain, max_jobs=1, memory_bytes=MEMORY_BYTES, lean=recipe.lean, zygote=zygote
        )
        lean = None
        if "fast" in arguments.recipes.split(","):
            lean = await recipe.lean()
            if lean is not None:
                await zygote.preload(lean.directory)
            raw["fast recipe"] = recipe.described
        try:
            for name, case in cases(arguments.only, arguments.kinds):
                for asked in arguments.recipes.split(","):
                    found = raw.setdefault("builds", {}).setdefault(name, {})
                    if asked in found:
                        continue
                    builder = fast if asked == "fast" else stock
                    try:
                        call = call_of(name, case)
                        if asked == "fast" and arguments.attempt and lean is not None:
                            built = await fast.build_fast(call, lean, arch=arguments.arch, timeout_s=BUILD_S)
                        else:
                            built = await builder.build(call, arch=arguments.arch, timeout_s=BUILD_S)
                    except BuildTimeout as error:
                        sys.exit(f"{name}: {error}")
                    if built.module:
                        (modules / f"{name.replace('/', '-')}.{asked}.so").write_bytes(built.module)
                    found[asked] = record_of(built, asked)
                    keep(arguments.raw, raw)
                    print(name, json.dumps(found[asked]), file=sys.stderr, flush=True)
        finally:
            await recipe.close()
            await zygote.close()


def keep(path: Path | None, raw: dict[str, Any]) -> None:
    """Write the raw file, whole or not at all."""
    if path is not None:
        part = path.with_suffix(".part")
        part.write_text(json.dumps(raw, indent=1) + "\n")
        part.replace(path)


def differences(found: Record) -> list[str]:
    """In what the two builds of a case differ; nothing where there is only one."""
    if not {"fast", "stock"} <= set(found):
        return []
    if found["fast"]["fallback"] and not found["fast"]["built"] and found["stock"]["built"]:
        return []  # an attempt that stock was not asked about
    fields = ("built", "first_error", "device_code")
    return [field for field in fields if found["fast"][field] != found["stock"][field]]


def called_alike(name: str, case: Record, modules: Path) -> str:
    """Whether the call returns the same with both modules: ``yes``, or what went wrong."""
    left = []
    for asked in ("fast", "stock"):
        path = modules / f"{name.replace('/', '-')}.{asked}.so"
        given = json.dumps(
            [name.rpartition("/")[2], str(path), case.get("is_python_module", True), case["call"]]
        )
        out = path.with_suffix(".pt")
        done = subprocess.run(
            [sys.executable, "-c", RUN, given, str(out)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            return f"{asked}: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}"
        left.append(str(out))
    same = subprocess.run([sys.executable, "-c", COMPARE, *left], check=False).returncode == 0
    return "yes" if same else "the results differ"


def table(raw: dict[str, Any]) -> list[str]:
    """Costs case by case, and their medians."""
    lines = [
        f"Machine: {raw['machine']}; {raw['toolchain']}; fast recipe: {raw.get('fast recipe', 'not asked')}.",
        "",
        "| case | fast CPU s | stock CPU s | of stock | fast wall s | stock wall s | fast MiB | stock MiB | recipe | same |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    ratios: dict[str, list[float]] = {"cpu_s": [], "wall_s": [], "peak_memory_bytes": []}
    fallbacks = 0
    for name, found in raw["builds"].items():
        fast, stock = found.get("fast"), found.get("stock")
        if fast is None:
            continue
        fallbacks += fast["recipe"] != "fast"
        same = "" if stock is None else ", ".join(differences(found)) or "yes"
        called = found.get("called", "")
        lines.append(
            f"| {name} | {fast['cpu_s']} | {_of(stock, 'cpu_s')} | {_ratio(fast, stock)} | {fast['wall_s']} "
            f"| {_of(stock, 'wall_s')} | {fast['peak_memory_bytes'] >> 20} "
            f"| {stock['peak_memory_bytes'] >> 20 if stock else ''} | {fast['recipe']} {fast['fallback'][:60]} "
            f"| {same}{f'; call: {called}' if called else ''} |"
        )
        if stock is not None:
            for field, values in ratios.items():
                values.append(fast[field] / max(stock[field], 1e-9))
    both = len(ratios["cpu_s"])
    lines += ["", f"Built by the fast recipe: {len(raw['builds'])}; of them fell back: {fallbacks}."]
    if both:
        medians = {field: statistics.median(values) for field, values in ratios.items()}
        lines.append(
            f"Medians over the {both} built by both, in parts of stock: CPU {medians['cpu_s']:.3f}, "
            f"wall {medians['wall_s']:.3f}, memory {medians['peak_memory_bytes']:.3f}."
        )
        pairs = [found for found in raw["builds"].values() if {"fast", "stock"} <= set(found)]
        sums = [sum(found[asked]["cpu_s"] for found in pairs) for asked in ("fast", "stock")]
        lines.append(f"CPU in all: {sums[0]:.0f} s against {sums[1]:.0f} s ({sums[0] / sums[1]:.3f}).")
    return lines


def _of(record: Record | None, field: str) -> str:
    return "" if record is None else str(record[field])


def _ratio(fast: Record, stock: Record | None) -> str:
    return "" if stock is None else f"{fast['cpu_s'] / max(stock['cpu_s'], 1e-9):.3f}"


def main() -> None:
    """Build, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--recipes", default="fast,stock")
    parser.add_argument("--kinds", default="builds,refused")
    parser.add_argument("--only", default="")
    parser.add_argument("--arch", default="9.0")
    parser.add_argument("--attempt", action="store_true", help="where fast is in doubt, do not build stock")
    parser.add_argument("--call", action="store_true")
    parser.add_argument("--raw", type=Path)
    parser.add_argument("--modules", type=Path)
    arguments = parser.parse_args()
    raw: dict[str, Any] = {}
    if arguments.raw is not None and arguments.raw.exists():
        raw = json.loads(arguments.raw.read_text())
    with tempfile.TemporaryDirectory(prefix="keck-modules-") as name:
        modules = arguments.modules or Path(name)
        modules.mkdir(exist_ok=True)
        asyncio.run(build_all(arguments, raw, modules))
        if arguments.call:
            for case_name, case in cases(arguments.only, arguments.kinds):
                found = raw["builds"][case_name]
                if "call" in case and all(found.get(asked, {}).get("built") for asked in ("fast", "stock")):
                    found["called"] = called_alike(case_name, case, modules)
            keep(arguments.raw, raw)
    print("\n".join(table(raw)))
    builds = raw["builds"].values()
    wrong = any(differences(found) or found.get("called", "yes") != "yes" for found in builds)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
