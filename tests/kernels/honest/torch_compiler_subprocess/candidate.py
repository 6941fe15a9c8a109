import subprocess
import sys

import torch
import torch.nn as nn

VERSION = subprocess.run(
    [sys.executable, "-S", "-c", "import sys; print(sys.version_info[0])"], capture_output=True, text=True, check=True
).stdout.strip()


class ModelNew(nn.Module):
    def forward(self, x):
        assert VERSION == "3"
        return torch.relu(x)
