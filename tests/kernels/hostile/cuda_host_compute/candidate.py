import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def forward(self, a, b):
        product = torch.from_numpy(a.cpu().numpy() @ b.cpu().numpy())
        return product.to(a.device, non_blocking=True)
