"""Train any classifier of scikit-learn on seen and unseen classes: generated rows join the real ones in a pipeline.

    python -m experiments.examples.synthesize_rows

The pipeline is imbalanced-learn's, whose samplers add rows in fit and never in predict.
"""

import numpy as np
from imblearn.pipeline import Pipeline, make_pipeline
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import fgen


def main() -> Pipeline:
    """Fit on the toy data; print how it does before and after seen classes are lowered by a gamma."""
    data = fgen.load_dataset("toy")
    X, y = data.split("trainval")
    synthesizer = fgen.FeatureSynthesizer(
        data.class_embeddings,
        method="priorgan",
        model={"hidden_dim": 64, "epochs": 4},
        embedding_norm="standardise",
        embedding_scale=1.0,
        n_per_class=20,
    )
    pipeline = make_pipeline(StandardScaler(), synthesizer, LogisticRegression(max_iter=1000)).fit(X, y)
    rows = np.concatenate([data.splits["test_seen"], data.splits["test_unseen"]])
    scores = pipeline.predict_log_proba(data.rows(rows))
    for gamma in (0.0, 1.0):
        found = fgen.gzsl_scores(data.labels[rows], scores, seen=data.seen, unseen=data.unseen, gamma=gamma)
        print(f"gamma {gamma}: unseen {found.U:.2f}, seen {found.S:.2f}, H {found.H:.2f}")
    return pipeline


if __name__ == "__main__":
    main()
