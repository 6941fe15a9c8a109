"""Optimised GELU. Run this file to benchmark it."""

import argparse
import math
import time

import torch
import torch.nn as nn


class Model(nn.Module):
    """The original, kept for comparison."""

    def forward(self, x):
        return torch.nn.functional.gelu(x, approximate="tanh")


class ModelNew(nn.Module):
    def forward(self, x):
        inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)
        return 0.5 * x * (1.0 + torch.tanh(inner))


def get_inputs():
    return [torch.randn(16, 16)]


def get_init_inputs():
    return []


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=100)
    calls = parser.parse_args().calls
    model, (x,) = ModelNew(), get_inputs()
    start = time.perf_counter()
    for _ in range(calls):
        model(x)
    print(f"{(time.perf_counter() - start) / calls * 1e6:.1f} us a call")


if __name__ == "__main__":
    main()
