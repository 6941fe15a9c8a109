import torch.nn as nn
from flash_attn.ops.triton.layer_norm import layer_norm_fn  # noqa: F401
from liger_kernel.ops.softmax import LigerSoftmaxFunction


class ModelNew(nn.Module):
    def forward(self, x):
        return LigerSoftmaxFunction.apply(x)
