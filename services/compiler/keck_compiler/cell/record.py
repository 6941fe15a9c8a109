"""Run a candidate's module once, building nothing, and write down every extension it asks for.

``python -m keck_compiler.cell.record [--pretend-arch 9.0] [--init FILE]`` below a directory with ``candidate.py``;
writes ``recorded.json`` where it starts. What it writes is the candidate's own word, since they share a process: the
service validates it, and all it can decide is what gets built for this candidate.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from keck_cell import ExtensionCall, ExtensionCallError, replace_builders
from keck_compiler.cell.init_inputs import revive
from keck_compiler.cell.pretended_gpu import pretend_gpu
from keck_compiler.cell.stand_in import StandIn

__all__ = ["main"]

CANDIDATE = "candidate.py"
GIVEN = Path("..")
"""The cell's own directory, which it can only read; it starts in the one below that it can write."""
RECORDED = "recorded.json"
_MAX_CALLS = 32
_MAX_ERROR_CHARS = 4_000


class _Recorder:
    """Notes calls, and from which lines of the candidate they came."""

    def __init__(self) -> None:
        self.calls: dict[str, ExtensionCall] = {}
        self.lines: set[int] = set()

    def __call__(self, call: ExtensionCall) -> object:
        self.calls[call.digest()] = call
        if len(self.calls) > _MAX_CALLS:
            raise ExtensionCallError(f"more than {_MAX_CALLS} extensions in one candidate")
        frame = sys._getframe(1)
        while frame.f_back is not None:
            if os.path.basename(frame.f_code.co_filename) == CANDIDATE:
                self.lines.add(frame.f_lineno)
            frame = frame.f_back
        # torch returns the library's path where no Python module is asked for.
        return StandIn(call.name) if call.is_python_module else f"{call.name}.so"


def main() -> None:
    """Record, write the result, end at once: nothing the candidate left running may hold the process up."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pretend-arch", default="")
    parser.add_argument("--init", default="")
    arguments = parser.parse_args()
    recorder = _Recorder()
    replace_builders(recorder)
    if arguments.pretend_arch:
        pretend_gpu(arguments.pretend_arch)
    result: dict[str, Any] = {"error": "", "trace": "", "refused": False}
    try:
        module = _import_candidate((GIVEN / CANDIDATE).resolve())
        if arguments.init:
            module.ModelNew(*revive(json.loads((GIVEN / arguments.init).read_text())))
    except BaseException as error:  # noqa: BLE001 - the loop boundary of a program that runs foreign code
        # SystemExit and KeyboardInterrupt too: whatever ends the import is the candidate's error.
        result["error"] = _one_line(error)
        result["trace"] = _trace(error)
        result["refused"] = isinstance(error, ExtensionCallError)
    result["calls"] = [call.to_dict() for call in recorder.calls.values()]
    result["lines"] = sorted(recorder.lines)
    Path(RECORDED).write_text(json.dumps(result))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _import_candidate(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("candidate", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["candidate"] = module
    spec.loader.exec_module(module)
    return module


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    name = type(error).__name__
    return (f"{name}: {text}" if text else name)[:500]


def _trace(error: BaseException) -> str:
    # The first frames are this program's and the import system's: of no use to the candidate's author.
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.endswith(CANDIDATE)]
    lines = traceback.format_list(frames) + traceback.format_exception_only(error)
    return "".join(lines)[-_MAX_ERROR_CHARS:]


if __name__ == "__main__":
    main()
