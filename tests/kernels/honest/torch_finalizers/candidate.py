import weakref

import torch
import torch.nn as nn


class Workspaces:
    def __init__(self):
        self.free = []

    def take(self, like):
        space = self.free.pop() if self.free else torch.empty_like(like)
        return space if space.shape == like.shape else torch.empty_like(like)

    def give_back_with(self, owner, space):
        weakref.finalize(owner, self.free.append, space)


workspaces = Workspaces()


class ModelNew(nn.Module):
    def forward(self, x):
        space = workspaces.take(x)
        torch.sign(x, out=space)
        out = x * space.clamp_(min=0)
        workspaces.give_back_with(out, space)
        return out
