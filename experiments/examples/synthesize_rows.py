"""Train any classifier of scikit-learn on seen and unseen classes: generated rows join the real ones in a pipeline.

    python -m experiments.examples.synthesize_rows

The pipeline is imbalanced-learn's, whose samplers add rows in fit and never in predict. Such a classifier favours the
classes with real rows; how much to take off their scores is chosen on seen classes that are held out as if unseen.
"""

import numpy as np
from imblearn.pipeline import Pipeline, make_pipeline
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import fgen


def new_pipeline(data: fgen.ZSLDataset, classes: np.ndarray) -> Pipeline:
    """Return a pipeline that is fitted to 20 generated rows of each of some classes, beside the real rows."""
    synthesizer = fgen.FeatureSynthesizer(
        data.class_embeddings,
        sampling_strategy=dict.fromkeys(classes.tolist(), 20),
        method="priorgan",
        model={"hidden_dim": 64, "epochs": 4},
        embedding_norm="standardise",
        embedding_scale=1.0,
    )
    return make_pipeline(StandardScaler(), synthesizer, LogisticRegression(max_iter=1000))


def scores_by_class(pipeline: Pipeline, X: np.ndarray, n_classes: int) -> np.ndarray:
    """Return log-probabilities ``(N, C)`` by class id; classes that the pipeline doesn't know are far below all."""
    scores = np.full((len(X), n_classes), -1e9)
    scores[:, pipeline.classes_] = pipeline.predict_log_proba(X)
    return scores


def choose_gamma(data: fgen.ZSLDataset) -> float:
    """Return what to take off seen classes' scores: chosen with every fourth class and every fifth row held out."""
    X, y = data.split("trainval")
    held_out = data.seen[::4]
    kept = ~np.isin(y, held_out) & (np.arange(len(y)) % 5 > 0)
    pipeline = new_pipeline(data, held_out).fit(X[kept], y[kept])
    scores = scores_by_class(pipeline, X[~kept], data.n_classes)
    return fgen.choose_gamma(scores, y[~kept], seen=np.unique(y[kept]), unseen=held_out)


def main() -> Pipeline:
    """Fit on the toy data; print how it does before and after seen classes are lowered by the chosen gamma."""
    data = fgen.load_dataset("toy")
    pipeline = new_pipeline(data, data.unseen).fit(*data.split("trainval"))
    rows = np.concatenate([data.splits["test_seen"], data.splits["test_unseen"]])
    scores = scores_by_class(pipeline, data.rows(rows), data.n_classes)
    for gamma in (0.0, choose_gamma(data)):
        found = fgen.gzsl_scores(data.labels[rows], scores, seen=data.seen, unseen=data.unseen, gamma=gamma)
        print(f"gamma {gamma:.2f}: unseen {found.U:.2f}, seen {found.S:.2f}, H {found.H:.2f}")
    return pipeline


if __name__ == "__main__":
    main()
