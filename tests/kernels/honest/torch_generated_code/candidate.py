import torch
import torch.nn as nn

TEMPLATE = """
def {name}(x, factor):
    return torch.{operation}(x * factor)
"""

namespace = {"torch": torch}
exec(TEMPLATE.format(name="scaled", operation="relu"), namespace)
scaled = namespace["scaled"]
TABLE = {power: 2.0**power for power in range(-8, 8)}


class ModelNew(nn.Module):
    def forward(self, x, factor):
        return scaled(x, factor)
