"""Add a class that nobody has a picture of to a classifier in use, and to a head of your own.

    python -m experiments.examples.add_a_class

Nothing is trained again: rows for the new class are learned from generated features, and all others stay as they are.
"""

import numpy as np
import torch

import fgen


def main() -> tuple[fgen.ZeroShotClassifier, torch.nn.Linear]:
    """Return a classifier and a layer of torch, each with two more classes than before."""
    data = fgen.load_dataset("toy")
    names, (X, y) = np.array(data.class_names), data.split("trainval")
    tomorrow = data.unseen[-2:]
    today = np.setdiff1d(np.arange(data.n_classes), tomorrow)
    classifier = fgen.ZeroShotClassifier(
        data.class_embeddings[today],
        classes=names[today],
        method="priorgan",
        model={"epochs": 10, "hidden_dim": 32, "noise_dim": 8},
        classifier={"solver": "lbfgs"},
        calibrate=False,
    ).fit(X, names[y])

    # A classifier of fgen's, which may come from ZeroShotClassifier.load().
    classifier.add_classes(names[tomorrow], data.class_embeddings[tomorrow])
    print(classifier.extension_)

    # A head of your own: a layer of torch, scikit-learn's linear classifiers, or W and b.
    layer = torch.nn.Linear(data.feature_dim, len(data.seen))
    rows, labels = torch.tensor(X), torch.tensor(y)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(layer(rows), labels).backward()
        optimizer.step()
    model = classifier.generator_
    grown = fgen.extend_head(
        layer, model, names[tomorrow], data.class_embeddings[tomorrow], labels=names[data.seen], gamma=1.0
    )
    assert torch.equal(grown.weight[: len(data.seen)], layer.weight)
    return classifier, grown


if __name__ == "__main__":
    main()
