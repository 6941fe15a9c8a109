import time

import torch
import torch.nn as nn


def _plain(a, b):
    return a @ b


def _transposed(a, b):
    return (b.t() @ a.t()).t()


def _by_halves(a, b):
    middle = a.shape[1] // 2
    return torch.addmm(a[:, :middle] @ b[:middle], a[:, middle:], b[middle:])


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self._best = {}

    def _tune(self, a, b):
        times = {}
        for variant in (_plain, _transposed, _by_halves):
            variant(a, b)
            started = time.perf_counter()
            for _ in range(3):
                variant(a, b)
            times[variant] = time.perf_counter() - started
        return min(times, key=times.get)

    def forward(self, a, b):
        key = (tuple(a.shape), tuple(b.shape), a.dtype)
        if key not in self._best:
            self._best[key] = self._tune(a, b)
        return self._best[key](a, b)
