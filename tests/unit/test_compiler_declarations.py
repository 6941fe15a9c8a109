"""Reading what a preprocessed text declares, and where."""

from __future__ import annotations

from keck_compiler.lean.declarations import Declaration, read_unit

_TEXT = """\
# 1 "main.cpp"
# 1 "<built-in>" 1
# 1 "main.cpp" 2
# 1 "/torch/a.h" 1
#define LIMIT(x) ((x) < 3)
namespace at { namespace detail { struct Inner { int hidden(); }; } }
namespace at {
class Tensor;
class __attribute__((visibility("default"))) Scalar : public Base<int> { void member() { int local; } };
inline Scalar sum(const Scalar& x, int dim = 0) { for (;;) { break; } return x; }
template <typename T, int N = (3 > 2)> std::vector<T> many(T (&array)[N]);
std::ostream& operator<<(std::ostream& out, const Scalar& s);
constexpr auto kFloat = ScalarType::Float;
typedef std::function<bool(const int& a, const int& b)> Comparator;
using IntArrayRef = c10::ArrayRef<int>;
using c10::Half;
enum Reduction { None, Mean = 1 << 2, Sum };
enum class Layout { Strided };
void (*hook)(int);
extern "C" { int plain(void); }
inline namespace v1 { int versioned(); }
}
namespace std { template <> struct hash<at::Scalar> { int operator()(); }; }
int at::Tensor::method() const { return 1; }
# 1 "/torch/b.h" 1
namespace torch::nn { struct Linear {}; }
# 3 "/torch/a.h" 2
const char* text = R"x( namespace fake { int nothing; } )x";
# 2 "main.cpp" 2
"""


def _named(name: str) -> Declaration:
    (found,) = [
        item for item in read_unit(_TEXT).declarations if item.name == name and item.kind != "namespace"
    ]
    return found


def test_functions_classes_types_and_variables_are_found_where_they_are() -> None:
    for name in (
        "sum",
        "many",
        "Scalar",
        "kFloat",
        "IntArrayRef",
        "Comparator",
        "hook",
        "plain",
        "versioned",
    ):
        found = _named(name)
        assert (found.kind, found.namespaces, found.file) == ("name", ("at",), "/torch/a.h"), found
    assert _named("Linear").namespaces == ("torch", "nn")
    assert _named("Linear").file == "/torch/b.h"
    assert _named("text").file == "/torch/a.h"


def test_what_is_in_bodies_parameters_and_strings_is_no_declaration() -> None:
    names = {item.name for item in read_unit(_TEXT).declarations}
    assert not names & {
        "hidden",
        "member",
        "local",
        "dim",
        "x",
        "array",
        "a",
        "b",
        "fake",
        "nothing",
        "method",
    }


def test_enumerators_count_where_they_can_be_said_alone() -> None:
    names = {item.name for item in read_unit(_TEXT).declarations}
    assert {"None", "Mean", "Sum", "Reduction", "Layout"} <= names
    assert "Strided" not in names


def test_kinds_tell_macros_operators_specialisations_and_repetitions_apart() -> None:
    assert _named("LIMIT").kind == "macro"
    assert _named("Tensor").kind == "forward"
    assert _named("Half").kind == "using"
    assert (_named("hash").kind, "Scalar" in _named("hash").words) == ("specialisation", True)
    operator = _named("operator")
    assert (operator.kind, {"ostream", "Scalar"} <= operator.words) == ("operator", True)


def test_it_is_known_who_included_what_and_which_words_occur() -> None:
    unit = read_unit(_TEXT)
    assert unit.includers["/torch/b.h"] == "/torch/a.h"
    assert {"local", "Strided", "LIMIT"} <= unit.words
