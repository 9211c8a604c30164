"""Kernel ridge regression from a class's embedding to its mean feature, with leave-one-out predictions."""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fgen.nn.geometry import squared_distances


class ClassPrior(nn.Module):
    """A regression from the embedding of a class to its mean feature.

    Attributes:
        dual: the weights of the kernel's columns, ``(M, D)``.
        leave_one_out: ``(S, D)`` what would be predicted for each seen class from all others, in closed form: what a
            seen class must look like to whatever is trained on the prior, for no unseen class was fitted either.
    """

    dual: Tensor
    leave_one_out: Tensor

    def fit(self, embeddings: Tensor, means: Tensor, weights: tuple[float, ...] | None = None) -> None:
        """Fit to the seen classes' prepared embeddings ``(S, A)`` and mean features ``(S, D)``; float64 inside.

        Args:
            weights: of each kind's kernel in the sum, at least 0; None is 1 for each.
        """
        raise NotImplementedError

    def forward(self, condition: Tensor) -> Tensor:
        """Predict mean features ``(B, D)`` from prepared embeddings ``(B, A)`` of any classes."""
        raise NotImplementedError

    def predictive_variance(self, condition: Tensor) -> Tensor:
        """Return the variance ``(B,)`` float64 of a class's mean about the prediction, for the average column."""
        raise NotImplementedError


class SemanticPrior(ClassPrior):
    """Kernel ridge regression from class embedding to class mean (Saunders et al. 1998), one kernel for each kind.

    The kernel is the sum over the kinds of embedding of ``exp(-|a - b|^2 / (2 width m))`` between embeddings of length
    1, centred on the seen classes and divided by its mean diagonal there, so that each kind weighs the same, or as
    much as :meth:`fit` is told; m is the median squared distance of the seen classes. The ridge penalty is ``alpha``
    times the kernel's mean diagonal.

    Args:
        n_seen, embedding_dim, feature_dim: S, A and D.
        widths: columns of each kind in the embedding; they add up to A.
    """

    seen: Tensor
    scales: Tensor
    traces: Tensor
    row_means: Tensor
    centre: Tensor

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
    def fit(self, embeddings: Tensor, means: Tensor, weights: tuple[float, ...] | None = None) -> None:
        """Fit to the seen classes' prepared embeddings ``(S, A)`` and mean features ``(S, D)``; float64 inside.

        Args:
            weights: of each kind's kernel in the sum, at least 0; None is 1 for each.
        """
        kinds = [F.normalize(kind) for kind in embeddings.double().split(self.widths, dim=1)]
        means = means.double()
        distances = [squared_distances(kind, kind) for kind in kinds]
        scales = torch.stack([2 * self.width * d.median().clamp(min=1e-6) for d in distances])
        grams = [torch.exp(-d / scale) for d, scale in zip(distances, scales, strict=True)]
        row_means = torch.stack([gram.mean(dim=0) for gram in grams])
        centred = [_centred(gram, gram.mean(dim=0)) for gram in grams]
        traces = torch.stack([kernel.diagonal().mean().clamp(min=1e-12) for kernel in centred])
        if weights is not None:
            traces = traces / torch.tensor(weights).to(traces).clamp(min=1e-12)
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
        kernel, _ = self.kernel(condition)
        return kernel @ self.dual + self.centre

    def kernel(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``k(a, s)`` ``(B, S)`` of embeddings ``(B, A)`` and the seen classes', and ``k(a, a)`` ``(B,)``."""
        n_rows = condition.shape[0]
        total, own = condition.new_zeros(n_rows, len(self.seen)), condition.new_zeros(n_rows)
        kinds = zip(condition.split(self.widths, dim=1), self.seen.split(self.widths, dim=1), strict=True)
        for k, (kind, seen) in enumerate(kinds):
            gram = torch.exp(-squared_distances(F.normalize(kind), seen) / self.scales[k])
            total = total + _centred(gram, self.row_means[k]) / self.traces[k]
            own = own + (1 - 2 * gram.mean(dim=1) + self.row_means[k].mean()) / self.traces[k]
        return total, own

    @torch.no_grad()
    def predictive_variance(self, condition: Tensor) -> Tensor:
        """Return the variance ``(B,)`` float64 of a class's mean feature about the prediction, for the average column.

        Kernel ridge is the posterior mean of a Gaussian process whose noise is the penalty p: what no embedding tells
        of a class's mean, with the sampling error of a seen class's. With that noise, the predictive variance is
        ``s^2 (k(a, a) + p - k_a' (K + p I)^-1 k_a)`` (Rasmussen and Williams 2006, eq. 2.26). The leave-one-out error
        of a seen class has variance ``s^2 / [(K + p I)^-1]_ss`` (eq. 5.12), from which ``s^2`` is estimated.
        """
        exact = deepcopy(self).double()
        (kernel, own), (of_seen, diagonal) = exact.kernel(condition.double()), exact.kernel(exact.seen)
        penalty = self.alpha * diagonal.mean().clamp(min=1e-12)
        inverse = torch.linalg.inv(of_seen + penalty * torch.eye(len(of_seen)).to(of_seen))
        errors = exact.dual / inverse.diagonal().unsqueeze(1)
        unit = (errors.square() * inverse.diagonal().unsqueeze(1)).mean()
        return unit * (own + penalty - ((kernel @ inverse) * kernel).sum(dim=1)).clamp(min=0)


def _centred(gram: Tensor, seen_means: Tensor) -> Tensor:
    """Return a kernel ``(n, S)`` centred on the seen classes' mean, up to a constant for each row."""
    return gram - gram.mean(dim=1, keepdim=True) - seen_means + seen_means.mean()
