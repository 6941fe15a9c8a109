"""What the recorder in a build cell and the runner in an executor must agree on: which extension a call means.

Imported inside the candidate's process, so it is the standard library only.
"""

from __future__ import annotations

from keck_cell.extension_call import ExtensionCall, ExtensionCallError
from keck_cell.patch import replace_builders
from keck_cell.signature import call_from_load, call_from_load_inline

__all__ = [
    "ExtensionCall",
    "ExtensionCallError",
    "call_from_load",
    "call_from_load_inline",
    "replace_builders",
]
