"""Real recording processes find what candidates build. Each costs an import of torch, so a test asks much."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from keck.testing import sample_request
from keck.verdict import Verdict
from keck_cell import ExtensionCall, call_from_load_inline
from keck_compiler.failure import Failure
from keck_compiler.recorder import Recorder
from keck_compiler.scan import builder_sites
from keck_compiler.toolchain import find_toolchain

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_HEAD = "import torch\nfrom torch.utils.cpp_extension import load, load_inline\n"
_MODEL = "class ModelNew(torch.nn.Module):\n    def forward(self, x):\n        return x\n"
_REFERENCE = (
    "import torch\nclass Model(torch.nn.Module):\n    pass\n"
    "def get_inputs():\n    return []\n"
    "def get_init_inputs():\n    return [3, (1, 2.5), {'mode': 'fast'}]\n"
)


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(toolchain=find_toolchain(tmp_path), timeout_s=60, memory_bytes=8 << 30)


async def _record(recorder: Recorder, candidate: str, **options: Any) -> tuple[ExtensionCall, ...] | Failure:
    request = sample_request(candidate=candidate, reference=_REFERENCE)
    sites = builder_sites(candidate)
    return await recorder.calls(request, arch=options.get("arch", "9.0"), sites=sites)


async def _calls(recorder: Recorder, candidate: str, **options: Any) -> tuple[ExtensionCall, ...]:
    found = await _record(recorder, candidate, **options)
    assert not isinstance(found, Failure), found
    return found


async def _failure(recorder: Recorder, candidate: str) -> Failure:
    found = await _record(recorder, candidate)
    assert isinstance(found, Failure), found
    assert found.verdict is Verdict.FORMAT_ERROR
    return found


async def test_every_way_of_writing_a_call_at_import_is_found(recorder: Recorder) -> None:
    candidate = f"""{_HEAD}
import os
import torch.utils.cpp_extension as ext

first = load_inline("positional", "int f();", None, None, ["f"])
bodies = "\\n".join(f"int g{{n}}() {{{{ return {{n}}; }}}}" for n in range(2))   # a computed source
second = load_inline(cpp_sources=[bodies], name="computed", functions={{"g0": "doc"}})
for n in range(2):
    globals()[f"loop{{n}}"] = ext.load_inline(name=f"loop{{n}}", cpp_sources="// empty")

def build():
    return load_inline(name="in_function", cpp_sources="PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {{}}")

anything = build()
function = anything.some.attribute
assert hasattr(anything, "g") and not hasattr(anything, "__iter__")

os.makedirs("csrc", exist_ok=True)
open("csrc/own.h", "w").write("// own header")
open("csrc/own.cpp", "w").write('#include "own.h"\\n')
loaded = load(name="from_file", sources=["csrc/own.cpp"])
{_MODEL}"""
    calls = {call.name: call for call in await _calls(recorder, candidate)}
    assert list(calls) == ["positional", "computed", "loop0", "loop1", "in_function", "from_file"]
    # What the runner will look for is what a plain call of the same content hashes to.
    assert calls["positional"] == call_from_load_inline(
        (), {"name": "positional", "cpp_sources": "int f();", "functions": ["f"]}
    )
    assert calls["computed"].cpp_sources == ("int g0() { return 0; }\nint g1() { return 1; }",)
    assert calls["from_file"].files == (("own.cpp", '#include "own.h"\n'),)
    assert calls["from_file"].headers == (("own.h", "// own header"),)


async def test_a_call_in_init_is_found_by_constructing_the_model_without_the_reference_in_sight(
    recorder: Recorder,
) -> None:
    candidate = f"""{_HEAD}
import glob
assert [name for name in glob.glob("../**", recursive=True) if name.endswith(".py")] == ["../candidate.py"]
class ModelNew(torch.nn.Module):
    def __init__(self, size, pair, options):
        super().__init__()
        assert pair == (1, 2.5) and isinstance(pair, tuple) and options == {{"mode": "fast"}}
        self.ext = load_inline(name=f"sized_{{size}}", cpp_sources="int f();", functions=["f"])
        self.function = self.ext.f
"""
    assert [call.name for call in await _calls(recorder, candidate)] == ["sized_3"]


async def test_what_asks_for_a_gpu_takes_the_way_it_takes_on_an_executor(recorder: Recorder) -> None:
    candidate = f"""{_HEAD}
if torch.cuda.is_available():
    major, minor = torch.cuda.get_device_capability()
    flags = [f"-gencode=arch=compute_{{major}}{{minor}},code=sm_{{major}}{{minor}}"]
    ext = load_inline(name="gpu", cpp_sources="", cuda_sources="__global__ void k() {{}}", extra_cuda_cflags=flags)
    warm = torch.ones(1, device="cuda")    # there is none on a builder: of no matter after the last call
{_MODEL}"""
    (call,) = await _calls(recorder, candidate, arch="9.0")
    assert call.extra_cuda_cflags == ("-gencode=arch=compute_90,code=sm_90",)


async def test_an_extension_first_built_in_forward_is_refused_with_the_way_to_write_it(
    recorder: Recorder,
) -> None:
    candidate = f"""{_HEAD}
class ModelNew(torch.nn.Module):
    def __init__(self, *args):
        super().__init__()
    def forward(self, x):
        return load_inline(name="late", cpp_sources="int f();").f(x)
"""
    failure = await _failure(recorder, candidate)
    assert "line 8" in failure.message
    assert "at the top of the module" in failure.message


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("undefined_name\nload_inline('a', '')", "NameError: name 'undefined_name' is not defined"),
        ("load_inline('a')", "missing a required argument: 'cpp_sources'"),
        ("import os\nos._exit(3)\nload_inline('a', '')", "exited with status 3"),
        ("import os\nos.kill(os.getpid(), 11)\nload_inline('a', '')", "killed by SIGSEGV"),
        ("import os\nos.mkdir('recorded.json')\nos._exit(0)\nload_inline('a', '')", "exited with status 0"),
        (
            "open('recorded.json', 'w').write('{{}}')\nimport os\nos._exit(0)\nload_inline('a', '')",
            "unreadable",
        ),
        ("x = load_inline('a', '').f(1)\nload_inline('b', '')", "can be called in forward"),
    ],
)
async def test_an_import_that_ends_too_early_is_a_format_error(
    recorder: Recorder, body: str, said: str
) -> None:
    failure = await _failure(recorder, f"{_HEAD}{body}\n{_MODEL}")
    assert said in failure.message


async def test_an_import_that_never_ends_is_ended(tmp_path: Path) -> None:
    impatient = Recorder(toolchain=find_toolchain(tmp_path), timeout_s=1.5, memory_bytes=8 << 30)
    failure = await _failure(impatient, f"{_HEAD}while True: pass\nload_inline('a', '')\n{_MODEL}")
    assert "longer than 1.5 s" in failure.message
