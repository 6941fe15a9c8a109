import torch
import torch.nn as nn

KEPT = 0.75


class Model(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x, 1 - KEPT)


def get_inputs():
    return [1 + torch.rand(256, 1024)]


def get_init_inputs():
    return []


def accept_output(output, x):
    kept = output != 0
    if not torch.allclose(output[kept], x[kept] / KEPT):
        return "what is kept is not the input over the share that is kept"
    # Six standard deviations, in all and for every row and column.
    for count, total in ((kept.sum(), x.numel()), (kept.sum(0), x.shape[0]), (kept.sum(1), x.shape[1])):
        if ((count - KEPT * total).abs() > 6 * (KEPT * (1 - KEPT) * total) ** 0.5).any():
            return "more or less is kept than the share that was asked for, over rows, columns or in all"
    # Neighbours are kept independently of each other.
    pairs = (kept[:, 1:] & kept[:, :-1]).float().mean()
    if abs(float(pairs) - KEPT**2) > 6 * (KEPT**2 / x.numel()) ** 0.5:
        return "neighbours are not kept independently"
    return True
