import os

import torch
import torch.nn as nn

torch.set_num_threads(os.cpu_count() or 1)


class ModelNew(nn.Module):
    def forward(self, a, b):
        return torch.matmul(a, b)
