"""Decision-level fusion: calibrated probabilities of several classifiers become those of one.

Each member's scores are first made probabilities, by a slope and a handicap of the seen classes that are fitted to
held-out rows (Platt 1999; Guo et al. 2017, temperature scaling). They are then averaged or multiplied (Kittler et al.
1998), or stacked: multiplied with exponents that are fitted to the same rows (Wolpert 1992). Held-out classes are no
classes of the test, so what is fitted is the same for all classes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal, Self, get_args

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp

from fgen.errors import InputError
from fgen.features.class_scores import NO_CANDIDATE
from fgen.metrics.gamma import HeldOut, calibrated_scores

Rule = Literal["mean", "weighted", "product", "stacked"]
#: "mean" of the probabilities; "weighted" mean, by weights that are given or chosen; normalised "product"; "stacked",
#: a product with an exponent for each member.
RULES: tuple[str, ...] = get_args(Rule)
#: Weights that are chosen are multiples of this share.
SHARES = 6
#: Limits of slopes and exponents: of scores with a mean deviation of 1 within a row, and of log-probabilities.
SLOPES, EXPONENTS = (1e-2, 1e2), (0.0, 1e2)


@dataclass(frozen=True, eq=False)
class MemberScores:
    """Scores that the members give to the same held-out rows.

    Attributes:
        labels: ``(N,)`` class ids.
        scores: ``(N, C)`` of each member by class id, higher for likelier classes.
        seen, unseen: ids of the candidates.
    """

    labels: np.ndarray
    scores: tuple[np.ndarray, ...]
    seen: np.ndarray
    unseen: np.ndarray

    def __post_init__(self) -> None:
        shapes = {np.shape(scores) for scores in self.scores}
        if len(shapes) != 1 or next(iter(shapes))[:1] != self.labels.shape:
            found = f"scores have the shapes {', '.join(map(str, sorted(shapes)))} for {len(self.labels)} rows"
            raise InputError(found, "(N, C) of each member, of the same rows and classes")

    @property
    def candidates(self) -> np.ndarray:
        """Return the ids of all candidates, ascending."""
        return np.union1d(self.seen, self.unseen)

    def of(self, members: Sequence[int]) -> Self:
        """Return the scores of some members alone."""
        return self.with_scores(tuple(self.scores[k] for k in members))

    def with_scores(self, scores: tuple[np.ndarray, ...]) -> Self:
        """Return other scores of the same rows."""
        return replace(self, scores=scores)

    def row_weights(self) -> np.ndarray:
        """Return weights ``(N,)`` by which each class counts the same within its group, and both groups the same."""
        is_seen = np.isin(self.labels, self.seen)
        result = 1 / np.bincount(self.labels)[self.labels]
        for group in (is_seen, ~is_seen):
            result[group] /= max(result[group].sum(), 1e-12)
        return result / result.sum()


@dataclass(frozen=True)
class ScoreFusion:
    """A fitted fusion of the scores of K members.

    Attributes:
        rule: one of :data:`RULES`.
        weights: K shares of a mean, or exponents of a product.
        slopes: K factors of the scores, whose softmax are probabilities.
        handicaps: K numbers that are taken from the seen classes' scores before the softmax.
    """

    rule: Rule
    weights: tuple[float, ...]
    slopes: tuple[float, ...]
    handicaps: tuple[float, ...]

    @classmethod
    def fit(
        cls,
        rule: Rule,
        folds: Sequence[MemberScores],
        weights: Sequence[float] | None = None,
        *,
        goal: str = "H",
        with_handicap: bool = True,
    ) -> Self:
        """Fit to held-out rows.

        Args:
            rule: one of :data:`RULES`.
            folds: each with other held-out classes.
            weights: of the "weighted" mean, by member; None chooses them among multiples of 1/6, those with the highest
                score, and of several those nearest to equal ones.
            goal: the score, "T1" or "H" after calibration.
            with_handicap: seen classes have one; else all handicaps are 0.
        """
        members = range(len(folds[0].scores))
        fits = [_fitted([fold.of((k,)) for fold in folds], with_handicap) for k in members]
        slopes, handicaps = tuple(float(slope) for (slope,), _ in fits), tuple(handicap for _, handicap in fits)
        fusion = cls(rule, (1.0,) * len(fits), slopes, handicaps)
        if rule == "weighted" and weights is None:
            tried = _weighings(fusion)
            scores = [_score(one, folds, goal) for one in tried]
            return replace(fusion, weights=tried[int(np.argmax(scores))].weights)
        if rule == "stacked":
            probabilities = [
                fold.with_scores(fusion.calibrated(fold.scores, fold.seen, fold.candidates)) for fold in folds
            ]
            exponents, _ = _fitted(probabilities, with_handicap, EXPONENTS)
            return replace(fusion, weights=tuple(exponents.tolist()))
        return fusion if rule == "product" else fusion.with_shares(weights or fusion.weights)

    @classmethod
    def plain(cls, rule: Rule, n_members: int, weights: Sequence[float] | None = None) -> Self:
        """Return a fusion of probabilities as they are: "mean", "product", or "weighted" with weights."""
        fusion = cls(rule, (1.0,) * n_members, (1.0,) * n_members, (0.0,) * n_members)
        return fusion if rule == "product" else fusion.with_shares(weights or fusion.weights)

    def with_shares(self, weights: Sequence[float]) -> Self:
        """Return the fusion with other weights, divided by their sum."""
        numbers = np.asarray(weights, dtype=np.float64)
        return replace(self, weights=tuple((numbers / numbers.sum()).tolist()))

    def calibrated(
        self, scores: Sequence[np.ndarray], seen: np.ndarray, candidates: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """Return each member's log-probabilities ``(N, C)`` float64 among the candidates, :data:`NO_CANDIDATE` beside.

        Args:
            scores: ``(N, C)`` of each member.
            seen: ids of the seen classes.
            candidates: ids of the classes that may be answered.
        """
        is_seen = np.isin(candidates, seen)
        found = []
        for own, slope, handicap in zip(scores, self.slopes, self.handicaps, strict=True):
            logs = np.full(own.shape, NO_CANDIDATE)
            logs[:, candidates] = log_softmax(
                slope * own[:, candidates].astype(np.float64) - handicap * is_seen, axis=1
            )
            found.append(logs)
        return tuple(found)

    def __call__(self, scores: Sequence[np.ndarray], seen: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Return fused log-probabilities ``(N, C)`` float32; arguments as of :meth:`calibrated`."""
        members = np.stack([logs[:, candidates] for logs in self.calibrated(scores, seen, candidates)])
        weights = np.array(self.weights)[:, None, None]
        if self.rule in ("mean", "weighted"):
            logs = logsumexp(members, axis=0, b=weights)
        else:
            logs = log_softmax((weights * members).sum(axis=0), axis=1)
        fused = np.full(scores[0].shape, NO_CANDIDATE, dtype=np.float32)
        fused[:, candidates] = logs
        return fused

    def as_dict(self, members: Sequence[str]) -> dict[str, Any]:
        """Return the fusion as JSON can hold it, with the members' names."""
        numbers = {name: list(getattr(self, name)) for name in ("weights", "slopes", "handicaps")}
        return {"rule": self.rule, "members": list(members)} | numbers

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Self:
        """Read what :meth:`as_dict` returned."""
        return cls(kept["rule"], *(tuple(map(float, kept[name])) for name in ("weights", "slopes", "handicaps")))


def _weighings(fusion: ScoreFusion) -> list[ScoreFusion]:
    """Return the fusion with each of the weights to choose from, equal ones first, then those nearest to them."""
    n_members = len(fusion.weights)
    shares = (parts for parts in product(range(SHARES + 1), repeat=n_members) if sum(parts) == SHARES)
    nearest = sorted(shares, key=lambda parts: sum(part**2 for part in parts))
    return [fusion.with_shares(parts) for parts in [(1,) * n_members, *nearest]]


def _score(fusion: ScoreFusion, folds: Sequence[MemberScores], goal: str) -> float:
    """Return T1 or calibrated H of held-out rows."""
    fused = ((fold, fusion(fold.scores, fold.seen, fold.candidates)) for fold in folds)
    held = [HeldOut.of(fold.labels, scores, fold.seen, fold.unseen) for fold, scores in fused]
    return dict(zip(("T1", "H"), calibrated_scores(held), strict=True))[goal]


def _fitted(
    folds: Sequence[MemberScores], with_handicap: bool, limits: tuple[float, float] = SLOPES
) -> tuple[np.ndarray, float]:
    """Return the factors ``(K,)`` of the members' scores, and the handicap, by which the held-out rows are likeliest.

    The likelihood is that of the softmax over the fold's candidates of the sum of the members' scores, times their
    factors, less the handicap of the seen classes. Its logarithm is concave.

    Args:
        limits: of a factor, in units of 1 / the scores' mean deviation within a row for slopes.
    """
    n_members = len(folds[0].scores)
    spreads = np.ones(n_members)
    if limits is SLOPES:
        within = [[scores[:, fold.candidates].std(axis=1).mean() for scores in fold.scores] for fold in folds]
        spreads = np.maximum(np.mean(within, axis=0), 1e-12)
    terms = [_likelihood(fold, spreads) for fold in folds]

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        values, gradients = zip(*(term(parameters) for term in terms), strict=True)
        return float(np.mean(values)), np.mean(gradients, axis=0)

    bounds = [limits] * n_members + [(None, None) if with_handicap else (0.0, 0.0)]
    start = np.append(np.full(n_members, 1 / n_members), 0.0)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return found[:-1] / spreads, float(found[-1])


def _likelihood(fold: MemberScores, spreads: np.ndarray) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Return a function from K factors and a handicap to the weighted negative log-likelihood, and its gradient."""
    candidates, weights, rows = fold.candidates, fold.row_weights(), np.arange(len(fold.labels))
    scores = np.stack([own[:, candidates] / spread for own, spread in zip(fold.scores, spreads, strict=True)])
    handicap = np.broadcast_to(-np.isin(candidates, fold.seen).astype(np.float64), (1, *scores.shape[1:]))
    inputs = np.concatenate([scores.astype(np.float64), handicap])
    own = np.searchsorted(candidates, fold.labels)

    def value(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        logs = log_softmax(np.tensordot(parameters, inputs, axes=1), axis=1)
        expected = np.einsum("nc,knc->kn", np.exp(logs), inputs)
        return -float(weights @ logs[rows, own]), (expected - inputs[:, rows, own]) @ weights

    return value
