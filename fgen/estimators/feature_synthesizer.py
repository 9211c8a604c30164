"""The door for imbalanced-learn: a sampler that adds generated rows of classes without rows, or with few.

Neither imbalanced-learn nor scikit-learn is needed; with them it works in ``imblearn.pipeline.Pipeline``.
"""

import importlib
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from fgen.data.dataset import ZSLDataset
from fgen.errors import InputError
from fgen.estimators.base import BaseEstimator
from fgen.estimators.settings import SettingsMixin
from fgen.estimators.training import described_rows, new_task, trained_generator
from fgen.experiment.steps import generated_rows
from fgen.features.checks import as_array
from fgen.features.frames import column_names
from fgen.models.base.trained import MOST_ROWS
from fgen.models.registry import MODELS

STRATEGIES = ("unseen", "not majority")


class FeatureSynthesizer(SettingsMixin, BaseEstimator):
    """Sampler that trains a generator on labelled rows and appends rows that it generates.

    Any classifier can then be fitted to seen and unseen classes alike, in ``imblearn.pipeline.Pipeline`` too: rows are
    added in ``fit`` and never in ``predict``. A classifier that is fitted so favours the seen classes;
    :func:`fgen.choose_gamma` helps against it, and :class:`fgen.ZeroShotClassifier` has it built in.

    Args:
        class_embeddings, classes: descriptions of seen and unseen classes, as of :class:`fgen.ZeroShotClassifier`.
        sampling_strategy: "unseen" gives each class without rows ``n_per_class``; "not majority" fills up all classes,
            the unseen too, to the number of rows of the largest; ``{label: n}`` fills up these classes to n rows.
        n_per_class: number of rows of each unseen class, under "unseen".
        method: a key of ``fgen.MODELS``; or "recommended", which chooses one as :func:`fgen.recommended` does.
        model, train: settings of the method and of its training; all epochs are trained, for none is chosen.
        embedding_norm, embedding_scale, embedding_weights: see
            :class:`fgen.features.class_embeddings.EmbeddingConfig`; weights are of kinds by name.
        random_state: seed of every random number, a whole number of at least 0.
        verbose: show progress bars.

    Attributes:
        generator_: the trained model, see :meth:`fgen.models.base.generator.FeatureGenerator.generate`.
        sampling_strategy_: ``{label: number of rows to generate}``.
        n_features_in_: D, the number of feature columns.
        feature_names_in_: ``(D,)`` names of the columns, if ``fit`` had a table whose column names are all text.

    Example:
        >>> data = fgen.load_dataset("toy")
        >>> X, y = data.split("trainval")
        >>> synthesizer = fgen.FeatureSynthesizer(
        ...     data.class_embeddings, method="flow", model={"epochs": 2, "hidden_dim": 16}, n_per_class=20
        ... )
        >>> more_X, more_y = synthesizer.fit_resample(X, y)
        >>> len(more_X) - len(X), sorted(set(more_y) - set(y)) == data.unseen.tolist()
        (100, True)
    """

    def __init__(
        self,
        class_embeddings: Any = None,
        *,
        classes: Sequence[Any] | None = None,
        sampling_strategy: str | Mapping[Any, int] = "unseen",
        n_per_class: int = 100,
        method: str = "clswgan",
        model: Mapping[str, Any] | None = None,
        embedding_norm: str = "l2",
        embedding_scale: float = 10.0,
        embedding_weights: Mapping[str, float] | str | None = None,
        train: Mapping[str, Any] | None = None,
        random_state: int = 0,
        verbose: bool = False,
    ) -> None:
        self.class_embeddings = class_embeddings
        self.classes = classes
        self.sampling_strategy = sampling_strategy
        self.n_per_class = n_per_class
        self.method = method
        self.model = model
        self.embedding_norm = embedding_norm
        self.embedding_scale = embedding_scale
        self.embedding_weights = embedding_weights
        self.train = train
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any) -> Self:
        """Train the generator, and count the rows to generate.

        Raises:
            InputError: as :meth:`fit_resample`.
        """
        self._fit(X, y)
        return self

    def fit_resample(self, X: Any, y: Any) -> tuple[Any, Any]:
        """Train the generator on features ``(N, D)`` and labels ``(N,)``, and append M generated rows.

        Returns:
            Features ``(N + M, D)`` and labels ``(N + M,)``; the first N are those that were given. Of a DataFrame and a
            Series they are such, with a new index; of anything else arrays.

        Raises:
            InputError: a baseline, a strategy that doesn't fit, sparse features, labels without a description, shapes
                that don't match, numbers that aren't finite.
        """
        rows, labels = self._fit(X, y)
        return _appended("X", X, rows), _appended("y", y, labels)

    def _fit(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Train the generator; return generated rows ``(M, D)`` and their labels ``(M,)``."""
        recipe = self._recipe()
        if recipe.model.name not in MODELS:
            found = f"method {recipe.model.name!r} is a baseline, which makes no features"
            raise InputError(found, f"one of the generators {', '.join(MODELS)}")
        dataset, labels = described_rows(self, X, y, stacklevel=4)
        counts = self._counts(dataset, labels)
        task = new_task(self, recipe, dataset)
        model = trained_generator(task, "training" if self.verbose else None)
        rows, ids = generated_rows(task, model, counts)
        self.generator_, self.n_features_in_ = model, dataset.feature_dim
        of_label = zip(labels.tolist(), counts.tolist(), strict=True)
        self.sampling_strategy_ = {label: count for label, count in of_label if count}
        names = column_names(X)
        if names is not None:
            self.feature_names_in_ = np.array(names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        return rows, labels[ids]

    def _counts(self, dataset: ZSLDataset, labels: np.ndarray) -> np.ndarray:
        """Return how many rows ``(C,)`` to generate of each class."""
        strategy, present = self.sampling_strategy, np.bincount(dataset.labels, minlength=dataset.n_classes)
        if isinstance(strategy, Mapping):
            return _missing(strategy, labels.tolist(), present)
        if strategy == "unseen":
            return np.where(present == 0, self.n_per_class, 0)
        if strategy == "not majority":
            return present.max() - present
        found = f"sampling_strategy is {strategy!r}"
        raise InputError(found, f"one of {', '.join(map(repr, STRATEGIES))}, or a dict from label to number of rows")


def _missing(wanted: Mapping[Any, int], labels: list[Any], present: np.ndarray) -> np.ndarray:
    """Return how many rows ``(C,)`` classes lack to have as many as ``wanted`` says; others get none.

    Raises:
        InputError: a label without a description, or a number below that of the rows that are there.
    """
    counts = np.zeros(len(labels), dtype=np.int64)
    for label, number in wanted.items():
        if label not in labels:
            raise InputError(f"sampling_strategy holds the label {label!r}", "labels that class_embeddings describes")
        there = present[labels.index(label)]
        if not isinstance(number, numbers.Integral) or not there <= number < MOST_ROWS:
            expected = f"a whole number of at least {there}, its rows in y, below {MOST_ROWS:,}"
            raise InputError(f"sampling_strategy[{label!r}] is {number!r}", expected)
        counts[labels.index(label)] = number - there
    return counts


def _appended(name: str, given: Any, more: np.ndarray) -> Any:
    """Return rows or labels with more below them: of a table of pandas' such a table, else an array."""
    if not hasattr(given, "iloc"):
        return np.concatenate([as_array(name, given), more])
    pandas = importlib.import_module(type(given).__module__.partition(".")[0])
    columns = {"columns": given.columns} if hasattr(given, "columns") else {"name": given.name}
    return pandas.concat([given, type(given)(more, **columns)], ignore_index=True)
