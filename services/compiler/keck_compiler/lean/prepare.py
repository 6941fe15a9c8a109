"""Everything the fast recipe needs of one toolchain, made once.

``python -m keck_compiler.lean.prepare DIRECTORY [FLAGS…]`` with ``flags.json`` in it: the flags torch gives a C++ source, and the
commands of the compiler and the linker. Leaves below it the lean headers, the precompiled one, ``bodies.o``, and
``index.json``. With flags it only precompiles the header once more, for sources that are given these flags besides torch's.
It reads torch's own files only, nothing of a candidate's.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from keck_compiler.lean.declarations import Unit, read_unit
from keck_compiler.lean.headers import API, EXTENSION, LEAN_TYPES, Lean, UnsuitedHeaders, lean_headers
from keck_compiler.lean.index import index_of, path_below

__all__ = [
    "BODIES",
    "FLAGS",
    "HEADERS",
    "INDEX",
    "SYMBOLS",
    "Flags",
    "is_precompiled",
    "main",
    "precompile",
    "precompiled_name",
]

FLAGS, INDEX, HEADERS, BODIES, SYMBOLS = "flags.json", "index.json", "headers", "bodies.o", "symbols.json"
_CASTER = "type_caster"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What ``flags.json`` holds."""

    include: str
    """torch's include directory."""
    compiler: str
    cflags: tuple[str, ...]
    """As torch gives them to a source without flags of its own."""

    def to_json(self) -> str:
        """As text that :meth:`from_json` reads."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Flags:
        """What :meth:`to_json` wrote."""
        content = json.loads(text)
        return cls(include=content["include"], compiler=content["compiler"], cflags=tuple(content["cflags"]))


class Unprepared(Exception):
    """The fast recipe cannot be used with this toolchain; the message says why."""


def main() -> None:
    """Make it all; exits with a sentence where that cannot be done."""
    directory = Path(sys.argv[1]).resolve()
    flags = Flags.from_json((directory / FLAGS).read_bytes())
    try:
        if sys.argv[2:]:
            precompile(directory, flags, tuple(sys.argv[2:])).wait()
        else:
            prepare(directory, flags)
    except (UnsuitedHeaders, Unprepared, OSError, ValueError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


def prepare(directory: Path, flags: Flags) -> None:
    """Make it all.

    Raises:
        UnsuitedHeaders: torch's headers have another form.
        Unprepared: a compiler refuses them, or bindings would miss a caster.
        OSError: files cannot be read or written.
    """
    lean = lean_headers(Path(flags.include))
    headers = directory / HEADERS
    _write(headers, lean)
    # Other headers of torch's include it too.
    _put(headers / "torch/types.h", f"#pragma once\n#include <{LEAN_TYPES}>\n")
    (directory / "bodies.cpp").write_text(lean.bodies)
    compile_ = [flags.compiler, *flags.cflags]
    lean_compile = [flags.compiler, "-I", str(headers), *flags.cflags]
    bodies = _Task([*lean_compile, "-O1", "-ffunction-sections", "-c", "bodies.cpp", "-o", BODIES], directory)
    precompiled = precompile(directory, flags, ())
    roots = {f"{flags.include}/{API}/": "", f"{flags.include}/": "", f"{headers}/": ""}
    stock = _preprocessed(compile_, "torch/extension.h", directory)
    index = index_of(
        stock=stock,
        types=_preprocessed(compile_, "torch/types.h", directory),
        light=_preprocessed(lean_compile, LEAN_TYPES, directory),
        host=_preprocessed(lean_compile, EXTENSION, directory),
        roots=roots,
    )
    missing = {
        path_below(item.file, roots)
        for item in stock.declarations
        if item.kind == "specialisation" and item.name == _CASTER
    } - index.host
    if missing:
        raise Unprepared(f"bindings would miss the casters of {', '.join(sorted(missing))}")
    bodies.wait()
    precompiled.wait()
    (directory / SYMBOLS).write_text(json.dumps(sorted(_defined(directory / BODIES))))
    # Last: with it, everything is there.
    (directory / INDEX).write_text(index.to_json())


def precompile(directory: Path, flags: Flags, extra: tuple[str, ...]) -> _Task:
    """Start to precompile the lean ``torch/extension.h`` for sources with `extra` flags."""
    header = directory / HEADERS / EXTENSION
    place = header.with_name(f"{header.name}.gch")
    place.mkdir(exist_ok=True)
    # Each build defines its name in its own way.
    named = [flag for flag in flags.cflags if not flag.startswith("-DTORCH_EXTENSION_NAME")]
    # The compiler looks at every file in the directory: one that is not whole must not be there.
    part, whole = directory / f"{precompiled_name(extra)}.part", place / precompiled_name(extra)
    command = [flags.compiler, "-I", str(directory / HEADERS), *named, *extra]
    command += ["-x", "c++-header", str(header), "-o", str(part)]
    return _Task(command, directory, then=lambda: part.replace(whole))


def precompiled_name(flags: Sequence[str]) -> str:
    """The file, among those of one header, that was made with these flags besides torch's."""
    return "".join(letter if letter.isalnum() else "_" for letter in " ".join(flags)) or "plain"


def is_precompiled(directory: Path, extra: Sequence[str]) -> bool:
    """Whether the header is there for sources with these flags besides torch's."""
    return (directory / HEADERS / f"{EXTENSION}.gch" / precompiled_name(extra)).is_file()


def _write(headers: Path, lean: Lean) -> None:
    for name, text in lean.files.items():
        _put(headers / name, text)


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


class _Task:
    """A compiler at work beside us."""

    def __init__(
        self, command: Sequence[str], directory: Path, then: Callable[[], object] = lambda: None
    ) -> None:
        self._done = subprocess.CompletedProcess[str]([], 1)
        self._then = then
        self._thread = threading.Thread(target=self._run, args=(command, directory))
        self._thread.start()

    def _run(self, command: Sequence[str], directory: Path) -> None:
        self._done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)

    def wait(self) -> None:
        """Until it is done.

        Raises:
            Unprepared: it refuses.
        """
        self._thread.join()
        if self._done.returncode:
            raise Unprepared(_first_line(self._done.stderr))
        self._then()


def _preprocessed(command: Sequence[str], header: str, directory: Path) -> Unit:
    done = subprocess.run(
        [*command, "-E", "-dD", "-x", "c++", "-"],
        input=f"#include <{header}>\n", cwd=directory, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise Unprepared(_first_line(done.stderr))
    return read_unit(done.stdout)


def _defined(file: Path) -> set[str]:
    done = subprocess.run(
        ["nm", "--defined-only", "--extern-only", "-P", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    # T: what bodies.cpp defines itself; W and V are inline functions that every user brings along.
    return {
        parts[0] for line in done.stdout.splitlines() if len(parts := line.split()) > 1 and parts[1] == "T"
    }


def _first_line(text: str) -> str:
    lines = [line for line in text.splitlines() if "error" in line] or text.splitlines()
    return lines[0][:300] if lines else "it says nothing"


if __name__ == "__main__":
    main()
