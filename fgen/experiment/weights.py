"""Choice of the weights of kinds of class embedding on held-out classes, from a short declared grid."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from fgen.experiment.directory import SeedDirectory
from fgen.experiment.steps import Task
from fgen.io.atomic import write_json

#: One kind at a time weighs so many times as much as each of the others; before these, all weigh the same.
RATIOS = (1 / 3, 3.0)


def candidate_weights(kinds: Sequence[str]) -> list[dict[str, float]]:
    """Return the weights to choose from: 3 of two kinds, 1 + 2 K of K kinds, each with 1 as its largest weight."""
    tried = [dict.fromkeys(kinds, 1.0)]
    for kind in kinds:
        for ratio in RATIOS:
            weights = {other: (ratio if other == kind else 1.0) / max(ratio, 1.0) for other in kinds}
            tried += [weights] if weights not in tried else []
    return tried


def choose_weights(
    task: Task, choose: Callable[[Task, int], dict[str, Any]], goal: str, folder: SeedDirectory | None = None
) -> dict[str, Any]:
    """Choose the weights whose own choice scores highest on held-out classes; of equal scores the earlier.

    Args:
        task: its weights are ``"auto"``.
        choose: makes the choice of everything else for a task with weights; also gets the number of the weights.
        goal: the name of the score that selection looks at.
        folder: of the seed, in which the choice of each candidate is kept, so that a stopped selection goes on.

    Returns:
        That choice, with ``embedding_weights``, and in ``weights_tried`` the score of each candidate.
    """
    found: list[dict[str, Any]] = []
    tried = candidate_weights(task.dataset.embedding)
    for number, weights in enumerate(tried):
        one = replace(task, recipe=task.recipe.with_weights(weights))
        kept = None if folder is None else folder.candidate(number)
        if kept is not None and kept.choice.exists():
            found.append(kept.read_choice(one.recipe)[0])
            continue
        found.append(choose(one, number))
        if kept is not None:
            write_json(kept.choice, found[-1])
    best = max(range(len(tried)), key=lambda number: found[number][goal])
    scores = [{"weights": weights, goal: choice[goal]} for weights, choice in zip(tried, found, strict=True)]
    return found[best] | {"embedding_weights": tried[best], "weights_tried": scores}
