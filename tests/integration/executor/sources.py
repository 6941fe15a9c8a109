"""References and their candidates, as text."""

from __future__ import annotations

__all__ = ["task", "twin"]


def task(forward: str, inputs: str, *, construct: str = "pass", more: str = "") -> str:
    """A reference whose ``forward(self, x)`` has this body."""
    return f"""
import torch
import torch.nn.functional as F

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        {construct}
    def forward(self, x):
        {forward}

def get_inputs():
    return {inputs}

def get_init_inputs():
    return []
{more}
"""


def twin(reference: str) -> str:
    """The same model as a candidate."""
    return reference.replace("class Model(", "class ModelNew(")
