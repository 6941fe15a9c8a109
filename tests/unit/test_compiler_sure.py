"""Which refusals of the fast recipe may stand without asking the stock one."""

from __future__ import annotations

import pytest

from keck.messages import Diagnostic
from keck_compiler.lean.sure import is_sure

_FILES = ("main.cpp", "cuda.cu")
_WORDS = ("empty", "Tensor")


def _error(text: str, file: str = "cuda.cu") -> list[Diagnostic]:
    return [
        Diagnostic(file=file, line=1, column=0, severity="warning", text="whatever"),
        Diagnostic(file=file, line=3, column=0, severity="error", text=text),
    ]


@pytest.mark.parametrize(
    "text",
    [
        'expected a ";"',
        'identifier "factor" is undefined',
        'namespace "torch" has no member "empty_lik"',
        'class "at::Tensor" has no member "numell"',
        "too few arguments in function call",
        'argument of type "double *" is incompatible with parameter of type "float *"',
        'a value of type "const char *" cannot be used to initialize an entity of type "int"',
        "expected \u2018;\u2019 before \u2018}\u2019 token",
    ],
)
def test_errors_in_the_candidates_own_text_are_sure(text: str) -> None:
    assert is_sure(_error(text), _FILES, _WORDS)


@pytest.mark.parametrize(
    "text",
    [
        'identifier "Tensor" is undefined',  # torch knows it: the lean headers may lack it
        'namespace "torch" has no member "empty"',
        "\u2018factor\u2019 was not declared in this scope; did you mean \u2018fabs\u2019?",
        "\u2018factor\u2019 was not declared in this scope",  # torch's own headers may have one to suggest
        'incomplete type "at::Generator" is not allowed',
        'more than one instance of overloaded function "relu" matches the argument list:',
        'no operator "<<" matches these operands',
        "no matching function for call to \u2018f()\u2019",
    ],
)
def test_errors_whose_words_may_depend_on_other_headers_are_not(text: str) -> None:
    assert not is_sure(_error(text), _FILES, _WORDS)


def test_errors_in_torchs_headers_and_of_the_linker_are_not() -> None:
    assert not is_sure(_error('expected a ";"', file="torch/include/ATen/core/TensorBody.h"), _FILES, _WORDS)
    assert not is_sure(_error("undefined reference to `f'", file="main.o"), _FILES, _WORDS)
    assert not is_sure([], _FILES, _WORDS)
