"""What a compiler makes of what others found out about the fast recipe on its machine."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from keck_compiler.fast_recipe import FastRecipe, Verdict, recipe_directory, recipe_verdict
from keck_compiler.toolchain import Toolchain

_TOOLCHAIN = Toolchain(versions={"torch": "2.99", "gcc": "1"}, cuda_home=None)


def _kept(state: Path, verdict: Verdict, **files: str) -> Path:
    directory = recipe_directory(state, _TOOLCHAIN)
    directory.mkdir(parents=True)
    (directory / "verdict.json").write_bytes(msgspec.json.encode(verdict))
    for name, text in files.items():
        (directory / f"{name}.json").write_text(text)
    return directory


async def test_a_verdict_against_it_is_believed_and_told(tmp_path: Path) -> None:
    _kept(tmp_path, Verdict(fast=False, reason="self-test: the device code differs"))
    recipe = FastRecipe(_TOOLCHAIN, tmp_path)
    assert recipe.described == "not tried yet"
    assert await recipe.lean() is None
    assert recipe.described == "stock: self-test: the device code differs"


async def test_a_verdict_for_it_needs_nothing_but_what_is_there(tmp_path: Path) -> None:
    index = '{"places":{},"types":[],"host":[],"spellings":{},"words":["Tensor"]}'
    directory = _kept(tmp_path, Verdict(fast=True), index=index)
    recipe = FastRecipe(_TOOLCHAIN, tmp_path)
    lean = await recipe.lean()
    assert lean is not None
    assert (lean.directory, lean.words) == (directory, frozenset({"Tensor"}))
    assert recipe.described == "fast"


@pytest.mark.parametrize("text", ["", "{", '{"places":{}}'])
async def test_damaged_files_mean_stock_and_are_made_anew_by_the_next(tmp_path: Path, text: str) -> None:
    directory = _kept(tmp_path, Verdict(fast=True), index=text)
    recipe = FastRecipe(_TOOLCHAIN, tmp_path)
    assert await recipe.lean() is None
    assert recipe.described.startswith("stock: what was prepared is unreadable")
    assert recipe_verdict(directory) is None


async def test_another_toolchain_and_another_recipe_have_directories_of_their_own(tmp_path: Path) -> None:
    other = Toolchain(versions={"torch": "3.0", "gcc": "1"}, cuda_home=None)
    assert recipe_directory(tmp_path, other) != recipe_directory(tmp_path, _TOOLCHAIN)


async def test_who_wants_stock_gets_it_and_nothing_is_made(tmp_path: Path) -> None:
    recipe = FastRecipe(_TOOLCHAIN, tmp_path, wanted="stock")
    assert await recipe.lean() is None
    assert recipe.described == "stock: KECK_RECIPE=stock"
    assert not any(tmp_path.iterdir())  # noqa: ASYNC240 - a test's own directory
