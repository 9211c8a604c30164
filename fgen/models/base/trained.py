"""Generation and representation by a trained model."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fgen import rng
from fgen.compute.device import matrix_precision
from fgen.errors import InputError
from fgen.features.checks import as_array, as_ids, as_matrix, checked_names
from fgen.features.distribution import FeatureDistribution
from fgen.features.frames import named_by_index, rows_by_name
from fgen.features.labels import ids_by_name
from fgen.features.rows import Features, as_rows, iter_blocks
from fgen.models.base.fixed_batches import ALIGNED, NOISE_CHUNK, concatenate_blocks, noise_blocks, rows_by_class
from fgen.models.base.storage import StoredModel
from fgen.models.base.stream import FeatureStream

#: More rows of a class are taken for a typing error.
MOST_ROWS = 2**31


class TrainedModel(StoredModel):
    """Base of what a trained model does: generate features of any class, and map features to the heads' space.

    Attributes:
        bank_space: space of the bank that a run's heads train on: ``"raw"``, or a name if the method's heads train on
            what can't be computed from raw features (CADA-VAE's latents).
    """

    bank_space: ClassVar[str] = "raw"

    # The formulas that methods override.

    def synthesise(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Return scaled features ``(B, D)`` for noise ``(B, Z)`` and prepared embeddings ``(B, A)``.

        Gradients flow through it: an ``nn.Module`` that has ``model.networks`` as a member may call it in its forward.
        ``model.preprocessor`` prepares raw embeddings, and ``model.scaler.invert`` returns raw features.
        """
        return self.networks["generator"](noise, condition)

    def chunk_noise(self, stream: np.random.Generator) -> np.ndarray:
        """Draw the noise ``(NOISE_CHUNK, Z)`` float32 of the next rows of a class."""
        return stream.standard_normal((NOISE_CHUNK, self.noise_dim), dtype=np.float32)

    def represent_scaled(self, features: Tensor) -> Tensor:
        """Map scaled features ``(B, D)`` to the space of the method's heads, ``(B, D')``; by default the same."""
        return features

    def class_part(self, condition: Tensor) -> tuple[Tensor, ...]:
        """Return what :meth:`synthesise` takes beside the noise, a row for each of the prepared embeddings ``(K, A)``.

        It is evaluated once for each class, and not for each row. By default it is the embeddings alone.
        """
        return (condition,)

    def synthesise_represented(self, noise: Tensor, *class_part: Tensor) -> Tensor:
        """Return rows ``(B, D')`` in the space of the method's heads, for noise and the rows' :meth:`class_part`."""
        return self.represent_scaled(self.synthesise(noise, *class_part))

    def gaussians(self, condition: Tensor) -> FeatureDistribution:
        """Return the Gaussians of prepared embeddings ``(K, A)``; a method that knows none refuses."""
        raise InputError(
            f"{self.config.name} generates rows only, and knows no distribution",
            "a method that does, as priorgan",
            "Estimate one from the rows of generate()",
        )

    # What users call.

    @torch.no_grad()
    def distribution(self, classes: Any, class_names: Sequence[str] | None = None) -> FeatureDistribution:
        """Return Gaussians of the features of seen or unseen classes, as far as their embeddings tell.

        Args:
            classes: ``(K,)`` ids or names, or ``(K, A)`` raw embeddings, as for :meth:`generate`.
            class_names: K names, where embeddings are given.

        Returns:
            ``mean (K, D)``, ``covariance (D, D)`` and ``uncertainty (K,)`` in the space of the model's ``scaler``.

        Raises:
            InputError: the method generates rows only.
        """
        embeddings, _, _ = self.describe(classes, class_names)
        with matrix_precision("highest", self.device):
            return self.gaussians(torch.from_numpy(self.preprocessor(embeddings)).to(self.device))

    def generate(
        self,
        classes: Any,
        n_per_class: int,
        *,
        seed: int,
        class_names: Sequence[str] | None = None,
        represented: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Generate features for seen or unseen classes.

        Args:
            classes: ``(K,)`` integer ids, rows of the class embeddings given to :meth:`fit`, or names given there; or
                ``(K, A)`` raw embeddings of any classes.
            n_per_class: rows for each class.
            seed: with the class's name (or its embedding, without names) the only source of noise: the features
                don't depend on the order or number of classes, and a larger ``n_per_class`` extends a smaller.
            class_names: K names, where embeddings are given; by default those of a table's index.
            represented: give them where the method's own heads live, in place of the raw space.

        Returns:
            features ``(K * n_per_class, D)`` float32 in the caller's raw space, sorted as asked for, and their
            labels: the ids, or 0 to K - 1 where embeddings were given.
        """
        embeddings, names, ids = self.describe(classes, class_names)
        expect_row_count(n_per_class)
        counts = np.full(len(ids), n_per_class)
        blocks = self.iter_generate(embeddings, names, counts, seed=seed, represented=represented)
        return concatenate_blocks(blocks, int(counts.sum())), np.repeat(ids, n_per_class)

    def stream(
        self,
        classes: Any,
        n_per_class: int = ALIGNED,
        *,
        seed: int,
        class_names: Sequence[str] | None = None,
        represented: bool = False,
    ) -> FeatureStream:
        """Return an endless torch ``IterableDataset`` of fresh features, see :class:`FeatureStream`.

        Workers of a ``DataLoader`` share its rows. With a model on a GPU leave ``num_workers`` 0: a forked worker can't
        use the GPU.

        Args:
            classes, class_names, represented: as in :meth:`generate`.
            n_per_class: rows of each class in a round, which is generated at once; multiples of 16 waste no time.
            seed: with the epoch (``set_epoch``) and the class the only source of noise.

        Returns:
            Rows ``(feature (D,) float32, label () int64)`` in random order; labels are those of :meth:`generate`.

        Raises:
            InputError: what :meth:`generate` refuses.
        """
        _, _, ids = self.describe(classes, class_names)
        expect_row_count(n_per_class)
        rng.subseed(seed, "stream")  # refuse what is no seed before a worker does
        generate = partial(self.generate, classes, n_per_class, class_names=class_names, represented=represented)
        return FeatureStream(generate, n_per_class * len(ids), seed)

    def describe(
        self, classes: Any, class_names: Sequence[str] | None = None
    ) -> tuple[np.ndarray, tuple[str, ...] | None, np.ndarray]:
        """Return raw embeddings ``(K, A)``, names or None, and labels ``(K,)`` of the classes of :meth:`generate`."""
        if not self.networks:
            raise InputError("the model hasn't been trained", "fit() or load_model() before generate()")
        if class_names is not None or named_by_index(classes):
            classes, class_names = rows_by_name(classes, class_names)
        classes = as_array("classes", classes)
        if classes.ndim == 1:
            remedy = "The model was fitted without class_names: give ids"
            classes = ids_by_name(classes, self.class_names, name="classes", remedy=remedy)
        if classes.ndim == 2 and len(classes):
            embeddings, names = as_matrix("classes", classes, "raw embeddings (K, A)"), None
            if class_names is not None:
                names = checked_names(class_names, len(classes), each="embedding", distinct=False)
            return embeddings, names, np.arange(len(classes))
        ids = as_ids("classes", classes, expected="class ids (K,) of at least 0, or raw embeddings (K, A)")
        if ids.max() >= len(self.class_embeddings):
            raise InputError(f"classes names the id {ids.max()}", f"ids from 0 to {len(self.class_embeddings) - 1}")
        names = None if self.class_names is None else tuple(self.class_names[i] for i in ids)
        return self.class_embeddings[ids], names, ids

    @torch.inference_mode()
    def iter_generate(
        self,
        embeddings: np.ndarray,
        names: Sequence[str] | None,
        counts: np.ndarray,
        *,
        seed: int,
        represented: bool = False,
    ) -> Iterator[np.ndarray]:
        """Yield the features of each class, ``(counts[k], D)`` raw float32, with bounded memory."""
        if not len(counts):
            return
        represented = represented and self.has_own_space
        prepared = torch.from_numpy(self.preprocessor(embeddings)).to(self.device)
        with matrix_precision("highest", self.device):
            parts = self.class_part(prepared)
        keys = [rng.class_key(None if names is None else names[k], row) for k, row in enumerate(embeddings)]
        formula = self.synthesise_represented if represented else self._synthesise_raw
        noises = noise_blocks(self.chunk_noise, keys, counts, seed)
        blocks = (self._computed(formula, noise, *(part[of_class] for part in parts)) for noise, of_class in noises)
        yield from rows_by_class(blocks, counts, self._width(represented))

    def _synthesise_raw(self, noise: Tensor, *class_part: Tensor) -> Tensor:
        return self.scaler.invert(self.synthesise(noise, *class_part))

    @torch.inference_mode()
    def _computed(self, formula: Callable[..., Tensor], rows: np.ndarray, *inputs: Tensor) -> np.ndarray:
        """Return a formula of rows, computed in float32 whatever torch, or another thread, is set to."""
        with matrix_precision("highest", self.device):
            return formula(torch.tensor(rows, device=self.device), *inputs).float().cpu().numpy()

    @property
    def bank_dim(self) -> int:
        """Return the number of columns of a bank in the method's :attr:`bank_space`."""
        return self._width(self.bank_space != "raw")

    def _width(self, represented: bool) -> int:
        no_rows = np.zeros((0, self.scaler.dim), dtype=np.float32)
        return int((self.represent(no_rows) if represented else no_rows).shape[1])

    def represent(self, features: Features) -> Any:
        """Map raw features ``(N, D)`` to the space of the method's heads, ``(N, D')``; by default the same."""
        if not self.has_own_space:
            return features
        blocks = chain([np.zeros((0, self.scaler.dim), np.float32)], iter_blocks(as_rows(features)))
        return np.concatenate([self._computed(self._represent_raw, block) for block in blocks])

    def _represent_raw(self, features: Tensor) -> Tensor:
        return self.represent_scaled(self.scaler.apply(features))

    @property
    def has_own_space(self) -> bool:
        """Return whether the method's heads have a space of their own."""
        return type(self).represent_scaled is not TrainedModel.represent_scaled

    @property
    def noise_dim(self) -> int:
        """Return Z, the number of columns of noise."""
        return self.config.noise_dim or self.preprocessor.dim


def expect_row_count(n_per_class: int) -> None:
    """Refuse a number of rows of a class that is none, or that was mistyped."""
    whole = isinstance(n_per_class, int | np.integer) and not isinstance(n_per_class, bool)
    if not whole or not 1 <= n_per_class < MOST_ROWS:
        raise InputError(f"n_per_class is {n_per_class}", f"a whole number of at least 1, below {MOST_ROWS:,}")
