#!/bin/sh
# scikit-learn takes no labels of NumPy's own string type, and says so in words about types instead of labels.
#
# Versions: scikit-learn 1.9.1, NumPy 2.4.6; Python 3.11, Linux.
# Expected: labels of numpy.dtypes.StringDType, which NumPy has since 2.0 and recommends for text, do as labels of "<U3"
# and of objects do; and numpy.unique, which scikit-learn encodes labels by, takes them.
# Seen: fit of a classifier and accuracy_score raise TypeError from deep within. labels.astype(object) or
# numpy.asarray(labels.tolist()) is taken.
#
# Output seen:
#   numpy.unique: ['cat', 'dog']
#   fit: dtype argument must be a NumPy dtype, but it is a <class 'numpy.dtypes.StringDType'>.
#   accuracy_score: cannot attach metadata to new style DType
#   fit of objects: ['cat', 'dog']
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install -q scikit-learn==1.9.1 numpy==2.4.6
cat > look.py <<'PY'
import sys

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score

labels = np.array(["cat", "dog"] * 5, dtype=np.dtypes.StringDType())
rows = np.arange(20.0).reshape(10, 2)
unique = np.unique(labels).tolist()
print("numpy.unique:", unique)
refused = []
for name, call in {
    "fit": lambda: LogisticRegression().fit(rows, labels),
    "accuracy_score": lambda: accuracy_score(labels, labels),
}.items():
    try:
        call()
        print(f"{name}: taken")
    except TypeError as error:
        refused.append(name)
        print(f"{name}: {error}")
classes = LogisticRegression().fit(rows, labels.astype(object)).classes_.tolist()
print("fit of objects:", classes)
sys.exit(not (refused == ["fit", "accuracy_score"] and unique == classes == ["cat", "dog"]))
PY
env/bin/python look.py
