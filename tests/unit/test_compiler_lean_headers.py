"""Cutting torch's own headers: the installed ones, and what is refused."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from keck_compiler.lean.headers import UnsuitedHeaders, lean_headers, lean_operator


@pytest.fixture(scope="module")
def include() -> Path:
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "include"


def test_the_installed_torchs_headers_keep_every_declaration_and_lose_their_bodies(include: Path) -> None:
    lean = lean_headers(include)
    stock = (include / "ATen/core/TensorBody.h").read_text()
    body = lean.files["ATen/core/TensorBody.h"]
    in_class = re.compile(r"class TORCH_API Tensor: public TensorBase \{.*?^\};", re.DOTALL | re.MULTILINE)
    found, expected = in_class.search(body), in_class.search(stock)
    assert found is not None
    assert expected is not None
    assert found[0] == expected[0]
    assert "at::_ops::" not in body
    # Whatever was cut is in the source that the linker gets it from.
    for method in "at::Tensor Tensor::sum(":
        assert method in stock
        assert method in lean.bodies
    factories = lean.files["torch/csrc/autograd/generated/variable_factories.h"]
    assert re.search(
        r"^at::Tensor zeros\(at::IntArrayRef size, at::TensorOptions options = \{\}\);$",
        factories,
        re.MULTILINE,
    )
    assert re.search(
        r"^at::Tensor zeros\(at::IntArrayRef size, at::TensorOptions options\) \{", lean.bodies, re.MULTILINE
    )
    assert "using namespace at" in lean.files["keck/types.h"]


def test_an_operator_keeps_all_its_overloads_and_the_classes_it_converts_to(include: Path) -> None:
    stock, lean = (include / "ATen/ops/cat.h").read_text(), lean_operator(include, "cat")
    signatures = re.compile(r"^inline [^\n]*\{$", re.MULTILINE)
    assert signatures.findall(lean) == signatures.findall(stock)
    assert "#include <ATen/ops/cat_ops.h>" in lean
    assert "#include <ATen/core/IListRef.h>" in lean
    assert "ATen/Context.h" not in lean


def test_headers_of_another_form_are_refused(tmp_path: Path) -> None:
    (tmp_path / "ATen/core").mkdir(parents=True)
    (tmp_path / "ATen/core/TensorBody.h").write_text("#pragma once\nclass Tensor {};\n")
    with pytest.raises(UnsuitedHeaders, match="does not define its methods"):
        lean_headers(tmp_path)
