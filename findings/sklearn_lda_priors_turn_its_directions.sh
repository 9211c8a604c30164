#!/bin/sh
# scikit-learn's linear discriminant analysis weights the classes' covariances by `priors`: a prior that is to shift the
# threshold between classes also changes the directions, with the solvers `lsqr` and `eigen` and not with `svd`.
#
# Versions: scikit-learn 1.9.1, NumPy 2.4.6; Python 3.11, Linux.
# Expected: `priors` changes the intercepts alone, by log(prior): the shared covariance is estimated from the rows, and
# all solvers fit the same model where nothing is shrunk.
# Seen: of a wide and a narrow class with 100 rows each, priors of .01 and .99 multiply the weights by 27 with `lsqr` and
# `eigen`; with `svd` the weights stay, although the attribute covariance_ changes there too. Classes of generated rows
# that are narrower than real ones get a false covariance as soon as their prior is raised; adding log(prior) to
# decision_function doesn't do that.
#
# Output seen:
#   svd: covariance 0.475 with equal priors, 0.019 with .01 and .99; weights times 1.0
#   lsqr: covariance 0.475 with equal priors, 0.019 with .01 and .99; weights times 27.0
#   eigen: covariance 0.475 with equal priors, 0.019 with .01 and .99; weights times 27.0
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install -q scikit-learn==1.9.1 numpy==2.4.6
cat > look.py <<'PY'
import sys

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

random = np.random.default_rng(0)
rows = np.concatenate([random.normal(0, 1, (100, 2)), random.normal(5, 0.1, (100, 2))])
labels = np.repeat([0, 1], 100)
factors = []
for solver in ("svd", "lsqr", "eigen"):
    models = [
        LinearDiscriminantAnalysis(solver=solver, priors=priors, store_covariance=True).fit(rows, labels)
        for priors in ([0.5, 0.5], [0.01, 0.99])
    ]
    equal, uneven = (model.covariance_[0, 0] for model in models)
    factors.append(round(models[1].coef_[0, 0] / models[0].coef_[0, 0], 1))
    print(f"{solver}: covariance {equal:.3f} with equal priors, {uneven:.3f} with .01 and .99; weights times {factors[-1]}")
sys.exit(factors != [1.0, 27.0, 27.0])
PY
env/bin/python look.py
