"""Which names stock's headers declare and the lean ones do not."""

from __future__ import annotations

from keck_compiler.lean.declarations import read_unit
from keck_compiler.lean.index import Index, Place, index_of

_LEAN = '# 1 "x"\n# 1 "/t/core.h" 1\nnamespace at { class Tensor {}; }\n'
_HOST = _LEAN + '# 1 "/t/pybind.h" 1\nnamespace py = pybind11;\n'
_STOCK = (
    _HOST
    + """\
# 1 "/t/ops/relu.h" 1
namespace at { Tensor relu(Tensor x); }
# 1 "/t/autograd.h" 1
namespace py = pybind11;
namespace torch { using at::Tensor; namespace nn { struct Linear {}; } }
namespace at { class Tensor; class Generator; }
# 1 "/usr/include/c++/numeric" 1
# 1 "/usr/include/c++/bits/stl_numeric.h" 1
namespace std { template <class T> T accumulate(T a); }
# 1 "/usr/include/c++/valarray" 2
namespace std { int abs(int x); }
# 1 "/t/Parallel.h" 1
# 1 "/t/Parallel-inl.h" 1
namespace at { void parallel_for(int n); }
# 1 "<command-line>" 1
#define TORCH_EXTENSION_NAME x
"""
)


def _index() -> Index:
    units = {name: read_unit(text) for name, text in (("stock", _STOCK), ("types", _STOCK), ("light", _LEAN))}
    return index_of(**units, host=read_unit(_HOST), roots={"/t/": ""})


def test_a_name_is_kept_with_the_header_that_the_lean_ones_lack() -> None:
    places = _index().places
    assert places["relu"] == (Place("ops/relu.h", "at"),)
    assert places["Linear"] == (Place("autograd.h", "torch", ("nn",)),)
    assert places["accumulate"][0].scope == "std"
    assert "TORCH_EXTENSION_NAME" not in places


def test_repetitions_of_what_is_there_are_no_declarations_and_of_what_is_not_one_is_enough() -> None:
    places = _index().places
    assert "Tensor" not in places
    assert places["Generator"] == (Place("autograd.h", "at"),)
    assert places["py"] == (Place("pybind.h"),)


def test_cmath_overloaded_for_valarrays_is_meant_only_by_who_says_so() -> None:
    assert _index().places["abs"] == (Place("/usr/include/c++/valarray", "std", ("valarray",)),)


def test_parts_of_headers_are_included_through_the_whole() -> None:
    spellings = _index().spellings
    assert spellings["Parallel-inl.h"] == "Parallel.h"
    assert spellings["/usr/include/c++/bits/stl_numeric.h"] == "/usr/include/c++/numeric"
    assert spellings["ops/relu.h"] == "ops/relu.h"


def test_it_survives_being_written_down() -> None:
    assert Index.from_json(_index().to_json()) == _index()
