"""Feature-matching losses: statistics that generated features must share with real ones.

Pure functions of scaled features, unweighted, in the precision of their first argument. Labels index seen
classes, S or C of them. Shapes depend on the arguments' shapes alone, nothing waits for the device, and sums over
a class are matrix products, so that on a GPU too the same arguments give the same bytes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

#: A vector shorter than this has no direction; a cosine's slope there would be its reciprocal.
DEAD = 1e-6


class _ClassAverages(NamedTuple):
    """Means ``(G, D)`` of the rows of the classes ``(G,)``, and two weightings ``(G,)`` that add up to 1.

    ``per_class`` gives every class of the batch the same weight, ``per_row`` as much as it has rows.
    """

    means: Tensor
    classes: Tensor
    per_class: Tensor
    per_row: Tensor


def _class_averages(fake: Tensor, labels: Tensor, n_classes: int) -> _ClassAverages:
    # One slot for each class or, where that is fewer, for each row, whose weight its class's rows then share.
    # Classes that are absent weigh 0; torch.unique would have to tell the host how many there are.
    n_rows = len(labels)
    by_row = n_rows < n_classes
    classes = labels if by_row else torch.arange(n_classes, device=labels.device)
    members = (classes.unsqueeze(1) == labels).to(fake.dtype)
    counts = members.sum(dim=1)
    means = (members @ fake) / counts.clamp_min(1).unsqueeze(1)
    present = counts.reciprocal() if by_row else counts.clamp_max(1)
    per_row = torch.full_like(counts, 1 / n_rows) if by_row else counts / n_rows
    return _ClassAverages(means, classes, present / present.sum(), per_row)


def _unit(vectors: Tensor) -> Tensor:
    # Dead vectors stay as they are: their cosine is 0 and the slope that would revive them is finite.
    lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / torch.where(lengths > DEAD, lengths, 1.0)


def class_mean_matching(fake: Tensor, labels: Tensor, class_means: Tensor) -> Tensor:
    """Return the squared distance between the generated and the real mean of each class.

    The centroid form of feature matching (Salimans et al. 2016, section 3.1, per class). Averaged over the
    batch's classes, each weighted by its rows, and over the columns. A class with one row in the batch draws
    that row to the mean, so with few rows for each class the term also shrinks the spread within classes.

    Args:
        fake: ``(B, D)``.
        labels: ``(B,)`` in [0, S).
        class_means: ``(S, D)`` means of the real training features.
    """
    averages = _class_averages(fake, labels, len(class_means))
    gaps = averages.means - class_means[averages.classes]
    return averages.per_row @ gaps.square().mean(dim=1)


def pivot(fake: Tensor, labels: Tensor, class_means: Tensor) -> Tensor:
    """Return the distance between generated and real class means: the visual pivot (GAZSL, Zhu et al. 2018; LsrGAN).

    ``mean_c || mean(fake_c) - class_means[c] ||``, not squared, summed over the columns, each class of the batch
    weighted alike. The papers average over the classes; both released codes divide by S, absent classes
    counting 0, so that their weights times (classes in the batch / S) are ours.

    Where each class has as many rows, :func:`class_mean_matching` is the mean of these distances' squares over D.
    Its pull fades near the target; the pivot's is the same from afar and from near, and 0 at the target itself.

    Args:
        fake: ``(B, D)``.
        labels: ``(B,)`` in [0, S).
        class_means: ``(S, D)`` means of the real training features.
    """
    averages = _class_averages(fake, labels, len(class_means))
    gaps = averages.means - class_means[averages.classes]
    return averages.per_class @ torch.linalg.vector_norm(gaps, dim=1)


def moment_matching(fake: Tensor, real: Tensor) -> Tensor:
    """Return the squared differences of the columns' means and standard deviations between two batches.

    First and second moments of generated and real features of the same labels; averaged over columns.

    Args:
        fake, real: ``(B, D)``, B >= 2.
    """
    means = (fake.mean(0) - real.mean(0)).square().mean()
    # The small constant keeps the slope finite in columns that are constant (dead ReLUs).
    deviations = ((fake.var(0) + 1e-8).sqrt() - (real.var(0) + 1e-8).sqrt()).square().mean()
    return means + deviations


def mmd(fake: Tensor, real: Tensor, bandwidths: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0)) -> Tensor:
    """Return the squared maximum mean discrepancy for a mean of Gaussian kernels (Gretton et al. 2012, Eq. 5).

    The biased estimate, which is never below 0 and which generative moment matching networks minimise
    (Li et al. 2015, Eq. 3). Each kernel is ``exp(-|x - y|^2 / (b m))``, where m is the mean squared distance
    between two rows of both batches together: the bandwidths have no unit and fit any scaling of the features.
    The papers fix bandwidths by hand or by the median; m carries no gradient, for the batches could otherwise
    be made alike by moving all rows apart.

    Args:
        fake, real: ``(B, D)`` and ``(B', D)``.
        bandwidths: the b above, each > 0.

    Returns:
        A scalar in [0, 2].
    """
    n_fake, n_real = len(fake), len(real)
    rows = torch.cat([fake, real])
    # Distances don't change by centring, but they lose fewer digits.
    rows = rows - rows.mean(0).detach()
    lengths = rows.square().sum(dim=1)
    distances = (lengths.unsqueeze(1) + lengths - 2 * rows @ rows.T).clamp_min(0)
    n_pairs = len(rows) * (len(rows) - 1)
    scale = (distances.detach().sum() / n_pairs).clamp_min(1e-12)
    kernels = [torch.exp(distances / (-bandwidth * scale)) for bandwidth in bandwidths]
    weights = torch.cat([fake.new_full((n_fake,), 1 / n_fake), fake.new_full((n_real,), -1 / n_real)])
    return weights @ torch.stack(kernels).mean(0) @ weights


def coral(fake: Tensor, real: Tensor) -> Tensor:
    """Return ``|C_fake - C_real|_F^2 / (4 D^2)`` of the columns' covariances (Sun & Saenko 2016, Eq. 1).

    Never forms a ``(D, D)`` matrix: the norm follows from the products of rows with rows. It is a difference, and
    in float32 one of two batches that agree ends near 0, on either side.

    Args:
        fake, real: ``(B, D)`` and ``(B', D)``, at least 2 rows each.
    """
    n_fake, n_real = len(fake), len(real)
    rows = torch.cat([fake - fake.mean(0), real - real.mean(0)])
    weights = torch.cat([fake.new_full((n_fake,), 1 / (n_fake - 1)), fake.new_full((n_real,), -1 / (n_real - 1))])
    return weights @ (rows @ rows.T).square() @ weights / (4 * fake.shape[1] ** 2)


def soul_samples(fake: Tensor, labels: Tensor, souls: Tensor) -> Tensor:
    """Return the mean squared distance of features to the nearest soul of their class (LisGAN, Li et al. 2019, L_R1).

    Summed over the columns, as in the released code, whose weights (``proto_param2``) hold for this sum.

    Args:
        fake: ``(B, D)``.
        labels: ``(B,)`` in [0, S).
        souls: ``(S, K, D)``, see :func:`soul_prototypes`.
    """
    return to_nearest_soul(fake, souls.index_select(0, labels)).mean()


def soul_means(fake: Tensor, labels: Tensor, souls: Tensor) -> Tensor:
    """Return the mean squared distance of generated class means to the nearest soul of the class (LisGAN, L_R2).

    Summed over the columns, averaged over the batch's classes. The released code generates 20 features of every
    seen class for this term alone (weight ``proto_param1``), for which :func:`soul_means_of_turns` is cheaper.

    Args:
        fake: ``(B, D)``.
        labels: ``(B,)`` in [0, S).
        souls: ``(S, K, D)``.
    """
    averages = _class_averages(fake, labels, len(souls))
    return averages.per_class @ to_nearest_soul(averages.means, souls[averages.classes])


def soul_means_of_turns(fake: Tensor, souls: Tensor) -> Tensor:
    """Return :func:`soul_means` of features that were generated in turns, one of every class in each.

    Args:
        fake: ``(n, S, D)``.
        souls: ``(S, K, D)``.
    """
    # A sum's gradient is that of one turn, seen n times; a mean's would be written out n times.
    return to_nearest_soul(fake.sum(dim=0) / len(fake), souls).mean()


def to_nearest_soul(features: Tensor, souls: Tensor) -> Tensor:
    """Return the squared distance ``(G,)`` of each feature to the nearest of its own souls, summed over the columns.

    Args:
        features: ``(G, D)``.
        souls: ``(G, K, D)``.
    """
    # Differences rather than products: exact, and K is small. Which soul is nearest carries no gradient, so that the
    # distance to that one is all that is differentiated.
    with torch.no_grad():
        wide = torch.promote_types(features.dtype, torch.float32)  # a CPU has no distances in half precision
        places = features.unsqueeze(1).to(wide), souls.to(wide)
        distances = torch.cdist(*places, compute_mode="donot_use_mm_for_euclid_dist")
        rows = torch.arange(len(souls), device=souls.device) * souls.shape[1] + distances.squeeze(1).argmin(dim=1)
        nearest = souls.flatten(0, 1).index_select(0, rows)
    return F.mse_loss(features, nearest, reduction="none").sum(dim=1)


def supervised_contrastive(embeddings: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """Return the supervised contrastive loss of rows and their classes (Khosla et al. 2020, Eq. 2).

    ``-mean_p log( exp(z_i z_p / t) / sum_{a != i} exp(z_i z_a / t) )`` over the positives p of row i, averaged
    over the rows that have a positive. CE-GZSL's instance-level term (Han et al. 2021): its paper draws one
    positive for each row, its released code takes all and drops rows without any, as here.

    Args:
        embeddings: ``(B, Z)``; L2-normalised inside.
        labels: ``(B,)``.
        temperature: t > 0; 0.1 in CE-GZSL.

    Returns:
        A scalar; 0 where no class has two rows.
    """
    unit = _unit(embeddings)
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    logits = (unit @ unit.T / temperature).masked_fill(itself, torch.finfo(unit.dtype).min)
    positives = (labels.unsqueeze(1) == labels) & ~itself
    counts = positives.sum(dim=1)
    agreement = torch.where(positives, F.log_softmax(logits, dim=1), 0.0).sum(dim=1) / counts.clamp_min(1)
    return -agreement.sum() / (counts > 0).sum().clamp_min(1)


def cycle(regressed: Tensor, condition: Tensor) -> Tensor:
    """Return the squared distance of class embeddings from those that are regressed on generated features.

    Cycle-consistency of cycle-WGAN (Felix et al. 2018): the paper writes the squared length, the released code
    averages over rows and columns, as here.

    Args:
        regressed, condition: ``(B, A)``.
    """
    return (regressed - condition).square().mean()


def semantic_neighbours(
    embeddings: Tensor, reference_embeddings: Tensor, n_neighbours: int = 20
) -> tuple[Tensor, Tensor]:
    """Return the reference classes with the largest cosine to each class, for :func:`semantic_regularisation`.

    A class that is among the references is its own first neighbour, as in LsrGAN's released code.

    Args:
        embeddings: ``(C, A)`` of the classes to be generated.
        reference_embeddings: ``(S, A)`` of the seen classes.
        n_neighbours: k; all S where there are fewer.

    Returns:
        ``(C, k)`` rows of the references, nearest first, and ``(C, k)`` cosines.
    """
    cosines = _unit(embeddings) @ _unit(reference_embeddings).T
    ordered = torch.sort(cosines, dim=1, descending=True, stable=True)
    return ordered.indices[:, :n_neighbours], ordered.values[:, :n_neighbours]


def semantic_regularisation(
    fake: Tensor,
    labels: Tensor,
    reference_means: Tensor,
    neighbours: Tensor,
    similarities: Tensor,
    *,
    below: float = 0.1,
    above: float = 0.1,
) -> Tensor:
    """Return LsrGAN's SR-loss: generated classes must be as similar to seen classes as their embeddings are.

    The cosine between a class's generated mean and the real mean of each neighbour must lie within
    [similarity - below, similarity + above]; outside, its squared distance to that band counts (Vyas et al. 2020).
    Averaged over the batch's classes and their neighbours; the released code sums over the classes. That code
    takes the cosine outside of autograd, so its term trains nothing and its weights say nothing about this one,
    which does reach the generator.

    Args:
        fake: ``(B, D)``, of seen or of unseen classes.
        labels: ``(B,)`` in [0, C), rows of ``neighbours``.
        reference_means: ``(S, D)`` means of the real training features.
        neighbours, similarities: ``(C, k)`` from :func:`semantic_neighbours`.
        below, above: the tolerance epsilon on either side, 0.04 to 0.15 in the released scripts.
    """
    averages = _class_averages(fake, labels, len(neighbours))
    cosines = _unit(averages.means) @ _unit(reference_means).T
    cosines = cosines.gather(1, neighbours[averages.classes])
    target = similarities[averages.classes]
    outside = F.relu(cosines - target - above) + F.relu(target - below - cosines)
    return averages.per_class @ outside.square().mean(dim=1)
