"""(b) The final head: fgen's solvers against the field's recipe, in time and in accuracy on validation classes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from experiments.bench import textbook
from experiments.bench.sizes import Size, random_world
from experiments.bench.timing import Comparison, alternate
from fgen.baselines.ridge import ridge
from fgen.classifiers.softmax import SoftmaxClassifier, SoftmaxConfig
from fgen.data.emoji import load_emoji
from fgen.experiment.heads import HeadRecipe
from fgen.features.scaled_rows import CPU
from fgen.metrics.accuracy import mean_accuracy, per_class_accuracy

TEXTBOOK, LBFGS, LBFGS_EQUAL = "25 epochs of Adam", "fgen, lbfgs", "fgen, lbfgs, equal precision"
PENALTIES = (1e-3, 1e-4, 1e-5)


@dataclass(frozen=True)
class HeadTask:
    """What a head is trained on and judged by: real rows of seen classes, generated ones of held-out classes.

    Attributes:
        real, features, labels: ``(M, D)`` the real rows, ``(N, D)`` all of them with the generated, ``(N,)``.
        test, test_labels: real rows of both groups that no training saw.
        seen: ids of the seen classes; all ids are 0 to C - 1.
        n_per_class: generated rows of each class, the recipe's batch size.
    """

    name: str
    real: np.ndarray
    features: np.ndarray
    labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray
    seen: np.ndarray
    n_classes: int
    n_per_class: int

    def accuracy(self, predicted: np.ndarray) -> dict[str, float]:
        """U, S and H, and the mean over all classes."""
        per_class = per_class_accuracy(self.test_labels, predicted, np.unique(self.test_labels))
        of_seen = np.isin(np.unique(self.test_labels), self.seen)
        s, u = mean_accuracy(per_class[of_seen]), mean_accuracy(per_class[~of_seen])
        return {"U": u, "S": s, "H": 2 * u * s / (u + s) if u + s else 0.0, "mean": mean_accuracy(per_class)}


def measure_heads(sizes: Sequence[Size], rounds: int, device: torch.device) -> Iterator[Comparison]:
    """Each solver's seconds from raw features to a trained head. The penalty of L-BFGS is chosen on the same
    validation rows; what the choice costs is among the facts. fgen's are at ``auto`` where they don't say otherwise."""
    for size in sizes:
        task = emoji_task(size.n_per_class) if size.name == "emoji" else random_task(size)
        start = time.perf_counter()
        heads: dict[float, SoftmaxClassifier] = {}
        for l2 in PENALTIES:  # as a run chooses: each begins where the one before ended
            heads[l2] = fit(task, SoftmaxConfig(solver="lbfgs", l2=l2), device, start=[None, *heads.values()][-1])
        choosing = time.perf_counter() - start
        scores = {l2: task.accuracy(head.predict(task.test)) for l2, head in heads.items()}
        best = max(scores, key=lambda l2: scores[l2]["mean"])
        trained: dict[str, Any] = {}
        arms: dict[str, Callable[[], object]] = {
            TEXTBOOK: _keep(trained, TEXTBOOK, lambda task=task: textbook_head(task, device)),
            "fgen, adam": _keep(
                trained,
                "fgen, adam",
                lambda t=task: fit(t, SoftmaxConfig(solver="adam", batch_size=t.n_per_class), device),
            ),
            LBFGS: _keep(trained, LBFGS, lambda t=task, l2=best: fit(t, SoftmaxConfig(solver="lbfgs", l2=l2), device)),
            LBFGS_EQUAL: _keep(
                trained,
                LBFGS_EQUAL,
                lambda t=task, l2=best: fit(t, SoftmaxConfig(solver="lbfgs", l2=l2), device, "highest"),
            ),
        }
        samples = alternate(arms, rounds, device=device, warm=False)
        facts = {
            "rows": len(task.features),
            "classes": task.n_classes,
            "n_per_class": task.n_per_class,
            "accuracy": {name: task.accuracy(predict(task.test)) for name, predict in trained.items()},
            "default_solver": SoftmaxConfig().solver,
            "l2": best,
            "l2_choice": {"penalties": list(PENALTIES), "seconds": choosing},
        }
        yield Comparison("head", size.name, device.type, "s", samples, TEXTBOOK, facts)


def fit(
    task: HeadTask,
    config: SoftmaxConfig,
    device: torch.device = CPU,
    precision: str = "auto",
    start: SoftmaxClassifier | None = None,
) -> SoftmaxClassifier:
    """fgen's head on raw rows, by default in the precision that experiments train heads in: a GPU's is float32."""
    known: dict[str, Any] = {"classes": np.arange(task.n_classes), "scaling_rows": task.real, "seen": task.seen}
    with HeadRecipe(config, precision=precision, device=device.type).matmul_precision():
        return config.build().fit(task.features, task.labels, **known, device=device.type, start=start)


def textbook_head(task: HeadTask, device: torch.device, *, epochs: int = 25) -> Callable[[np.ndarray], np.ndarray]:
    """The recipe on raw rows; what it gives back predicts."""
    real = torch.from_numpy(task.real).to(device)
    features = textbook.scale_minmax(torch.from_numpy(task.features).to(device), real)
    labels = torch.from_numpy(task.labels).to(device)
    model = textbook.train_classifier(features, labels, task.n_classes, batch_size=task.n_per_class, epochs=epochs)

    @torch.no_grad()
    def predict(rows: np.ndarray) -> np.ndarray:
        scaled = textbook.scale_minmax(torch.from_numpy(rows).to(device), real)
        return model(scaled).argmax(1).cpu().numpy()

    return predict


def emoji_task(n_per_class: int) -> HeadTask:
    """emoji's validation task; generated rows are Gaussian about means that ridge predicts from the descriptions."""
    task = load_emoji().with_embedding(("sentence", "word", "attributes")).validation()
    rows, test = task.splits["trainval"], np.concatenate([task.splits["test_seen"], task.splits["test_unseen"]])
    real, labels = task.rows(rows), task.labels[rows]
    seen, inverse = np.unique(labels, return_inverse=True)
    means = np.stack([real[inverse == k].mean(0) for k in range(len(seen))])
    spread = (real - means[inverse]).std(0) * (len(real) / max(1, len(real) - len(seen))) ** 0.5
    embeddings = task.class_embeddings / np.linalg.norm(task.class_embeddings, axis=1, keepdims=True)
    offset, centre = embeddings[seen].mean(0), means.mean(0)
    predicted = centre + (embeddings[task.unseen] - offset) @ ridge(embeddings[seen] - offset, means - centre, 1.0)
    noise = np.random.default_rng(0).standard_normal((len(task.unseen), n_per_class, real.shape[1]))
    synthetic = np.maximum(predicted[:, None] + spread * noise, 0).reshape(-1, real.shape[1]).astype(np.float32)
    # Heads count classes from 0 on, among those that take part.
    ids = np.full(task.n_classes, -1)
    ids[np.concatenate([seen, task.unseen])] = np.arange(len(seen) + len(task.unseen))
    return HeadTask(
        name="emoji",
        real=real,
        features=np.concatenate([real, synthetic]),
        labels=np.concatenate([ids[labels], np.repeat(ids[task.unseen], n_per_class)]),
        test=task.rows(test),
        test_labels=ids[task.labels[test]],
        seen=np.arange(len(seen)),
        n_classes=len(seen) + len(task.unseen),
        n_per_class=n_per_class,
    )


def random_task(size: Size) -> HeadTask:
    """A random world of a size, whose generated rows are about means with a mistake in them."""
    world = random_world(size)
    everyone, unseen = np.arange(len(world.means)), np.arange(size.n_seen, len(world.means))
    synthetic = world.draw(unseen, size.n_per_class, "synthetic", error=0.2)
    return HeadTask(
        name=size.name,
        real=world.features,
        features=np.concatenate([world.features, synthetic]),
        labels=np.concatenate([world.labels, np.repeat(unseen, size.n_per_class)]),
        test=world.draw(everyone, 20, "test"),
        test_labels=np.repeat(everyone, 20),
        seen=np.arange(size.n_seen),
        n_classes=len(everyone),
        n_per_class=size.n_per_class,
    )


def _keep(kept: dict[str, Any], name: str, train: Callable[[], Any]) -> Callable[[], None]:
    def run() -> None:
        head = train()
        kept[name] = getattr(head, "predict", head)

    return run
