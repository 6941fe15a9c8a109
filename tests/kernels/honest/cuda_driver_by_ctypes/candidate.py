import ctypes

import torch
import torch.nn as nn


def _driver_version():
    version = ctypes.c_int(0)
    ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    return version.value


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self._graphs = {}
        self._version = 0

    def _captured(self, x):
        self._version = _driver_version()
        source, result = x.clone(), torch.empty_like(x)
        graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            torch.clamp(source, min=0, out=result)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph):
            torch.clamp(source, min=0, out=result)
        return graph, source, result

    def forward(self, x):
        if x.shape not in self._graphs:
            self._graphs[x.shape] = self._captured(x)
        graph, source, result = self._graphs[x.shape]
        source.copy_(x)
        graph.replay()
        return result.clone()
