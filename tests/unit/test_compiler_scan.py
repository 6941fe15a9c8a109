"""Builder calls found in the source."""

from __future__ import annotations

import pytest

from keck_compiler.scan import Site, builder_sites, may_build, missed_sites


@pytest.mark.parametrize(
    "source",
    [
        "from torch.utils.cpp_extension import load_inline\nx = load_inline('a', '')",
        "from torch.utils.cpp_extension import load_inline as build\nx = build('a', '')",
        "from torch.utils.cpp_extension import load\nx = load('a', ['b'])",
        "from torch.utils import cpp_extension\nx = cpp_extension.load('a', ['b'])",
        "import torch.utils.cpp_extension as ext\nx = ext.load('a', ['b'])",
        "import torch.utils.cpp_extension\nx = torch.utils.cpp_extension.load('a', ['b'])",
        "import torch\nx = torch.utils.cpp_extension.load_inline('a', '')",
    ],
)
def test_a_call_is_found_however_the_builder_is_named(source: str) -> None:
    assert builder_sites(source) == [Site(2, 2, deferred=False)]


@pytest.mark.parametrize(
    "source",
    ["import json\nx = json.load(open('f'))", "import torch\nx = torch.load('f')", "def load(): ...\nload()"],
)
def test_other_loads_are_no_builders(source: str) -> None:
    assert builder_sites(source) == []


def test_calls_inside_functions_are_deferred_and_class_bodies_are_not() -> None:
    source = (
        "from torch.utils.cpp_extension import load_inline\n"
        "class A:\n"
        "    at_import = load_inline('a', '')\n"
        "    def __init__(self):\n"
        "        self.x = load_inline(\n"
        "            'b', '')\n"
        "later = lambda: load_inline('c', '')\n"
    )
    sites = builder_sites(source)
    assert sites == [Site(3, 3, deferred=False), Site(5, 6, deferred=True), Site(7, 7, deferred=True)]
    assert missed_sites(sites, {3, 6}) == [Site(7, 7, deferred=True)]


def test_sources_without_a_builder_are_not_run() -> None:
    assert not may_build("import triton\nimport torch\n")
    assert may_build("getattr(torch.utils, 'cpp_extension')")
