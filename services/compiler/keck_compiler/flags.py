"""Which compiler and linker flags a candidate may pass.

An allow-list of families, minus those that run another program, read what is not the candidate's or the
toolchain's, or write elsewhere. torch joins flags with blanks and hands the line to a shell, so words are
judged as the shell would see them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

from keck_cell import ExtensionCall
from keck_cell.paths import is_toolchain

__all__ = ["refused_flag"]

_MAX_LINE = 64 * 1024
"""All flags of one field: half of what Linux takes as one argument, which the whole command is to the shell."""
_MAX_NESTING = 8
_MAX_SHOWN = 200

_SHELL = re.compile(r"[;|&`$<>\n\r]")

_REFUSED = re.compile(
    r"""
      -B.*                                            # where the compiler's own programs are looked for
    | -{1,2}(ccbin|compiler-bindir|libdevice-directory|ldir|target-directory|tdir)\b.*
    | -fplugin.* | -wrapper.* | -{1,2}specs?\b.* | -dumpdir.* | -dumpbase.* | -aux-info.*
    | -x.* | --x\b.* | -{1,2}(run|dryrun|options-file|optf|run-args|clean-targets)\b.*
    | -o.* | -{1,2}(output-file|output-directory|odir|keep-dir|time|dependency-output|MF|MD|MMD|MT|MQ)\b.*
    | -M.* | -{1,2}sysroot.* | -isysroot.* | -iprefix.* | -iwithprefix.* | -imultilib.*
    | -fprofile.* | -fauto-profile.* | -fdump-.* | -fopt-info.* | -fcallgraph-info.* | -fmodule.*
    | -E | -S | -T.* | --script.* | -dT.* | --default-script.* | -fuse-ld=.*/.*
    """,
    re.VERBOSE,
)
_REFUSED_BY_LINKER = re.compile(
    r"""
      -T.* | -{1,2}(script|default-script|dynamic-linker|plugin|plugin-opt|just-symbols|audit|depaudit)\b.*
    | -dT.* | -I.* | -P.* | -R.* | -{1,2}(Map|output|out-implib|version-script|dynamic-list|retain-symbols-file)\b.*
    | -o.* | -{1,2}(sysroot|library-path|format|oformat|dependency-file|print-map)\b.* | -b.* | -c.* | -m.*
    """,
    re.VERBOSE,
)
_ALLOWED = re.compile(
    r"""
      -(O|std=|D|U|W|w|f|m|g|l|p|u|z|n|s|r|v|c|G|k|t|h|a|d|e|i|q|I|L|X|C).*
    | --(std|use_fast_math|expt-|extended-lambda|ptxas-options|compiler-options|linker-options|generate-code|
         gpu-architecture|gpu-code|maxrregcount|threads|split-compile|device-debug|generate-line-info|
         relocatable-device-code|fmad|ftz|prec-div|prec-sqrt|default-stream|diag|display-error-number|no-|
         optimize|Ofast-compile|extra-device-vectorization|restrict|resource-usage|source-in-ptx|verbose|
         Werror|Wno|Wext|Wdefault|Wreorder|Wmissing|disable-warnings|keep|param|entries|forward-|
         define-macro|undefine-macro|include-path|system-include|pre-include|library|library-path|dlink-time-opt|
         lineinfo|minimal|static-global|brief-diagnostics|fdevice|shared|pedantic|debug|profile|m64|machine|
         cudafe|nvlink-options|fatbin-options|compress-|device-|jump-table|objdir-as-tempdir|ptx|pthread|coverage).*
    """,
    re.VERBOSE,
)
_PATH_OPTION = re.compile(
    r"(-isystem|-iquote|-idirafter|-imacros|-include|-I|-L"
    r"|--include-path|--system-include|--pre-include|--library-path|--?rpath-link|--?rpath)=?(.*)"
)
_PASSED_ON = re.compile(
    r"(-Xcompiler|--compiler-options|-Xlinker|--linker-options|-Xptxas|--ptxas-options|-Xcudafe|-Xfatbin|"
    r"--fatbin-options|-Xnvlink|--nvlink-options|-Xpreprocessor|-Xassembler|-Wl|-Wa|-Wp)(?:[=,](.*))?"
)
_TO_LINKER = ("-Xlinker", "--linker-options", "-Wl", "-Xnvlink", "--nvlink-options")
_TAKES_TEXT = ("-D", "-U", "--define-macro", "--undefine-macro", "-l", "--library")
_INPUT_FILE = re.compile(r".*/.*|.*\.(o|a|so|cpp|cc|cxx|c|cu|ptx|cubin|ld|lds|x)(\.[0-9.]+)?")


def refused_flag(call: ExtensionCall) -> str | None:
    """Why the call's flags cannot be used, naming the flag; None if they can."""
    for field in ("extra_cflags", "extra_cuda_cflags", "extra_ldflags"):
        flags: tuple[str, ...] = getattr(call, field)
        reason = _first_refusal(flags)
        if reason is not None:
            return f"`{field}` of extension `{call.name}`: {reason}"
    return None


def _first_refusal(flags: Iterable[str]) -> str | None:
    line = " ".join(flags)
    if len(line) > _MAX_LINE:
        return f"{len(line)} characters of flags; at most {_MAX_LINE} are taken"
    found = _SHELL.search(line)
    if found is not None:
        return f"the character {found.group()!r} is not allowed in flags"
    try:
        words = shlex.split(line)
    except ValueError as error:
        return f"quotes are not balanced ({error})"
    return _judge(words, by_linker=False)


def _judge(words: list[str], *, by_linker: bool, nesting: int = 0) -> str | None:
    """Judge words in order; a word may be the value of the one before."""
    if nesting > _MAX_NESTING:
        return "options that pass on options are nested too deeply"
    previous = ""
    for word in words:
        reason = _judge_word(word, previous, by_linker=by_linker, nesting=nesting)
        if reason is not None:
            return reason
        previous = word
    return None


def _split(value: str) -> list[str]:
    return [word for word in re.split(r"[,\s]+", value) if word]


def _judge_word(word: str, previous: str, *, by_linker: bool, nesting: int) -> str | None:
    if word.startswith("@"):
        return f"response files are not allowed: `{_shown(word)}`"
    passed_on = _PASSED_ON.fullmatch(previous)
    if passed_on and passed_on.group(2) is None:
        return _judge(_split(word), by_linker=passed_on.group(1) in _TO_LINKER, nesting=nesting + 1)
    path_option = _PATH_OPTION.fullmatch(previous)
    if path_option and not path_option.group(2):
        return _judge_path(word, previous)
    if not word.startswith("-"):
        return _judge_bare(word, previous)
    if word == "-":
        return "reading a source from standard input is not allowed: `-`"
    return _judge_option(word, by_linker=by_linker, nesting=nesting)


def _judge_option(word: str, *, by_linker: bool, nesting: int) -> str | None:
    if by_linker and _REFUSED_BY_LINKER.fullmatch(word):
        return f"the linker flag `{_shown(word)}` is not allowed"
    path = _PATH_OPTION.fullmatch(word)
    if path is not None:
        return _judge_path(path.group(2), word) if path.group(2) else None
    passed_on = _PASSED_ON.fullmatch(word)
    if passed_on is not None:
        rest = passed_on.group(2)
        to_linker = passed_on.group(1) in _TO_LINKER
        return _judge(_split(rest), by_linker=to_linker, nesting=nesting + 1) if rest else None
    if by_linker:
        return None
    if _REFUSED.fullmatch(word) or not _ALLOWED.fullmatch(word):
        return f"the flag `{_shown(word)}` is not allowed"
    return None


def _judge_path(path: str, option: str) -> str | None:
    if is_toolchain(path) or not (path.startswith("/") or ".." in path.split("/")):
        return None
    return f"`{_shown(option)}` reaches outside the toolchain: name your own directories in `extra_include_paths` instead"


def _judge_bare(word: str, previous: str) -> str | None:
    """A word without a dash: a value of the option before, or an input file."""
    is_value = previous.startswith("-") and not _INPUT_FILE.fullmatch(word)
    is_value = is_value or previous in _TAKES_TEXT
    if is_value or is_toolchain(word):
        return None
    return f"extra input files are not allowed: `{_shown(word)}`"


def _shown(word: str) -> str:
    return word if len(word) <= _MAX_SHOWN else f"{word[:_MAX_SHOWN]}…"
