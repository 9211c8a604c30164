"""Kernel ridge regression from a class's embedding to its mean feature, with leave-one-out predictions."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fgen.nn.geometry import squared_distances


class SemanticPrior(nn.Module):
    """Kernel ridge regression from class embedding to class mean (Saunders et al. 1998), one kernel for each kind.

    The kernel is the sum over the kinds of embedding of ``exp(-|a - b|^2 / (2 width m))`` between embeddings of length
    1, centred on the seen classes and divided by its mean diagonal there, so that each kind weighs the same; m is the
    median squared distance of the seen classes. The ridge penalty is ``alpha`` times the kernel's mean diagonal.

    Args:
        n_seen, embedding_dim, feature_dim: S, A and D.
        widths: columns of each kind in the embedding; they add up to A.

    Attributes:
        leave_one_out: ``(S, D)`` what would be predicted for each seen class from all others, in closed form: what a
            seen class must look like to whatever is trained on the prior, for no unseen class was fitted either.
    """

    seen: Tensor
    scales: Tensor
    traces: Tensor
    row_means: Tensor
    dual: Tensor
    centre: Tensor
    leave_one_out: Tensor

    def __init__(
        self, n_seen: int, embedding_dim: int, feature_dim: int, widths: tuple[int, ...], *, alpha: float, width: float
    ) -> None:
        super().__init__()
        self.widths, self.alpha, self.width = widths, alpha, width
        shapes = {
            "seen": (n_seen, embedding_dim),
            "scales": (len(widths),),
            "traces": (len(widths),),
            "row_means": (len(widths), n_seen),
            "dual": (n_seen, feature_dim),
            "centre": (feature_dim,),
            "leave_one_out": (n_seen, feature_dim),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.ones(shape) if name in ("scales", "traces") else torch.zeros(shape))

    @torch.no_grad()
    def fit(self, embeddings: Tensor, means: Tensor) -> None:
        """Fit to the seen classes' prepared embeddings ``(S, A)`` and mean features ``(S, D)``; float64 inside."""
        kinds = [F.normalize(kind) for kind in embeddings.double().split(self.widths, dim=1)]
        means = means.double()
        distances = [squared_distances(kind, kind) for kind in kinds]
        scales = torch.stack([2 * self.width * d.median().clamp(min=1e-6) for d in distances])
        grams = [torch.exp(-d / scale) for d, scale in zip(distances, scales, strict=True)]
        row_means = torch.stack([gram.mean(dim=0) for gram in grams])
        centred = [_centred(gram, gram.mean(dim=0)) for gram in grams]
        traces = torch.stack([kernel.diagonal().mean().clamp(min=1e-12) for kernel in centred])
        kernel = torch.stack([k / trace for k, trace in zip(centred, traces, strict=True)]).sum(dim=0)
        penalty = self.alpha * kernel.diagonal().mean().clamp(min=1e-12)
        inverse = torch.linalg.inv(kernel + penalty * torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device))
        centre = means.mean(dim=0)
        dual = inverse @ (means - centre)
        left_out = means - dual / inverse.diagonal().unsqueeze(1)
        values = (torch.cat(kinds, dim=1), scales, traces, row_means, dual, centre, left_out)
        for buffer, value in zip(self.buffers(), values, strict=True):
            buffer.copy_(value)

    def forward(self, condition: Tensor) -> Tensor:
        """Predict mean features ``(B, D)`` from prepared embeddings ``(B, A)`` of any classes."""
        total = condition.new_zeros(len(condition), len(self.seen))
        kinds = zip(condition.split(self.widths, dim=1), self.seen.split(self.widths, dim=1), strict=True)
        for k, (kind, seen) in enumerate(kinds):
            gram = torch.exp(-squared_distances(F.normalize(kind), seen) / self.scales[k])
            total = total + _centred(gram, self.row_means[k]) / self.traces[k]
        return total @ self.dual + self.centre


def _centred(gram: Tensor, seen_means: Tensor) -> Tensor:
    """Return a kernel ``(n, S)`` centred on the seen classes' mean, up to a constant for each row."""
    return gram - gram.mean(dim=1, keepdim=True) - seen_means + seen_means.mean()
