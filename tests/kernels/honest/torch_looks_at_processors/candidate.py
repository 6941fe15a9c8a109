import os

import torch
import torch.nn as nn


def _block():
    try:
        with open("/proc/cpuinfo") as file:
            wide = "avx512" in file.read()
    except OSError:
        wide = False
    return (64 if wide else 32) * max(1, os.cpu_count() or 1)


BLOCK = _block()


class ModelNew(nn.Module):
    def forward(self, x):
        return torch.cat([nn.functional.gelu(rows, approximate="tanh") for rows in x.split(BLOCK)])
