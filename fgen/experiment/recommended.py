"""Choice of a recipe for a data set, on classes held out of its seen ones, from a short declared list.

The prior comes first: kernel, width, penalty and the preparation of embeddings and features are compared in closed form
under the whitened cosine head. With the best of them and on the same folds then follow the prior with the rows' own
spread under softmax regression, priorgan, and where classes have many rows f-CLSWGAN with class-mean matching under
both heads. No test row is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fgen.classifiers.cosine import CosineConfig
from fgen.classifiers.softmax import SoftmaxConfig
from fgen.config import apply_overrides, build, read_toml, to_mapping
from fgen.data.dataset import ZSLDataset
from fgen.data.files import BUILT_IN, DATA_SUFFIXES
from fgen.data.folds import validation_folds
from fgen.data.splits import by_class, evenly_spaced
from fgen.errors import InputError
from fgen.experiment.committed import find_experiment
from fgen.experiment.config import BankConfig, DatasetConfig, ExperimentConfig, ProtocolConfig, Recipe
from fgen.experiment.prior_search import PriorSetting, scored_priors
from fgen.experiment.recipe_search import Candidate, Trial, facts_of, score_trials
from fgen.features.class_embeddings import EmbeddingConfig, Norm
from fgen.features.scaling import Kind
from fgen.metrics.gamma import HeldOut, calibrated_scores
from fgen.models.clswgan import CLSWGANConfig
from fgen.models.priorgan import PriorGANConfig
from fgen.training.loop import TrainConfig

#: Preparation of features and of class embeddings.
SCALINGS: tuple[Kind, ...] = ("sqrt", "standard")
NORMS: tuple[Norm, ...] = ("l2", "standardise")
#: Kernels of the prior: widths of RBF kernels, of which the last is the linear kernel, the limit of wide ones.
WIDTHS = (0.1, 0.3, 1.0, 3.0, 100.0)
ALPHAS = (0.1, 0.3, 1.0, 3.0)
#: Penalties of the softmax head.
PENALTIES = (1e-2, 1e-3, 1e-4)
#: Training steps of priorgan and of f-CLSWGAN, and their epochs at most. Half of them are compared with all.
PRIORGAN_STEPS, CLSWGAN_STEPS, MOST_EPOCHS, EVALUATIONS = 600, 1000, 15, 2
#: From so many rows of a class on f-CLSWGAN is tried: from fewer its critic learns little.
ROWS_FOR_CLSWGAN = 20
#: Fewest and most folds. Between them each holds out as many classes as are unseen.
FOLDS = (2, 5)
FEWEST_CLASSES = 4
#: Held-out rows of a class that are scored at most: more would hardly make its accuracy surer, and they take memory.
MOST_SCORED = 100
#: A generator is trained for long only where the mean of T1 and H is higher by this than with the prior alone.
LEAST_GAIN = 0.005
#: Length of a prepared class embedding of one kind.
EMBEDDING_LENGTH = 5.0


@dataclass(frozen=True)
class Recommendation:
    """A recipe, and what it was chosen from.

    Attributes:
        candidates: the choice, then all others.
        priors: settings of the prior that were compared in closed form, with their mean of T1 and calibrated H.
    """

    candidates: tuple[Candidate, ...]
    priors: dict[PriorSetting, float]

    @property
    def recipe(self) -> Recipe:
        """The choice, which is calibrated on held-out classes."""
        return self.candidates[0].recipe

    @property
    def tried(self) -> list[dict[str, Any]]:
        """Settings and scores of the candidates, the choice first, then of the priors."""
        of_priors = ({"prior": to_mapping(one), "score": round(score, 4)} for one, score in self.priors.items())
        return [*(candidate.as_dict() for candidate in self.candidates), *of_priors]

    def as_dict(self) -> dict[str, Any]:
        """Return the choice and all that was tried, as JSON can hold it."""
        tried = self.tried
        return {"chosen": tried[0], "tried": tried, "recipe": self.recipe.to_mapping()}

    def experiment(self, dataset: ZSLDataset, candidate: int = 0) -> ExperimentConfig:
        """Return the settings of an experiment with a candidate's recipe, by default the chosen one.

        Raises:
            InputError: a data set that was built in memory.
        """
        recipe, section = self.candidates[candidate].recipe, dataset_section(dataset)
        sections = {name: getattr(recipe, name) for name in Recipe.sections() if name != "embedding"}
        embedding = recipe.embedding
        section = replace(section, embedding_norm=embedding.norm, embedding_scale=embedding.scale)
        return ExperimentConfig(**sections, dataset=section, ours={"tried": self.tried})


def recommended(
    dataset: ZSLDataset, *, seed: int = 0, budget: float = 3.0, progress: bool | None = None
) -> ExperimentConfig:
    """Choose an experiment's settings for a data set, on classes held out of its seen ones.

    Compared are settings of the prior (:class:`~fgen.models.priorgan.PriorGANConfig`), the prior with and without an
    adversarial part, f-CLSWGAN with class-mean matching where classes have 20 rows and more, the number of epochs, and
    the head: whitened cosine, or softmax regression with several penalties. The best mean of T1 and calibrated H over
    folds of held-out classes wins; the prior alone, unless another is better by half a point. Test rows are not read.

    Args:
        dataset: from :func:`fgen.load_dataset`, whose name or path the settings keep; the kinds of class embedding in
            use are those of the settings.
        seed: of the folds and of every training, and the settings' own; the same seed makes the same choice.
        budget: time allowed, as a multiple of the time that a run with the slowest candidate takes. It decides on how
            many folds generators and softmax heads are trained; up to 1 none is, and the prior alone remains, whose
            settings are compared in at most such a time.
        progress: show bars; None shows them on a terminal.

    Returns:
        Settings for :func:`fgen.run`. Their section ``ours`` holds all that was tried, with its scores.

    Raises:
        InputError: a data set that was built in memory, fewer than 4 seen classes, or no row to hold out.

    Example:
        >>> config = fgen.recommended(fgen.load_dataset("toy"), budget=0)
        >>> config.dataset.name, config.model.name, config.protocol.calibrate
        ('toy', 'priorgan', True)
    """
    dataset_section(dataset)  # refuse before work is done
    return recommend(dataset, seed=seed, budget=budget, progress=progress).experiment(dataset)


def dataset_section(dataset: ZSLDataset) -> DatasetConfig:
    """Return the section that loads the data set again, with the kinds of class embedding in use.

    Raises:
        InputError: the data set is no file's.
    """
    if dataset.source is None:
        raise InputError(
            f"{dataset.name} was built in memory, and an experiment names its data",
            "a data set of fgen.load_dataset",
            "Write it with fgen.save_dataset and load it, or use ZeroShotClassifier(method='recommended')",
        )
    source, seed = dataset.source
    name, path = (source, None) if source in BUILT_IN else (None, source)
    kinds = dataset.embedding if len(dataset.embedding) > 1 else dataset.embedding[0]
    return DatasetConfig(name=name, path=path, embedding=kinds, split_seed=seed)


def experiment_for(
    source: str, overrides: Sequence[str], *, kept: Path | None = None, progress: bool | None = None
) -> ExperimentConfig:
    """Return the experiment of a TOML file; for a data set choose one, see :func:`settings_for`."""
    return ExperimentConfig.from_mapping(settings_for(source, overrides, kept=kept, progress=progress))


def settings_for(
    source: str, overrides: Sequence[str], *, kept: Path | None = None, progress: bool | None = None
) -> dict[str, Any]:
    """Return the settings in a TOML file, not yet checked; for a data set choose them, see :func:`recommended`.

    Args:
        source: path of a TOML file, the name of an experiment that comes with fgen, or what :func:`fgen.load_dataset`
            takes.
        overrides: ``section.key=value``; those of ``dataset`` count before the choice, all others after it.
        kept: the settings that an earlier call chose; where there are some, nothing is chosen anew.
        progress: show bars while it is chosen; None shows them on a terminal.
    """
    path = Path(source)
    of_data = path.suffix in DATA_SUFFIXES or (path.is_dir() and not (path / "config.toml").exists())
    if source not in BUILT_IN and not of_data:
        return apply_overrides(read_toml(find_experiment(source)), overrides)
    if kept is not None and kept.exists():
        return apply_overrides(read_toml(kept), overrides)
    early = [text for text in overrides if text.startswith("dataset.")]
    section = {"name" if source in BUILT_IN else "path": source}
    given = apply_overrides({"dataset": section}, early)["dataset"]
    config = recommended(build(DatasetConfig, given, "dataset").load(), progress=progress)
    return apply_overrides(config.to_mapping(), overrides)


def recommend(
    dataset: ZSLDataset, *, seed: int = 0, budget: float = 3.0, progress: bool | None = None
) -> Recommendation:
    """Choose a recipe as :func:`recommended` does, for any data set."""
    if not budget >= 0:
        raise InputError(f"budget is {budget}", "a number of at least 0")
    folds, hidden = _folds(dataset, seed), None if progress is None else not progress
    priors = _priors(folds, hidden)
    scores = {setting: float(np.mean(calibrated_scores(found))) for setting, found in priors.items()}
    best = max(scores, key=scores.__getitem__)
    base, *rest = trials(dataset, best, seed)
    prior = Candidate(facts_of(base.name, base.recipe), base.recipe, tuple(priors[best]))
    n_trained = _affordable(rest, dataset, len(folds), budget)
    others = score_trials(rest, folds[:n_trained], seed, hidden)
    found = [prior, *others]
    chosen = max(others, key=Candidate.score, default=prior)
    if not others or chosen.score() <= prior.score(n_trained) + LEAST_GAIN:
        chosen = prior
    return Recommendation((chosen, *(one for one in found if one is not chosen)), scores)


def trials(dataset: ZSLDataset, prior: PriorSetting, seed: int) -> list[Trial]:
    """Return what to try with the best prior: first it alone under the cosine head, which is scored in closed form.

    Args:
        dataset: its number of rows decides on epochs and on the size of banks.
        prior: the prior's settings; all generators and heads take its scaling of the features.
        seed: of the settings.
    """
    n_rows = len(dataset.splits["trainval"])
    per_class = n_rows / len(dataset.seen)
    output = "relu" if prior.scaling == "sqrt" else "linear"
    shared: dict[str, Any] = {"feature_scaling": prior.scaling, "output": output, "noise_dim": 64, "lr": 2e-4}
    priorgan = PriorGANConfig(
        prior_width=prior.width, prior_alpha=prior.alpha, epochs=_epochs(PRIORGAN_STEPS, n_rows), **shared
    )
    cosine = CosineConfig(scaling=prior.scaling, whitening=1.0)
    softmax = SoftmaxConfig(scaling=prior.scaling, solver="lbfgs", l2=PENALTIES)
    kind_length = float(np.sqrt(np.mean(dataset.embedding_widths))) if prior.norm == "standardise" else 1.0
    recipe = Recipe(
        model=priorgan,
        classifier=cosine,
        embedding=EmbeddingConfig(norm=prior.norm, scale=EMBEDDING_LENGTH / kind_length),
        train=TrainConfig(threads=1),
        # Twice as many rows as real ones leave most heads nearly fair.
        bank=BankConfig(n_per_class=int(np.clip(2 * per_class, 10, 200))),
        protocol=ProtocolConfig(seeds=(seed,), evaluations=1, calibrate=True),
    )
    alone = replace(recipe, model=replace(priorgan, epochs=1, steps=1))
    found = [
        Trial("prior", alone, (cosine,)),
        Trial("prior", alone, (softmax,)),
        Trial("priorgan", recipe, (cosine,), EVALUATIONS),
    ]
    if per_class >= ROWS_FOR_CLSWGAN:
        clswgan = CLSWGANConfig(
            epochs=_epochs(CLSWGAN_STEPS, n_rows),
            hidden_dim=1024,
            critic_steps=1,
            cls_weight=1.0,
            cls_epochs=20,
            class_mean_weight=100.0,
            **shared,
        )
        embedding = EmbeddingConfig(norm="l2", scale=EMBEDDING_LENGTH)
        both = replace(recipe, model=clswgan, embedding=embedding)
        found.append(Trial("clswgan + matching", both, (cosine, softmax), EVALUATIONS))
    return found


def _epochs(steps: int, n_rows: int) -> int:
    """Return the whole number of epochs nearest to so many steps, at least 1 and at most :data:`MOST_EPOCHS`."""
    return int(np.clip(round(steps / CLSWGANConfig().steps_per_epoch(n_rows)), 1, MOST_EPOCHS))


def _folds(dataset: ZSLDataset, seed: int) -> list[ZSLDataset]:
    """Return tasks within the data set, each with about as many held-out classes as are unseen."""
    n_seen, n_unseen = len(dataset.seen), len(dataset.unseen)
    if n_seen < FEWEST_CLASSES:
        remedy = "Name a method: fgen.ExperimentConfig, or ZeroShotClassifier(method=...)"
        raise InputError(f"{dataset.name} has {n_seen} seen classes to choose on", f"at least {FEWEST_CLASSES}", remedy)
    n_folds = int(np.clip(round(n_seen / max(n_unseen, 1)), *FOLDS)) if dataset.shots is None else 1
    folds = validation_folds(dataset, n_folds, seed=seed)
    if not all(len(fold.splits["test_seen"]) for fold in folds):
        raise InputError(f"{dataset.name} has one row of each class", "a class with 2 rows, one of which is held out")
    return folds if dataset.shots is not None else [_thinned(fold) for fold in folds]


def _thinned(fold: ZSLDataset) -> ZSLDataset:
    """Return the task with at most :data:`MOST_SCORED` test rows of each class, evenly spaced."""
    splits = {
        name: np.concatenate([evenly_spaced(own, MOST_SCORED) for own in by_class(fold.splits[name], fold.labels)])
        for name in ("test_seen", "test_unseen")
    }
    return fold.inner("thinned", {"trainval": fold.splits["trainval"]} | splits, unseen=fold.unseen)


def _priors(folds: Sequence[ZSLDataset], hidden: bool | None) -> dict[PriorSetting, list[HeldOut]]:
    """Return what decides about the held-out rows of each fold, for each setting of the prior."""
    settings = [PriorSetting(*each) for each in product(SCALINGS, NORMS, WIDTHS, ALPHAS)]
    outcomes: dict[PriorSetting, list[HeldOut]] = {setting: [] for setting in settings}
    with tqdm(total=len(folds) * len(settings), desc="priors", disable=hidden) as bar:
        for fold in folds:
            for setting, scored in scored_priors(fold, settings, CosineConfig(whitening=1.0)):
                outcomes[setting].append(scored.held_out())
                bar.update()
    return outcomes


def _affordable(costly: Sequence[Trial], dataset: ZSLDataset, n_folds: int, budget: float) -> int:
    """Return on how many folds generators and heads can be trained; the search of priors takes 1 of the budget."""
    works, alone = zip(*(trial.work(dataset) for trial in costly), strict=True)
    share = 1 - 1 / max(n_folds, FOLDS[0])  # of the rows, that are learned from in a fold
    return int(np.clip((budget - 1) * max(alone) / (share * sum(works)), 0, n_folds))
