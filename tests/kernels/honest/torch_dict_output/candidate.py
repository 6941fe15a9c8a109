import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def forward(self, x):
        # The order of the keys is another than the reference's.
        largest, _ = torch.max(x, dim=1)
        return {"max": largest, "mean": x.sum(dim=1) / x.shape[1]}
