import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self._side = None

    def forward(self, a, b):
        if self._side is None:
            self._side = torch.cuda.Stream()
        current = torch.cuda.current_stream()
        self._side.wait_stream(current)
        with torch.cuda.stream(self._side):
            cosine = torch.cos(b)
        sine = torch.sin(a)
        current.wait_stream(self._side)
        cosine.record_stream(current)
        return sine.add_(cosine)
