"""Which headers a candidate's text needs besides the lean ones, and when that is in doubt."""

from __future__ import annotations

import pytest

from keck_compiler.lean.demand import Demand, Doubt, demand_of
from keck_compiler.lean.index import Index, Place

_INDEX = Index(
    places={
        "relu": (
            Place("ATen/ops/relu.h", "at"),
            Place("torch/nn/functional.h", "torch", ("nn", "functional")),
        ),
        "max": (Place("ATen/ops/max.h", "at"),),
        "sum": (Place("ATen/ops/sum.h", "at"),),
        "accumulate": (Place("/usr/include/c++/bits/stl_numeric.h", "std"),),
        "AT_DISPATCH_FLOATING_TYPES": (Place("ATen/Dispatch.h", macro=True),),
        "PYBIND11_MODULE": (Place("pybind11/detail/common.h", macro=True),),
        "py": (Place("torch/csrc/utils/pybind.h"),),
        "Linear": (Place("torch/nn/modules/linear.h", "torch", ("nn",)),),
        "Function": (Place("torch/csrc/autograd/custom_function.h", "torch", ("autograd",)),),
    },
    types=frozenset({"ATen/Dispatch.h", "/usr/include/c++/bits/stl_numeric.h"}),
    host=frozenset({"torch/csrc/utils/pybind.h", "pybind11/detail/common.h"}),
    spellings={"/usr/include/c++/bits/stl_numeric.h": "/usr/include/c++/numeric"},
    words=frozenset({"relu", "max", "CHECK", "SIZE"}),
)
_TYPES = "#include <torch/types.h>\n"
_EXTENSION = "#include <torch/extension.h>\n"


def _cuda(text: str, *, head: str = _TYPES + _EXTENSION) -> Demand | Doubt:
    return demand_of(_INDEX, host=(), cuda=(head + text,))


def _needs(text: str) -> Demand:
    demand = _cuda(text)
    assert isinstance(demand, Demand), demand
    return demand


def test_a_name_brings_the_header_that_declares_it_however_it_is_found() -> None:
    # Found through its argument, unless the source has one of its own: then both make it ambiguous, as with stock.
    assert _needs("auto y = relu(x);").cuda.operators == ("relu",)
    assert _needs("auto y = at::relu(x); float m = max(a, b);").cuda.operators == ("max", "relu")
    assert _needs('AT_DISPATCH_FLOATING_TYPES(t, "f", [&] {})').cuda.types == ("ATen/Dispatch.h",)
    assert _needs("auto s = std::accumulate(a, b, 0);").cuda.types == ("/usr/include/c++/numeric",)


def test_members_and_other_namespaces_mean_other_declarations() -> None:
    assert _needs("auto y = x.sum(); auto z = p->max(); auto m = std::max(a, b);").cuda.operators == ()


def test_pybind11s_names_are_not_torchs() -> None:
    assert _needs('m.def("f", &f, py::relu(1));').cuda.operators == ()
    # A namespace is named to mean what is in it, not as a member of something.
    assert isinstance(_cuda("m.nn(x); auto l = Linear(3);"), Demand)


def test_comments_and_strings_say_nothing() -> None:
    assert _needs('// relu(x)\nconst char* s = "max";').cuda.operators == ()


def test_a_cuda_source_gets_python_only_where_it_speaks_of_it() -> None:
    assert not _needs("int x;").cuda.binding
    assert _needs("PYBIND11_MODULE(m, n) {}").cuda.binding
    # Stock's torch/types.h does not bring it either: both refuse.
    demand = _cuda("PYBIND11_MODULE(m, n) {}", head=_TYPES)
    assert isinstance(demand, Demand)
    assert not demand.cuda.binding


def test_complex_numbers_and_nvidias_own_library_bring_thrust() -> None:
    assert not _needs("at::cuda::getCurrentCUDAStream();").cuda.complex_numbers
    assert _needs("c10::complex<float> z;").cuda.complex_numbers
    assert _needs("cuda::std::array<int, 3> a;").cuda.complex_numbers
    assert _needs("AT_DISPATCH_ALL_TYPES_AND_COMPLEX(t)").cuda.complex_numbers


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("#define JOIN(a, b) a##b", "put together"),
        ("using namespace torch;", "using namespace torch"),
        ("using namespace at;", "using namespace at"),
        ("#define SIZE 3\n#include <vector>", "defined before"),
        ("torch::nn::Linear layer(3, 4);", "linear.h"),
        ("struct F : torch::autograd::Function<F> {};", "custom_function.h"),
    ],
)
def test_what_the_rule_cannot_be_kept_for_is_in_doubt(text: str, reason: str) -> None:
    demand = _cuda(text)
    assert isinstance(demand, Doubt)
    assert reason in demand.reason


@pytest.mark.parametrize(
    "flag", ["-DSIZE=3", "-D SIZE", "-USIZE", "-DF(x)=relu(x)", "-include x.h", "-std=c++20"]
)
def test_flags_that_change_what_headers_declare_are_in_doubt(flag: str) -> None:
    assert isinstance(demand_of(_INDEX, host=(_EXTENSION,), cuda=(), flags=(flag,)), Doubt)


def test_other_flags_are_not() -> None:
    flags = (
        "-O3",
        "--use_fast_math",
        "-DNDEBUG",
        "-U__CUDA_NO_HALF_OPERATORS__",
        "-DBLOCK=256",
        "-std=c++17",
    )
    assert isinstance(demand_of(_INDEX, host=(_EXTENSION,), cuda=(), flags=flags), Demand)


def test_torch_under_a_condition_is_in_doubt_but_not_a_headers_guard() -> None:
    text = "#ifdef X\n#include <torch/extension.h>\n#endif\n"
    assert isinstance(demand_of(_INDEX, host=(_EXTENSION + text,), cuda=()), Doubt)
    assert isinstance(demand_of(_INDEX, host=(_EXTENSION,), cuda=(), headers=(text,)), Demand)


def test_parts_of_torch_and_different_parts_are_in_doubt() -> None:
    assert isinstance(_cuda("int x;", head="#include <ATen/Functions.h>\n"), Doubt)
    assert isinstance(
        demand_of(_INDEX, host=(_EXTENSION + "py::object f();", _TYPES + "int g();"), cuda=()), Doubt
    )


def test_ordinary_macros_and_namespaces_are_not() -> None:
    assert isinstance(
        _cuda("#include <vector>\n#define SIZE 3\nusing namespace std;\nnamespace cg = x::y;"), Demand
    )


def test_the_candidates_own_headers_count_for_all_its_sources() -> None:
    demand = demand_of(
        _INDEX, host=(_EXTENSION,), cuda=(_TYPES,), headers=("inline int m() { return max(1, 2); }",)
    )
    assert isinstance(demand, Demand)
    assert (demand.host.operators, demand.cuda.operators) == (("max",), ("max",))
