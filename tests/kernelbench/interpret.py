"""Every Triton candidate of the set in Triton's interpreter, against its reference: `TRITON_INTERPRET=1 python interpret.py SET`.

Prints a line for each that differs, and how many there were; needs no GPU.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import torch

NOT_INTERPRETED = {
    "Matmul_bfloat16": "the interpreter multiplies the bits of bfloat16 operands, not their values"
}
TOLERANCE = {
    torch.float32: 1e-4,
    torch.float16: 1e-2,
    torch.bfloat16: 1e-2,
    torch.int32: 0.0,
    torch.int64: 0.0,
}


def load(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{file.parent.name}_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def difference(reference: ModuleType, candidate: ModuleType) -> str:
    """What differs; empty: nothing."""
    torch.manual_seed(0)
    model = reference.Model()
    ours = candidate.ModelNew()
    ours.load_state_dict(model.state_dict())
    inputs = reference.get_inputs()
    with torch.no_grad():
        wanted, found = model(*inputs), ours(*inputs)
    if (wanted.shape, wanted.dtype) != (found.shape, found.dtype):
        return f"{found.shape} {found.dtype} instead of {wanted.shape} {wanted.dtype}"
    tolerance = TOLERANCE[wanted.dtype]
    if torch.allclose(wanted, found, atol=tolerance, rtol=tolerance):
        return ""
    return f"off by {(wanted.double() - found.double()).abs().max().item():.3g}"


def main(folder: Path) -> int:
    wrong = compared = 0
    for file in sorted(folder.glob("level*/*.py")):
        number, _, name = file.stem.partition("_")
        if name in NOT_INTERPRETED:
            continue
        stem = f"level_{file.parent.name.removeprefix('level')}_problem_{number}_sample_0_kernel.py"
        said = difference(load(file), load(folder / "generations" / stem))
        compared += 1
        if said:
            wrong += 1
            print(f"{name}: {said}")
    print(f"{compared} compared, {wrong} differ")
    return wrong


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])) > 0)
