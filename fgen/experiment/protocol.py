"""Protocol of one seed: choose on held-out classes, retrain on trainval, score the test rows once.

``legacy`` differs in one point: it chooses on the test rows, as the papers did.
"""

import shutil
from dataclasses import dataclass, replace
from typing import Any, Self

from fgen.baselines import BASELINES
from fgen.data.bank import FeatureBank
from fgen.data.bank_writer import recover_bank
from fgen.errors import InputError
from fgen.experiment.banks import dataset_spec, write_bank
from fgen.experiment.config import ExperimentConfig
from fgen.experiment.directory import Clock, SeedDirectory
from fgen.experiment.heads import Heads, KeptScores, RowScorer, ScoredRows, warn_of_a_poor_fit
from fgen.experiment.records import write_metrics, write_predictions
from fgen.experiment.results import SeedOutcome
from fgen.experiment.selection import baseline_scorer, choose_epochs, choose_setting, chosen_model, held_out_scores
from fgen.experiment.steps import Task, fit, new_heads, new_model, representation, synthetic_counts
from fgen.io.atomic import write_json
from fgen.models.base.config import ModelConfig
from fgen.models.base.generator import FeatureGenerator
from fgen.models.registry import load_model
from fgen.training.hooks import NO_HOOK, EpochHook


@dataclass(frozen=True)
class SeedRun(Task):
    """One seed of an experiment. A step whose files are whole already is not repeated.

    Attributes:
        recipe: the experiment.
        folder: where the files of the seed are.
        progress: show bars.
        choice: what selection chose; None before it, and in a training without selection.
        hook: called after each epoch of selection and training.
    """

    recipe: ExperimentConfig
    folder: SeedDirectory
    progress: bool = False
    choice: dict[str, Any] | None = None
    hook: EpochHook = NO_HOOK

    def outcome(self) -> SeedOutcome:
        """Select, train, fill the bank, train the heads, test."""
        clock = Clock(self.folder.timing)
        self.folder.record_fingerprint(self.dataset)
        run = self.select()
        clock.mark("selection")
        return run.test(run.scored(clock), clock)

    def held_out(self) -> list[KeptScores]:
        """Return the scores of the held-out rows of each fold, with what :meth:`select` chose."""
        assert self.choice is not None
        return held_out_scores(self, self.choice, self.folder, self._title("held-out scores"))

    def scored(self, clock: Clock) -> ScoredRows:
        """Train what was chosen, all that prediction needs, and score the test rows."""
        return self.scorer(clock).decided()

    def scorer(self, clock: Clock) -> RowScorer:
        """Train what was chosen, all that prediction needs, and return what scores the test rows."""
        if self.recipe.model.name in BASELINES:
            assert self.choice is not None
            return baseline_scorer(self, replace(self.recipe.model, **self.choice["settings"]))
        model, heads = self.prepare(clock)
        return heads.scorer(self.dataset, representation(model))

    def without_test(self, chooses: bool) -> None:
        """Do all but the test.

        Args:
            chooses: select before, unless the training was begun without a selection.
        """
        clock = Clock(self.folder.timing)
        self.folder.record_fingerprint(self.dataset)
        begun = any(file.exists() for file in (self.folder.checkpoint("final"), self.folder.model))
        run = self
        if chooses and (self.folder.choice.exists() or not begun):
            run = self.select()
            clock.mark("selection")
        if synthetic_counts(self).any():
            run.prepare(clock)
        else:
            run.train()

    def prepare(self, clock: Clock) -> tuple[FeatureGenerator, Heads]:
        """Train, fill the bank, and train the heads: all that prediction needs."""
        model = self.train()
        clock.mark("training")
        self.fill_bank(model)
        clock.mark("bank")
        heads = self.train_heads(model)
        clock.mark("heads")
        return model, heads

    def select(self) -> Self:
        """Return the run with the choice of its selection, which decides the head's penalty and weights of kinds too.

        A baseline's choice takes seconds, and is made again.
        """
        if self.recipe.model.name in BASELINES:
            choice = choose_setting(self)
            write_json(self.folder.choice, choice)
            weights = choice.get("embedding_weights")
            return replace(self, choice=choice, recipe=self.recipe.with_weights(weights) if weights else self.recipe)
        if not self.folder.choice.exists():
            choice = choose_epochs(self, self._title("selection"), self.folder, self.hook)
            write_json(self.folder.choice, choice)
            shutil.rmtree(self.folder.weights, ignore_errors=True)
        choice, config = self.folder.read_choice(self.recipe)
        return replace(self, recipe=config, choice=choice)

    def train(self) -> FeatureGenerator:
        """Train on trainval for the chosen number of epochs, or without a choice for the config's own."""
        self.folder.record_fingerprint(self.dataset)
        settings = self.recipe.model if self.choice is None else chosen_model(self, self.choice)
        if self._goes_on_longer(settings):
            self.folder.remove_trained()
        if not self.folder.model.exists():
            task = replace(self, recipe=replace(self.recipe, model=settings))
            model = fit(
                task,
                new_model(task),
                title=self._title("training"),
                checkpoint=self.folder.checkpoint("final"),
                on_epoch=self.hook.within("training"),
            )
            phases = {"selection": [] if self.choice is None else self.choice["history"], "final": model.history}
            write_metrics(self.folder.metrics, phases)
            model.save(self.folder.model)
        model = load_model(self.folder.model, self.recipe.train.device)
        if (model.config.epochs, model.config.steps) != (settings.epochs, settings.steps):
            raise InputError(
                f"{self.folder.model} was trained for {model.config.epochs} epochs, by the other of fgen train and "
                "fgen run",
                f"{settings.epochs}",
                "Choose another --out",
            )
        return model

    def fill_bank(self, model: FeatureGenerator) -> None:
        """Write the synthetic features of the unseen classes, and of the seen ones where wanted, to the run's bank."""
        recover_bank(self.folder.bank)
        if self.folder.bank.exists():
            return
        spec = replace(
            dataset_spec(self.dataset, synthetic_counts(self)),
            feature_dim=model.bank_dim,
            space=model.bank_space,
            dtype=self.recipe.bank.dtype,
            seed=self.seed,
            config=self.recipe.of_seed(self.seed).to_mapping(),
        )
        write_bank(self.folder.bank, model, spec, progress=self.progress)

    def train_heads(self, model: FeatureGenerator) -> Heads:
        """Return the heads that an earlier call saved, or new ones, trained on the real rows and the run's bank."""
        if self.folder.head.exists():
            return Heads.load(self.folder.head, self.folder.head_zsl)
        with FeatureBank.open(self.folder.bank) as bank:
            synthetic, labels = bank.to_numpy()
        (heads,) = new_heads(self, model, synthetic, labels)
        heads.save(self.folder.head, self.folder.head_zsl)
        if self.recipe.bank.real:
            warn_of_a_poor_fit(heads, self.dataset, representation(model))
        return heads

    def test(self, scored: ScoredRows, clock: Clock) -> SeedOutcome:
        """Score the test rows at the chosen gamma and without one, and write what is predicted."""
        choice = self.choice or {}
        (scores, predictions), (uncalibrated, _) = scored.at(choice.get("gamma", 0.0)), scored.at(0.0)
        clock.mark("test")
        write_predictions(self.folder.predictions, predictions, scores)
        return SeedOutcome(self.seed, scores, uncalibrated, choice, clock.seconds)

    def _goes_on_longer(self, settings: ModelConfig) -> bool:
        """Return whether the model that is there is of a training without a selection, and of fewer steps."""
        if self.choice is not None or self.folder.choice.exists() or not self.folder.model.exists():
            return False
        n_rows = len(self.dataset.splits["trainval"])
        return load_model(self.folder.model).config.n_steps(n_rows) < settings.n_steps(n_rows)

    def _title(self, phase: str) -> str | None:
        return f"{phase}, seed {self.seed}" if self.progress else None
