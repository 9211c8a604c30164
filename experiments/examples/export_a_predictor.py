"""Train on seen classes, and take the classifier of seen and unseen ones away: as numbers, for torch and as ONNX.

    python -m experiments.examples.export_a_predictor FOLDER

It needs `pip install "fgen[onnx]"`. What it writes runs without fgen.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

import fgen


def main(folder: Path) -> fgen.ZeroShotClassifier:
    """Write ``classifier.onnx`` to the folder; return the classifier that it is of."""
    data = fgen.load_dataset("toy")
    X, y = data.split("trainval")
    classifier = fgen.ZeroShotClassifier(
        dict(zip(data.class_names, data.class_embeddings, strict=True)),
        method="flow",
        model={"epochs": 2, "hidden_dim": 16},
        classifier={"solver": "lbfgs"},
        n_per_class=20,
    ).fit(X, np.array(data.class_names)[y])
    new, _ = data.split("test_unseen")

    # As numbers, gamma and scaling inside: NumPy, C or SQL can do this.
    W, b, classes = classifier.to_numpy()
    assert (classes[(new @ W.T + b).argmax(axis=1)] == classifier.predict(new)).all()

    # As a module of torch, for any method and head; log-probabilities.
    module = classifier.to_torch()
    assert module(torch.tensor(new)).shape == (len(new), len(classes))

    # As ONNX, for any number of rows.
    import onnxruntime

    path = Path(folder) / "classifier.onnx"
    classifier.to_onnx(path, overwrite=True)
    session = onnxruntime.InferenceSession(path)
    probabilities, class_id = session.run(None, {"features": new})
    labels = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    print(f"{path}: the first row is {labels[class_id[0]]!r}, with {probabilities[0].max():.0%}")
    return classifier


if __name__ == "__main__":
    main(Path(sys.argv[1]))
