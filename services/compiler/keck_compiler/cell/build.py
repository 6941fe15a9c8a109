"""Build one recorded call with torch's own ``load_inline`` or ``load``, and do not import what comes out.

``python -m keck_compiler.cell.build [--lean DIRECTORY]`` below a directory with ``call.json``; the module ends up in
``work/`` where it starts. The commands and flags are torch's by construction: only the last step, importing the
module, is taken out. With ``--lean`` the sources see the lean headers instead of torch's. The exit status says who is
to blame: 0 built, 1 the compilers refused, 3 torch refused the arguments, 4 the lean headers will not do and
``doubt.txt`` says why; anything else is ours.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

from keck_cell import ExtensionCall
from keck_cell.paths import local
from keck_compiler.cell.lean import DOUBT, InDoubt, use_lean_headers

__all__ = ["EXIT_ARGUMENTS_REFUSED", "EXIT_COMPILERS_REFUSED", "EXIT_IN_DOUBT", "main"]

CALL = "../call.json"
WORK = "work"
SOURCES = "src"
PTXAS_SAYS = "--ptxas-options=-v"
"""Have ptxas say what each kernel takes; it makes the same code of it."""
EXIT_COMPILERS_REFUSED = 1
EXIT_ARGUMENTS_REFUSED = 3
EXIT_IN_DOUBT = 4


def main(argv: Sequence[str] | None = None) -> None:
    """Build what ``call.json`` says; `argv` are the arguments, the process's own if not given."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lean", type=Path)
    parser.add_argument("--plan", action="store_true", help="write the ninja file and stop")
    arguments = parser.parse_args(argv)
    call = ExtensionCall.from_json(Path(CALL).read_text())
    here = Path.cwd()
    _write_files(call, here / SOURCES)
    (here / WORK).mkdir()
    # It warns that there is no GPU, in every log.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    module = _builders()
    if arguments.plan:
        module._run_ninja_build = lambda build_directory, verbose, error_prefix: None
    if arguments.lean is not None:
        use_lean_headers(module, arguments.lean, here=here, headers=[text for _, text in call.headers])
    try:
        _build(module, call, here)
    except InDoubt as doubt:
        Path(DOUBT).write_text(str(doubt))
        sys.exit(EXIT_IN_DOUBT)
    except RuntimeError as error:
        if isinstance(error.__cause__, CalledProcessError):
            sys.exit(EXIT_COMPILERS_REFUSED)  # ninja has printed everything
        raise
    except (TypeError, ValueError) as error:
        print(f"torch.utils.cpp_extension.{call.kind}: {error}")
        sys.exit(EXIT_ARGUMENTS_REFUSED)


def _builders() -> Any:
    """torch's builders without the import of the result and without writes outside this directory."""
    from torch.utils import cpp_extension  # noqa: PLC0415 - seconds, and only once the files are there

    builders: Any = cpp_extension
    builders._import_module_from_library = lambda name, path, is_python_module: None
    # It deletes precompiled headers from torch's own installation.
    builders.remove_extension_h_precompiler_headers = lambda: None
    return builders


def _build(builders: Any, call: ExtensionCall, here: Path) -> None:
    own = [str(here / SOURCES)] if call.headers else []
    shared: dict[str, Any] = {
        "name": call.name,
        "extra_cflags": [local(flag) for flag in call.extra_cflags],
        "extra_cuda_cflags": [*(local(flag) for flag in call.extra_cuda_cflags), PTXAS_SAYS],
        "extra_ldflags": [local(flag) for flag in call.extra_ldflags],
        "extra_include_paths": own + [local(path) for path in call.extra_include_paths],
        "build_directory": str(here / WORK),
        "verbose": True,
        "with_cuda": call.with_cuda,
        "is_python_module": call.is_python_module,
    }
    if call.kind == "load":
        builders.load(sources=[str(here / SOURCES / name) for name, _ in call.files], **shared)
        return
    builders.load_inline(
        cpp_sources=list(call.cpp_sources),
        cuda_sources=list(call.cuda_sources),
        functions=None if call.functions is None else dict(call.functions),
        with_pytorch_error_handling=call.with_pytorch_error_handling,
        no_implicit_headers=call.no_implicit_headers,
        **shared,
    )


def _write_files(call: ExtensionCall, directory: Path) -> None:
    for name, text in (*call.headers, *call.files):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())


if __name__ == "__main__":
    main()
