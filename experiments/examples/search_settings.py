"""Choose settings by scikit-learn's search: the generator's epochs and the head's penalty.

    python -m experiments.examples.search_settings

The folds hold out classes, as the task does: GroupKFold with the labels as groups. A score over rows of classes that
were trained on would choose what is best for seen classes.
"""

import numpy as np
from sklearn.model_selection import GridSearchCV, GroupKFold

import fgen


def main() -> GridSearchCV:
    """Search on the toy data; print the choice, and how it does on classes that it never saw."""
    data = fgen.load_dataset("toy")
    X, y = data.split("trainval")
    names = np.array([data.name_of(k) for k in range(data.n_classes)])
    classifier = fgen.ZeroShotClassifier(
        data.class_embeddings,
        classes=names,
        method="priorgan",
        model={"hidden_dim": 64},
        classifier={"solver": "lbfgs"},
        embedding_norm="standardise",
        embedding_scale=1.0,
        n_per_class=20,
        calibrate=False,  # the final classifier is calibrated, below
    )
    grid = {"model__epochs": [1, 4], "classifier__l2": [1e-1, 1e-3]}
    search = GridSearchCV(classifier, grid, cv=GroupKFold(2), refit=False).fit(X, names[y], groups=y)
    print(f"chosen: {search.best_params_}, accuracy on held-out classes {search.best_score_:.2f}")
    best = classifier.set_params(**search.best_params_, calibrate=True).fit(X, names[y])
    for split in ("test_unseen", "test_seen"):
        rows, labels = data.split(split)
        print(f"{split}: {best.score(rows, names[labels]):.2f}")
    return search


if __name__ == "__main__":
    main()
