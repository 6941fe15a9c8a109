import threading
import time

import torch
import torch.nn as nn


class ThroughputMonitor:
    """Counts calls and prints the rate now and then."""

    def __init__(self):
        self.calls = 0
        threading.Thread(target=self._report, daemon=True).start()

    def _report(self):
        while True:
            time.sleep(0.5)
            print(f"{self.calls} calls so far")


monitor = ThroughputMonitor()


class ModelNew(nn.Module):
    def forward(self, x):
        monitor.calls += 1
        return torch.relu(x)
