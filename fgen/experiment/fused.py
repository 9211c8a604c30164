"""Decision-level fusion in an experiment: a member for each kind of class embedding, and one fused answer.

Each member chooses, is trained and scored as an experiment of its kind alone. The members' scores of the held-out rows
then decide how their probabilities are calibrated and fused, and gamma. Test rows are scored once, after that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

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
    """One seed of an experiment with ``fusion = "decision"``.

    Attributes:
        selected: the members, each with its own choice; empty before :meth:`select`.
        fusion: what was chosen of the fusion; None before it.
    """

    selected: tuple[SeedRun, ...] = ()
    fusion: ScoreFusion | None = None

    def members(self) -> list[SeedRun]:
        """Return the run of each kind of embedding, in the data set's order."""
        return [
            SeedRun(
                replace(self.recipe, dataset=self.recipe.dataset.of_kind(kind)),
                self.dataset.with_embedding(kind),
                self.seed,
                self.folder.member(number),
                self.progress,
                hook=self.hook.within(f"member-{kind}"),
            )
            for number, kind in enumerate(self.dataset.embedding)
        ]

    def select(self) -> Self:
        """Return the run with the members' choices, and with the fusion and gamma that follow from them."""
        members = tuple(member.select() for member in self.members())
        weights, kinds = self.recipe.dataset.weights, self.dataset.embedding
        given = [weights[kind] for kind in kinds] if isinstance(weights, dict) else None
        fusion, choice = choose_fusion(self, self.recipe.dataset.rule, [member.held_out() for member in members], given)
        choice |= {"fusion": fusion.as_dict(kinds)}
        choice |= {
            "members": [{key: value for key, value in (m.choice or {}).items() if key != "history"} for m in members]
        }
        write_json(self.folder.choice, choice)
        return replace(self, choice=choice, selected=members, fusion=fusion)

    def scored(self, clock: Clock) -> ScoredRows:
        """Train the members, and score the test rows by all of them."""
        assert self.fusion is not None
        return fused_scores(self.fusion, [member.scorer(clock).kept() for member in self.selected]).decided

    def without_test(self, chooses: bool) -> None:
        """Do all but the test."""
        clock = Clock(self.folder.timing)
        self.folder.record_fingerprint(self.dataset)
        run = self.select()
        clock.mark("selection")
        for member in run.selected:
            member.prepare(clock)


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
        same = (
            len(one.rows) == len(first.rows)
            and (one.dataset.labels[one.rows] == first.dataset.labels[first.rows]).all()
        )
        if not same or one.scores.shape != first.scores.shape:
            found = f"{one.dataset.name} has other rows or classes than {first.dataset.name}"
            raise InputError(found, "the same rows in the same order", "Make all data sets from one list of pictures")
    return first.dataset, first.rows
