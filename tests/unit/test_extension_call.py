"""One call, one digest: however it is spelled, wherever it is read."""

from __future__ import annotations

import inspect
import json
import os
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keck_cell import ExtensionCall, ExtensionCallError, call_from_load, call_from_load_inline
from keck_cell.signature import SIGNATURE_OF_LOAD_INLINE

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_SOURCES = st.one_of(_TEXT, st.lists(_TEXT, min_size=1, max_size=3))
_FLAGS = st.none() | st.lists(st.sampled_from(["-O3", "-std=c++17", "-DX=1", "-lineinfo"]), max_size=3)
_ARGUMENTS = st.fixed_dictionaries(
    {
        "name": st.from_regex(r"[a-z_][a-z0-9_]{0,12}", fullmatch=True),
        "cpp_sources": _SOURCES,
        "cuda_sources": st.none() | _SOURCES,
        "sycl_sources": st.none(),
        "functions": st.none() | st.lists(st.sampled_from(["f", "g", "h"]), unique=True),
        "extra_cflags": _FLAGS,
        "extra_cuda_cflags": _FLAGS,
    }
)


@given(arguments=_ARGUMENTS, split=st.integers(0, 7))
def test_positional_and_keyword_spellings_have_one_digest(arguments: dict[str, Any], split: int) -> None:
    values = [(name, arguments[name]) for name in list(SIGNATURE_OF_LOAD_INLINE.parameters)[: len(arguments)]]
    mixed = call_from_load_inline([value for _, value in values[:split]], dict(values[split:]))
    assert mixed.digest() == call_from_load_inline((), arguments).digest()


@given(arguments=_ARGUMENTS)
def test_a_call_survives_json(arguments: dict[str, Any]) -> None:
    call = call_from_load_inline((), arguments)
    assert ExtensionCall.from_json(call.to_json()) == call
    assert ExtensionCall.from_json(call.to_json()).digest() == call.digest()


@example(
    arguments={"name": "x", "cpp_sources": "", "functions": ["f", "g"]},
    other={"name": "x", "cpp_sources": "", "functions": ["g", "f"]},
)
@given(arguments=_ARGUMENTS, other=_ARGUMENTS)
def test_calls_that_differ_have_different_digests(arguments: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = call_from_load_inline((), arguments), call_from_load_inline((), other)
    assert (first == second) == (first.digest() == second.digest())


def test_what_does_not_change_the_build_does_not_change_the_digest() -> None:
    plain = call_from_load_inline(("m", "int f();"), {"functions": ["f"]})
    dressed = call_from_load_inline(
        ("m", ["int f();"]),
        {
            "functions": {"f": "f"}, "verbose": True, "build_directory": "/elsewhere", "use_pch": True,
            "with_cuda": False, "keep_intermediates": False, "extra_cflags": [],
        },
    )  # fmt: skip
    assert plain.digest() == dressed.digest()


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        (("m",), {}, "missing a required argument: 'cpp_sources'"),
        (("m", "a", "b", ["f"]), {}, "fourth positional argument"),
        (("m", ("a",)), {}, "must be a string or a list of strings, not tuple"),
        (("m", None), {}, "not NoneType"),
        (("m", [1]), {}, "must hold strings, not int"),
        (("m", "a"), {"functions": ("f",)}, "must be a list or a dict"),
        (("m", "a"), {"extra_cflags": "-O3"}, "`extra_cflags` of extension `m` must be a list"),
        (("m", "a"), {"colour": 1}, "unexpected keyword argument 'colour'"),
        (("../m", "a"), {}, "cannot be used"),
        (("m;rm -rf", "a"), {}, "cannot be used"),
        (("m", "\ud800"), {}, "not valid Unicode"),
        (("m", "x" * (5 << 20)), {}, "at most"),
    ],
)
def test_what_cannot_be_built_is_refused_with_a_sentence(
    args: tuple[Any, ...], kwargs: dict[str, Any], said: str
) -> None:
    with pytest.raises(ExtensionCallError, match=said):
        call_from_load_inline(args, kwargs)


@pytest.mark.parametrize(
    "change",
    [
        {"name": 7}, {"kind": "setup"}, {"with_cuda": "yes"}, {"is_python_module": 1}, {"cpp_sources": "text"},
        {"cpp_sources": [1]}, {"files": [["../x.cpp", ""]]}, {"headers": [["a/../../b.h", ""]]},
        {"functions": [["f"]]}, {"files": [["a.cpp", ""], ["a.cpp", ""]]}, {"surplus": 1},
    ],
)  # fmt: skip
def test_a_forged_record_is_refused(change: dict[str, Any]) -> None:
    content = call_from_load_inline(("m", "int f();"), {}).to_dict() | change
    with pytest.raises(ExtensionCallError):
        ExtensionCall.from_json(json.dumps(content))


def test_no_json_is_refused() -> None:
    for text in ("", "[]", "null", "{", "[" * 100_000):
        with pytest.raises(ExtensionCallError):
            ExtensionCall.from_json(text)


def test_load_takes_along_its_sources_and_the_headers_they_include(tmp_path: Path) -> None:
    (tmp_path / "inc" / "deep").mkdir(parents=True)
    (tmp_path / "a.cpp").write_text('#include "beside.h"\n#include <deep/one.h>\n#include <vector>\n')
    (tmp_path / "beside.h").write_text("// beside")
    (tmp_path / "inc" / "deep" / "one.h").write_text('#include "two.h"\n')
    (tmp_path / "inc" / "deep" / "two.h").write_text("// two")
    call = call_from_load(
        ("m", [str(tmp_path / "a.cpp")]),
        {"extra_include_paths": [str(tmp_path / "inc"), "/usr/local/cuda/include"]},
    )
    assert [name for name, _ in call.files] == ["a.cpp"]
    assert [name for name, _ in call.headers] == ["beside.h", "deep/one.h", "deep/two.h"]
    assert call.extra_include_paths == ("{{cuda}}/include",)


def test_the_digest_does_not_depend_on_where_files_lie(tmp_path: Path) -> None:
    digests = set()
    for place in ("x", "y"):
        (tmp_path / place).mkdir()
        source = tmp_path / place / f"random_{place}.cpp"
        source.write_text('#include "h.h"')
        (tmp_path / place / "h.h").write_text("// same")
        include = [str(tmp_path / place)]
        digests.add(call_from_load(("m", str(source)), {"extra_include_paths": include}).digest())
    assert len(digests) == 1
    (tmp_path / "y" / "h.h").write_text("// other")
    other = call_from_load(("m", str(tmp_path / "y" / "random_y.cpp")), {})
    assert other.digest() not in digests


def test_load_of_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExtensionCallError, match=r"cannot read 'none\.cpp': No such file"):
        call_from_load(("m", str(tmp_path / "none.cpp")), {})
    with pytest.raises(ExtensionCallError, match="source files end in"):
        call_from_load(("m", str(tmp_path / "lib.so")), {})


def test_toolchain_paths_in_flags_do_not_name_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    site = sysconfig.get_path("purelib")
    monkeypatch.setenv("CUDA_HOME", "/somewhere/cuda")
    call = call_from_load_inline(
        ("m", "x"),
        {"extra_ldflags": ["-L/somewhere/cuda/lib64", f"-L{site}/torch/lib", "-L/usr/local/cuda-12.4/lib64"]},
    )
    assert call.extra_ldflags == ("-L{{cuda}}/lib64", "-L{{site}}/torch/lib", "-L{{cuda}}/lib64")
    assert os.path.basename(os.path.dirname(site)) not in call.to_json()


def test_the_fourth_parameter_is_where_torch_has_it() -> None:
    assert list(SIGNATURE_OF_LOAD_INLINE.parameters)[:5] == [
        "name", "cpp_sources", "cuda_sources", "sycl_sources", "functions",
    ]  # fmt: skip
    assert SIGNATURE_OF_LOAD_INLINE.parameters["name"].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
