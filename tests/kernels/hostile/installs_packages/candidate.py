import subprocess
import sys

import torch
import torch.nn as nn

subprocess.run(
    [
        sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--retries", "0", "--timeout", "2",
        "--target", "packages", "einops",
    ],
    capture_output=True,
    check=False,
)
sys.path.insert(0, "packages")

import einops  # noqa: E402


class ModelNew(nn.Module):
    def forward(self, x):
        return einops.rearrange(torch.softmax(x, dim=-1), "rows columns -> rows columns")
