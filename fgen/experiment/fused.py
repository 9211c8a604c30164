"""Decision-level fusion in an experiment: a member for each kind of class embedding, and one fused answer.

Each member chooses, is trained and scored as an experiment of its kind alone. The members' scores of the held-out rows
then decide how their probabilities are calibrated and fused, and gamma. Test rows are scored once, after that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from fgen.data.dataset import ZSLDataset
from fgen.errors import InputError
from fgen.experiment.directory import Clock
from fgen.experiment.heads import KeptScores, ScoredRows
from fgen.experiment.protocol import SeedRun
from fgen.experiment.selection import goal_score, rate
from fgen.experiment.steps import Task
from fgen.io.atomic import write_json
from fgen.metrics.decision_fusion import MemberScores, Rule, ScoreFusion


@dataclass(frozen=True)
class FusedRun(SeedRun):
    """One seed of several members whose decisions are fused.

    Attributes:
        members: each with the settings, data and folder of its own; after :meth:`select` each with its choice.
        names: of the members.
        rule: one of :data:`fgen.metrics.decision_fusion.RULES`.
        weights: of a "weighted" mean, by member; None chooses them.
        fusion: what was chosen of it; None before :meth:`select`.
    """

    members: tuple[SeedRun, ...] = ()
    names: tuple[str, ...] = ()
    rule: Rule = "mean"
    weights: tuple[float, ...] | None = None
    fusion: ScoreFusion | None = None

    @classmethod
    def of_kinds(cls, run: SeedRun) -> Self:
        """Return the fusion of a member for each kind of embedding, in the data set's order, in folders of the seed."""
        section, kinds = run.recipe.dataset, run.dataset.embedding
        members = (
            replace(
                run,
                recipe=replace(run.recipe, dataset=section.of_kind(kind)),
                dataset=run.dataset.with_embedding(kind),
                folder=run.folder.member(number),
                hook=run.hook.within(f"member-{kind}"),
            )
            for number, kind in enumerate(kinds)
        )
        weights = tuple(section.weights[kind] for kind in kinds) if isinstance(section.weights, dict) else None
        return cls.of(run, tuple(members), names=kinds, rule=section.rule, weights=weights)

    @classmethod
    def of(cls, run: SeedRun, members: tuple[SeedRun, ...], **fusion: Any) -> Self:
        """Return the fusion of members, with settings, data and folder of a run."""
        recipe, dataset, seed, folder = run.recipe, run.dataset, run.seed, run.folder
        return cls(recipe, dataset, seed, folder, run.progress, hook=run.hook, members=members, **fusion)

    def select(self) -> Self:
        """Return the run with the members' choices, and with the fusion and gamma that follow from them."""
        members = tuple(member.select() for member in self.members)
        held = [member.held_out() for member in members]
        fusion, choice = choose_fusion(self, self.rule, held, self.weights)
        choice |= {
            "fusion": fusion.as_dict(self.names),
            "members": [{key: one for key, one in (m.choice or {}).items() if key != "history"} for m in members],
        }
        write_json(self.folder.choice, choice)
        return replace(self, choice=choice, members=members, fusion=fusion)

    def scored(self, clock: Clock) -> ScoredRows:
        """Train the members, and score the test rows by all of them."""
        assert self.fusion is not None
        return fused_scores(self.fusion, [member.scorer(clock).kept() for member in self.members]).decided

    def without_test(self, chooses: bool) -> None:
        """Do all but the test."""
        clock = Clock(self.folder.timing)
        self.folder.record_fingerprint(self.dataset)
        run = self.select()
        clock.mark("selection")
        for member in run.members:
            member.prepare(clock)


def of_settings(run: SeedRun) -> SeedRun:
    """Return the run of a seed, of several members where its settings fuse decisions."""
    return FusedRun.of_kinds(run) if run.recipe.dataset.fusion == "decision" else run


def choose_fusion(
    task: Task, rule: Rule, members: Sequence[Sequence[KeptScores]], weights: Sequence[float] | None = None
) -> tuple[ScoreFusion, dict[str, Any]]:
    """Choose how members' scores are calibrated and fused, and gamma, on held-out rows.

    Args:
        task: its protocol says whether seen classes have a handicap, and which score counts.
        rule: one of :data:`fgen.metrics.decision_fusion.RULES`.
        members: of each its scores of the held-out rows, by fold.
        weights: of a "weighted" mean, by member; None chooses them.

    Returns:
        The fusion, and what ``choice.json`` holds of it: gamma, the score that was looked at, its basis.

    Raises:
        InputError: members that scored other rows.
    """
    goal, folds = goal_score(task.recipe), list(zip(*members, strict=True))
    given, with_handicap = [member_scores(fold) for fold in folds], task.recipe.protocol.calibrate
    fusion = ScoreFusion.fit(rule, given, weights, goal=goal.removeprefix("val_"), with_handicap=with_handicap)
    row, facts = rate(task, [fused_scores(fusion, fold).decided for fold in folds])
    return fusion, facts | {"gamma": row["val_gamma"], goal: row[goal], "history": [row]}


def member_scores(members: Sequence[KeptScores]) -> MemberScores:
    """Return the scores of the same rows by several members."""
    dataset, rows = expect_same_rows(members)
    return MemberScores(dataset.labels[rows], tuple(one.scores for one in members), dataset.seen, dataset.unseen)


def fused_scores(fusion: ScoreFusion, members: Sequence[KeptScores]) -> KeptScores:
    """Return the fused scores of rows that all members scored."""
    (dataset, rows), among_all = expect_same_rows(members), member_scores(members)
    scores = fusion(among_all.scores, dataset.seen, among_all.candidates)
    zsl_scores = fusion([one.zsl_scores for one in members], dataset.seen, dataset.unseen)
    return KeptScores(dataset, rows, scores, zsl_scores)


def expect_same_rows(members: Sequence[KeptScores]) -> tuple[ZSLDataset, Any]:
    """Return the first member's data set and rows; refuse members that scored other rows or classes."""
    first = members[0]
    for one in members[1:]:
        same = np.array_equal(one.rows, first.rows) and one.dataset.class_names == first.dataset.class_names
        if not same or not np.array_equal(one.dataset.labels, first.dataset.labels):
            found = f"{one.dataset.name} has other rows or classes than {first.dataset.name}"
            raise InputError(found, "the same rows in the same order", "Make all data sets from one list of pictures")
    return first.dataset, first.rows
