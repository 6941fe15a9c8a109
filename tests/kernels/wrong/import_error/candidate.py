import torch
import torch.nn as nn
from flash_attention_kernels import fast_relu


class ModelNew(nn.Module):
    def forward(self, x):
        return fast_relu(x)
