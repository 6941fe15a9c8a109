import torch
import torch.nn as nn
import torch.nn.functional as F


class Model(nn.Module):
    """The backward pass as a task: gradients of a layer's loss, for its input and its weight."""

    def forward(self, x, weight, upstream):
        with torch.enable_grad():
            inputs = [x.detach().requires_grad_(), weight.detach().requires_grad_()]
            y = F.gelu(F.linear(*inputs))
            return list(torch.autograd.grad(y, inputs, upstream))


def get_inputs():
    return [torch.randn(32, 16), torch.randn(24, 16), torch.randn(32, 24)]


def get_init_inputs():
    return []
