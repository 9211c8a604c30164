"""An experiment's settings: the sections of ``CONFIG.toml`` as frozen dataclasses."""

import json
from collections import ChainMap
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self, get_origin, get_type_hints

from fgen.baselines import BASELINES
from fgen.classifiers.registry import CLASSIFIERS
from fgen.config import apply_overrides, build, expect_plain, read_toml, refuse_unknown, to_mapping
from fgen.data.dataset import ZSLDataset
from fgen.data.files import load_dataset
from fgen.errors import InputError, did_you_mean
from fgen.features.class_embeddings import EmbeddingConfig, Norm, Weights, expect_weights
from fgen.metrics.decision_fusion import Rule
from fgen.models.base.trained import MOST_ROWS
from fgen.models.registry import MODELS
from fgen.training.loop import TrainConfig


@dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """``[dataset]``: which data, and how class embeddings are prepared.

    Attributes:
        name: ``"emoji"`` or ``"toy"``; or else
        path: a folder with a ``.mat`` pair, an ``.h5`` or an ``.npz`` file.
        embedding: one kind of class embedding, or several; None is the first. ``{kind: weight}`` are several kinds,
            sorted by name, with their weights.
        embedding_norm, embedding_scale: see :class:`fgen.features.class_embeddings.EmbeddingConfig`.
        embedding_weights: ``{kind: weight}`` of kinds that ``embedding`` lists, or ``"auto"``, which chooses them on
            held-out classes (:mod:`fgen.experiment.weights`). They multiply each kind after its norm.
        fusion: what is made of several kinds: ``"concat"``, side by side, which None is too; ``"average"`` of kinds
            with equally many columns; ``"decision"``, a model and a head for each, whose calibrated probabilities are
            fused, see :mod:`fgen.experiment.fused`.
        fusion_rule: of ``"decision"``, one of :data:`fgen.metrics.decision_fusion.RULES`; None is ``"weighted"`` where
            there are weights, else ``"mean"``.
        split_seed: names the choice of validation classes where the data have none, and that of shots.
        shots: real rows of unseen classes to train on (any-shot learning), see :meth:`fgen.ZSLDataset.with_shots`.
        shot_classes: which of them: a share (``0.5``), a number, or names; None is all.
    """

    name: str | None = None
    path: str | None = None
    embedding: str | tuple[str, ...] | dict[str, float] | None = None
    embedding_norm: Norm = "none"
    embedding_scale: float = 1.0
    embedding_weights: Weights | None = None
    fusion: Literal["concat", "average", "decision"] | None = None
    fusion_rule: Rule | None = None
    split_seed: int = 0
    shots: int = 0
    shot_classes: int | float | tuple[str, ...] | None = None  # int first: a float takes whole numbers too

    def __post_init__(self) -> None:
        if (self.name is None) == (self.path is None):
            raise InputError(
                f"dataset has name = {self.name!r} and path = {self.path!r}",
                "exactly one of them",
                "Give one with --set dataset.name=none --set dataset.path=FOLDER",
            )
        self._check_kinds()
        if self.shots < 0:
            raise InputError(f"shots is {self.shots}", "a whole number of at least 0")
        if self.shot_classes is not None and not self.shots:
            raise InputError("shot_classes is set, and nothing uses it", "shots of at least 1", "Set shots as well")

    def _check_kinds(self) -> None:
        """Refuse settings of the kinds of embedding that don't fit together."""
        self.preparation  # noqa: B018 (its own checks)
        if isinstance(self.embedding, dict) and self.embedding_weights is not None:
            remedy = "Give the kinds as a list, or leave embedding_weights out"
            raise InputError("embedding holds weights, and embedding_weights is set", "one of them", remedy)
        several = isinstance(self.embedding, dict | tuple) and len(self.embedding) > 1
        keys = ("embedding_weights", "fusion", "fusion_rule")
        if not several and (set_too := [key for key in keys if getattr(self, key) is not None]):
            found = f"{set_too[0]} is set, and embedding is {self.embedding!r}"
            raise InputError(found, "several kinds", 'Name them: embedding = ["sentence", "attributes"]')
        if self.fusion_rule is not None and self.fusion != "decision":
            raise InputError("fusion_rule is set, and nothing uses it", "fusion = 'decision' with it")
        if self.weights is not None and self.fusion_rule not in (None, "weighted"):
            found = f"fusion_rule is {self.fusion_rule!r}, and there are weights"
            raise InputError(found, "'weighted', or no weights")
        if self.fusion == "decision" and isinstance(self.weights, dict):
            expect_weights("embedding_weights", self.weights)
            if sorted(self.weights) != sorted(self.kinds or ()):
                raise InputError(f"embedding_weights are of {', '.join(self.weights)}", "of each kind in embedding")

    @property
    def kinds(self) -> str | tuple[str, ...] | None:
        """The kinds in use, as :func:`fgen.load_dataset` takes them."""
        return tuple(sorted(self.embedding)) if isinstance(self.embedding, dict) else self.embedding

    @property
    def weights(self) -> Weights | None:
        """The weights of kinds by name, "auto", or None."""
        return self.embedding if isinstance(self.embedding, dict) else self.embedding_weights

    @property
    def preparation(self) -> EmbeddingConfig:
        """How class embeddings are prepared; under ``"decision"`` each kind by itself."""
        norm, scale = self.embedding_norm, self.embedding_scale
        if self.fusion == "decision":
            return EmbeddingConfig(norm=norm, scale=scale)
        return EmbeddingConfig(norm=norm, scale=scale, weights=self.weights, fusion=self.fusion)

    @property
    def rule(self) -> Rule:
        """The rule of decision-level fusion."""
        return self.fusion_rule or ("mean" if self.weights is None else "weighted")

    def of_kind(self, kind: str) -> Self:
        """Return the section with this kind of embedding alone."""
        return replace(self, embedding=kind, embedding_weights=None, fusion=None, fusion_rule=None)

    @property
    def source(self) -> str:
        """The name or path for :func:`fgen.load_dataset`."""
        return self.name or self.path or ""

    def load(self) -> ZSLDataset:
        """Load the data set, with the embedding in use and the shots of unseen classes."""
        dataset = load_dataset(self.source, self.kinds, seed=self.split_seed)
        return dataset.with_shots(self.shots, self.shot_classes, seed=self.split_seed)


@dataclass(frozen=True, kw_only=True)
class BankConfig:
    """``[bank]``: how much is generated.

    Attributes:
        n_per_class: features for each unseen class.
        n_per_seen_class: features for each seen class, beside the real ones.
        real: heads also learn from the real rows of seen classes; false leaves them ``n_per_seen_class`` generated
            ones in their place, as some released codes have it. Shots of unseen classes are learned from either way.
        dtype: ``"f4"``, or ``"f2"`` for half the size at about 5e-4 relative error.
    """

    n_per_class: int = 300
    n_per_seen_class: int = 0
    real: bool = True
    dtype: Literal["f4", "f2"] = "f4"

    def __post_init__(self) -> None:
        for key, least in (("n_per_class", 1), ("n_per_seen_class", 0)):
            if not least <= getattr(self, key) < MOST_ROWS:
                raise InputError(f"{key} is {getattr(self, key)}", f"at least {least}, below {MOST_ROWS:,}")
        if not self.real and not self.n_per_seen_class:
            raise InputError("bank.real is false, and n_per_seen_class 0", "real or generated rows of seen classes")


@dataclass(frozen=True, kw_only=True)
class ProtocolConfig:
    """``[protocol]``: how hyperparameters are chosen and what is reported.

    Attributes:
        name: ``"honest"`` chooses on classes held out of trainval; ``"legacy"`` on the test set, as papers did.
        setting: the score that selection looks at: ``"zsl"`` T1, ``"gzsl"`` H. All scores are reported either way.
        seeds: one run each.
        evaluations: how often, evenly spread, the selection run is evaluated; each may become the number of epochs.
        calibrate: subtract a constant from the seen classes' scores, chosen where the epochs are chosen
            (calibrated stacking, Chao et al. 2016).
        folds: 1 chooses on the data set's validation classes, and the gamma with the highest H there. More choose on
            as many folds, in which each seen class is held out once, and by :func:`fgen.metrics.gamma.choose`, which
            does no harm where classes are few. ``"auto"`` takes more than 1 to calibrate on up to 12 seen classes, or
            fewer than 4 validation classes, see :func:`fgen.data.folds.n_folds`.
    """

    name: Literal["honest", "legacy"] = "honest"
    setting: Literal["zsl", "gzsl"] = "gzsl"
    seeds: tuple[int, ...] = (0,)
    evaluations: int = 10
    calibrate: bool = False
    folds: int | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        repeated = len(set(self.seeds)) < len(self.seeds)
        if not self.seeds or repeated or min(self.seeds) < 0 or max(self.seeds) >= 2**63:
            raise InputError(f"seeds are {list(self.seeds)}", "one or more different numbers from 0 to 2**63 - 1")
        if self.evaluations < 1:
            raise InputError(f"evaluations is {self.evaluations}", "at least 1")
        if self.folds != "auto" and self.folds < 1:
            raise InputError(f"folds is {self.folds}", "at least 1, or 'auto'")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a result but the data set. ``model`` and ``classifier`` are configs, chosen by name.

    Attributes:
        embedding: how class embeddings are prepared; the data set gives ``widths``.
    """

    model: Any
    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    bank: BankConfig = field(default_factory=BankConfig)
    classifier: Any = field(default_factory=lambda: CLASSIFIERS["softmax"]())
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Build from a section for each field, as TOML has them; an unknown section, name or key is an error that
        names the nearest.
        """
        expect_plain(mapping)
        kinds = cls.sections()
        _refuse_unknown_sections(mapping, kinds)
        for section, value in mapping.items():
            if not isinstance(value, Mapping):
                raise InputError(f"[{section}] is {value!r}", "a section with keys")
        sections = sorted(kinds, key=lambda section: section == "model")  # checked last
        return cls(**{section: _built(section, kinds[section], mapping) for section in sections})

    def candidates(self) -> list[Self]:
        """Return the recipe with each of the heads to choose from."""
        return [replace(self, classifier=candidate) for candidate in self.classifier.candidates()]

    def with_choice(self, choice: Mapping[str, Any]) -> Self:
        """Return the recipe with the head's penalty and the weights of kinds that ``choice.json`` names, where these
        were to be chosen.
        """
        chosen = self
        if self.embedding.weights == "auto":
            chosen = self.with_weights(choice["embedding_weights"])
        if len(self.candidates()) == 1:
            return chosen
        return replace(chosen, classifier=replace(self.classifier, l2=choice["l2"]))

    def with_weights(self, weights: dict[str, float]) -> Self:
        """Return the recipe with these weights of kinds."""
        return replace(self, embedding=replace(self.embedding, weights=weights))

    def to_mapping(self) -> dict[str, Any]:
        """Return TOML-able sections, without free ones that are empty; :meth:`from_mapping` reads them back."""
        sections: dict[str, Any] = {}
        for name in self.sections():
            value = getattr(self, name)
            if isinstance(value, dict):
                sections |= {name: value} if value else {}
                continue
            named = {"name": value.name} if name in ("model", "classifier") else {}
            sections[name] = named | to_mapping(value)
        return sections

    @classmethod
    def sections(cls) -> dict[str, Any]:
        """Return the class of each section, or those that its key ``name`` chooses from, in a file's order."""
        names = (section.name for section in fields(cls) if section.init)
        kinds = get_type_hints(cls) | NAMED
        return {name: kinds[name] for name in sorted(names, key=lambda name: name != "dataset")}


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig(Recipe):
    """Everything that decides a result: a recipe and its data set, whose section says how embeddings are prepared.

    Attributes:
        paper, ours: notes on published and on own scores; they decide nothing.

    Example:
        >>> settings = {"dataset": {"name": "toy"}, "model": {"name": "clswgan", "epochs": 2}}
        >>> config = fgen.ExperimentConfig.from_mapping(settings)
        >>> config.model.epochs, config.protocol.name
        (2, 'honest')
    """

    dataset: DatasetConfig
    embedding: EmbeddingConfig = field(init=False, repr=False)
    paper: dict[str, Any] = field(default_factory=dict)
    ours: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "embedding", self.dataset.preparation)

    def with_weights(self, weights: dict[str, float]) -> Self:
        """Return the experiment with these weights of kinds."""
        return replace(self, dataset=replace(self.dataset, embedding_weights=weights))

    @classmethod
    def from_file(cls, path: str | Path, overrides: list[str] | None = None) -> Self:
        """Read a TOML file and apply ``section.key=value`` overrides."""
        return cls.from_mapping(apply_overrides(read_toml(path), overrides or []))

    def unused(self) -> list[str]:
        """Return the settings, as ``section.key``, that differ from the default and have no effect.

        These are a baseline's bank and head, and what only another solver or a term with a weight of 0 reads.
        """
        plain = replace(self, model=type(self.model)(), bank=BankConfig(), classifier=type(self.classifier)())
        given, defaults = self.to_mapping(), plain.to_mapping()
        defaults["classifier"]["name"] = "softmax"
        if self.model.name in BASELINES:
            unused = {section: given[section] for section in ("bank", "classifier")}
        else:
            unused = {section: getattr(self, section).unused_fields for section in ("model", "classifier")}
        return [
            f"{section}.{key}"
            for section, keys in unused.items()
            for key, value in given[section].items()
            if key in keys and defaults[section].get(key) != value
        ]

    def of_seed(self, seed: int) -> Self:
        """Return the experiment with this seed alone, so that a seed's files don't depend on the other seeds."""
        return replace(self, protocol=replace(self.protocol, seeds=(seed,)))


#: The classes that a section's key ``name`` chooses from.
NAMED: dict[str, Mapping[str, Any]] = {"model": ChainMap(BASELINES, MODELS), "classifier": CLASSIFIERS}


def _built(section: str, kind: Any, mapping: Mapping[str, Any]) -> Any:
    """Return a section as its class, or what a free one says."""
    given = mapping.get(section, {})
    if section in NAMED:
        return named_config(section, given)
    return _noted(given, section) if get_origin(kind) is dict else build(kind, given, section)


def _refuse_unknown_sections(mapping: Mapping[str, Any], sections: Mapping[str, Any]) -> None:
    for key in (key for key in mapping if key not in sections):
        if owners := [f"{name}.{key}" for name, kind in sections.items() if key in _keys(kind)]:
            raise InputError(f"{key} stands in no section", " or ".join(owners))
    refuse_unknown(mapping, sections, "config")


def _keys(kind: Any) -> set[str]:
    """Return the keys of a dataclass, or of all that there are to choose from."""
    classes = [cls for _, cls in usable(kind)] if isinstance(kind, Mapping) else [kind]
    return {setting.name for cls in classes if is_dataclass(cls) for setting in fields(cls)}


def usable(registry: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield each name with its class, but for methods of installed packages that can't be imported."""
    for name in registry:
        with suppress(InputError):
            yield name, registry[name]


def _noted(given: Mapping[str, Any], section: str) -> dict[str, Any]:
    """Return a free section as JSON can hold it, with dates as text."""
    try:
        text = json.dumps(given, default=lambda date: date.isoformat(), allow_nan=False)
    except (ValueError, AttributeError):
        raise InputError(f"[{section}] holds an infinite number or NaN", "finite numbers, text, dates") from None
    return dict(json.loads(text))


def named_config(section: str, mapping: Mapping[str, Any]) -> Any:
    """Return the config of the method or the head that the key ``name`` of a section names.

    Raises:
        InputError: no such name, though the head is by default the softmax classifier; a key that it doesn't have.
    """
    registry, settings = NAMED[section], dict(mapping)
    name = settings.pop("name", "softmax" if section == "classifier" else None)
    if name is None:
        raise InputError(f"[{section}] has no name", f"name = one of {', '.join(registry)}")
    if not isinstance(name, str) or name not in registry:
        remedy = did_you_mean(str(name), registry)
        raise InputError(f"{section}.name is {name!r}", f"one of {', '.join(registry)}", remedy)
    own = _keys(registry[name])
    for key in (key for key in settings if key not in own):
        if owners := [other for other, cls in usable(registry) if key in _keys(cls)]:
            raise InputError(
                f"{section}.{key} is set, which {name} doesn't have",
                remedy=f"It belongs to {', '.join(owners)}: leave it out, or name one of them in {section}.name. "
                f"To replace the whole section: --set '{section}={{name = \"{name}\"}}'",
            )
    return build(registry[name], settings, section)
