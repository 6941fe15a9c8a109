"""Which refusals of the fast recipe are the stock recipe's too, word for word.

The sources are the same and so is every declaration of a name they say; so an error in the candidate's own text is the
same error, unless its wording depends on what else is declared. What may depend on that is built again by the stock
recipe, which then answers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from keck.messages import Diagnostic

__all__ = ["is_sure"]

_UNKNOWN_NAME = re.compile(
    r'identifier "(?P<name>\w+)" is undefined|(?:namespace|class|struct|class template) "[^"]*"(?: \(.*?\))? has no member "(?P<member>\w+)"'
)
_SURE = re.compile(
    r"""
      expected\ (an?|the)?\s*(["\u2018(]|expression|declaration|identifier|statement|type|operator|unqualified|primary)
    | unrecognized\ token | missing\ closing\ quote | extra\ text\ after
    | too\ (few|many)\ arguments | argument\ list\ for
    | a\ value\ of\ type\ .*\ cannot\ be\ (used\ to\ initialize|assigned\ to)
    | argument\ of\ type\ .*\ is\ incompatible\ with\ parameter
    | return\ value\ type\ does\ not\ match | expression\ must\ (have|be)
    | .*has\ already\ been\ (declared|defined) | .*\ redeclared | redefinition\ of
    | calling\ a\ __(host|device|global)__ | a\ __global__\ function | a\ __(device|shared|constant)__
    | the\ size\ of\ an\ array | this\ (operation|pragma|declaration) | static\ assertion\ failed
    | variable\ ".*"\ (has|was|may\ not) | identifier\ ".*"\ is\ undefined\ in\ device\ code
    | Entry\ function\ | uses\ too\ much\ shared\ data | a\ break\ statement | a\ constant\ value | asm
    """,
    re.VERBOSE,
)
_NEVER = re.compile(r"incomplete type|did you mean|no operator|ambiguous|more than one|candidate")


def is_sure(diagnostics: Sequence[Diagnostic], files: Collection[str], words: Collection[str]) -> bool:
    """Whether the first error is one that the stock recipe would give as well, in the same words.

    Args:
        diagnostics: of the fast build.
        files: names of the candidate's own sources.
        words: identifiers that occur in torch's headers.
    """
    error = next((item for item in diagnostics if item.severity == "error"), None)
    if error is None or _NEVER.search(error.text):
        return False
    if unknown := _UNKNOWN_NAME.match(error.text):
        name = unknown["name"] or unknown["member"]
        return error.file in files and name not in words
    # ptxas speaks of what both recipes give it alike.
    of_device = error.file == "" or error.file.endswith(".ptx")
    return (error.file in files or of_device) and _SURE.match(error.text) is not None
