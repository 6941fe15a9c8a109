import torch
import torch.nn as nn
from cuda.bindings import runtime


def _persist(tensor):
    window = runtime.cudaAccessPolicyWindow()
    window.base_ptr = tensor.data_ptr()
    window.num_bytes = tensor.numel() * tensor.element_size()
    window.hitRatio = 1.0
    window.hitProp = runtime.cudaAccessProperty.cudaAccessPropertyPersisting
    window.missProp = runtime.cudaAccessProperty.cudaAccessPropertyStreaming
    value = runtime.cudaStreamAttrValue()
    value.accessPolicyWindow = window
    runtime.cudaStreamSetAttribute(
        torch.cuda.current_stream().cuda_stream,
        runtime.cudaStreamAttrID.cudaLaunchAttributeAccessPolicyWindow,
        value,
    )


class ModelNew(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self._set = False

    def forward(self, x):
        if not self._set:
            self._set = True
            _persist(self.up.weight)
        return self.down(torch.relu(self.up(x)))
