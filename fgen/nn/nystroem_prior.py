"""Kernel ridge regression of many classes, on the features that the kernel has on some of them (Nyström)."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fgen.nn.geometry import squared_distances
from fgen.nn.kernel_ridge import ClassPrior, SemanticPrior

#: S up to which kernel ridge is exact: its time grows with the cube of S, its memory with the square.
MOST_EXACT = 4000
#: M, the number of landmarks of more classes.
LANDMARKS = 1000
#: Added to the landmarks' kernel, relative to its diagonal, so that it can be factorised.
JITTER = 1e-6
#: Classes whose kernel is computed at once.
BLOCK = 4096


class NystroemPrior(ClassPrior):
    """What :class:`fgen.nn.kernel_ridge.SemanticPrior` is, with the kernel ``k_az K_zz^-1 k_zb`` in place of ``k_ab``.

    The landmarks z are evenly spaced seen classes (Williams and Seeger 2001). A class then has M features
    ``L^-1 k_za - m``, with ``L L' = K_zz`` and m their mean over the seen classes, on which ridge regression is exact.
    Its time is ``S M^2``. The kernels' scales and mean diagonals are those of the landmarks.

    Args:
        n_seen, embedding_dim, feature_dim: S, A and D.
        widths: columns of each kind in the embedding; they add up to A.
        n_landmarks: M.
    """

    landmarks: Tensor
    scales: Tensor
    traces: Tensor
    row_means: Tensor
    factor: Tensor
    posterior: Tensor
    feature_mean: Tensor
    unit: Tensor
    penalty: Tensor
    centre: Tensor

    def __init__(
        self,
        n_seen: int,
        embedding_dim: int,
        feature_dim: int,
        widths: tuple[int, ...],
        *,
        alpha: float,
        width: float,
        n_landmarks: int = LANDMARKS,
    ) -> None:
        super().__init__()
        self.widths, self.alpha, self.width = widths, alpha, width
        shapes = {
            "landmarks": (n_landmarks, embedding_dim),
            "scales": (len(widths),),
            "traces": (len(widths),),
            "row_means": (len(widths), n_landmarks),
            "factor": (n_landmarks, n_landmarks),
            "posterior": (n_landmarks, n_landmarks),
            "feature_mean": (n_landmarks,),
            "unit": (),
            "penalty": (),
            "dual": (n_landmarks, feature_dim),
            "centre": (feature_dim,),
            "leave_one_out": (n_seen, feature_dim),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.ones(shape) if name in ("scales", "traces") else torch.zeros(shape))

    @torch.no_grad()
    def fit(self, embeddings: Tensor, means: Tensor, weights: tuple[float, ...] | None = None) -> None:
        """See :meth:`fgen.nn.kernel_ridge.ClassPrior.fit`."""
        kinds = [F.normalize(kind) for kind in embeddings.double().split(self.widths, dim=1)]
        some = torch.from_numpy(np.linspace(0, len(means) - 1, len(self.landmarks)).round().astype(np.int64))
        landmarks = [kind[some] for kind in kinds]
        distances = [squared_distances(kind, kind) for kind in landmarks]
        scales = torch.stack([2 * self.width * d.median().clamp(min=1e-6) for d in distances])
        grams = [torch.exp(-d / scale) for d, scale in zip(distances, scales, strict=True)]
        traces = torch.stack([(1 - gram.mean()).clamp(min=1e-12) for gram in grams])
        shares = torch.ones(len(kinds)) if weights is None else torch.tensor(weights)
        traces = traces / shares.to(traces).clamp(min=1e-12)
        values = {"landmarks": torch.cat(landmarks, dim=1), "scales": scales, "traces": traces}
        # The ridge penalty is alpha times the kernel's mean diagonal, to which each kind adds its weight.
        values["penalty"] = self.alpha * shares.sum()
        values["row_means"] = torch.stack([gram.mean(dim=0) for gram in grams])
        kernel = torch.stack([gram / trace for gram, trace in zip(grams, traces, strict=True)]).sum(dim=0)
        root = torch.linalg.cholesky(kernel + JITTER * kernel.diagonal().mean() * torch.eye(len(some)).to(kernel))
        values["factor"] = torch.linalg.solve_triangular(root, torch.eye(len(some)).to(root), upper=False)
        self._set(values)
        kernels, own = zip(*map(self._kernel, embeddings.double().split(BLOCK)), strict=True)
        features = torch.cat(kernels) @ values["factor"].T
        features -= (mean := features.mean(dim=0))
        gram = features.T @ features + self.penalty * torch.eye(len(some)).to(features)
        posterior = torch.linalg.inv(gram)
        means = means.double()
        centre = means.mean(dim=0)
        weight = posterior @ (features.T @ (means - centre))
        kept = 1 - ((features @ posterior) * features).sum(dim=1, keepdim=True)
        errors = (means - centre - features @ weight) / kept
        variances = self.penalty / kept[:, 0] + _untold(torch.cat(own), features)
        self._set(
            {
                "posterior": posterior,
                "feature_mean": mean,
                "unit": errors.square().mean() / variances.mean(),
                "dual": values["factor"].T @ weight,
                "centre": centre - mean @ weight,
                "leave_one_out": means - errors,
            }
        )

    def forward(self, condition: Tensor) -> Tensor:
        """Predict mean features ``(B, D)`` from prepared embeddings ``(B, A)`` of any classes."""
        kernel, _ = self._kernel(condition)
        return kernel @ self.dual + self.centre

    @torch.no_grad()
    def predictive_variance(self, condition: Tensor) -> Tensor:
        """Return what :meth:`fgen.nn.kernel_ridge.SemanticPrior.predictive_variance` does, ``(B,)`` float64.

        What the landmarks don't tell of a class's kernel with itself is added to the variance of its features. The unit
        is that in which these variances are on average the leave-one-out errors of the seen classes.
        """
        kernel, own = self._kernel(condition.double())
        features = kernel @ self.factor.double().T - self.feature_mean.double()
        spread = self.penalty * ((features @ self.posterior.double()) * features).sum(dim=1)
        return self.unit.double() * (_untold(own, features) + spread + self.penalty)

    def _kernel(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``k_az`` ``(B, M)``, not centred, and the centred ``k_aa`` ``(B,)``, of embeddings ``(B, A)``."""
        total, own = condition.new_zeros(len(condition), len(self.landmarks)), condition.new_zeros(len(condition))
        landmarks = self.landmarks.to(condition.dtype)
        kinds = zip(condition.split(self.widths, dim=1), landmarks.split(self.widths, dim=1), strict=True)
        for k, (kind, known) in enumerate(kinds):
            gram = torch.exp(-squared_distances(F.normalize(kind), known) / self.scales[k])
            total = total + gram / self.traces[k]
            own = own + (1 - 2 * gram.mean(dim=1) + self.row_means[k].mean()) / self.traces[k]
        return total, own

    def _set(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            getattr(self, name).copy_(value)


def _untold(own: Tensor, features: Tensor) -> Tensor:
    """Return what features ``(B, M)`` lack of a class's kernel with itself ``(B,)``."""
    return (own - features.square().sum(dim=1)).clamp(min=0)


def prior_class(n_seen: int) -> type[SemanticPrior] | type[NystroemPrior]:
    """Return which prior so many seen classes get: the exact one up to :data:`MOST_EXACT`, of landmarks for more."""
    return SemanticPrior if n_seen <= MOST_EXACT else NystroemPrior
