#!/bin/sh
# Hugging Face datasets in NumPy format: a column of uint64 is negative, the same value read as a row is right.
#
# Versions: datasets 5.2.0, h5py 3.16.0, NumPy 2.4.6; Python 3.11, Linux.
# Expected: the column's type is uint64, as its features say, or an error where it can't be held.
# Seen: with_format("numpy") casts a column of any integers to int64, and uint64 of 2**63 or more wraps to negative
# numbers without a warning. A single row keeps uint64. float64 columns are rounded to float32 in the same way.
# with_format("numpy", dtype=...) or with_format("arrow") keeps the values.
#
# Output seen:
#   features   {'hash': Value('uint64'), 'x': Value('float64')}
#   column     int64 [1, -9223372036854775808, -1]   float32 16777216.0
#   row        uint64 18446744073709551615   float64 16777217.0
#   arrow      [1, 9223372036854775808, 18446744073709551615]
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install -q datasets==5.2.0 h5py==3.16.0 numpy==2.4.6
cat > look.py <<'PY'
import sys

import datasets
import h5py
import numpy as np

datasets.disable_progress_bars()
with h5py.File("rows.h5", "w") as file:
    file["hash"] = np.array([1, 2**63, 2**64 - 1], dtype="u8")
    file["x"] = np.array([0, 1, 2**24 + 1], dtype="f8")
rows = datasets.load_dataset("hdf5", data_files="rows.h5", split="train", cache_dir="cache")
arrays = rows.with_format("numpy")
hashes, x, last = arrays["hash"][:], arrays["x"][:], arrays[2]
kept = rows.with_format("arrow")[:]["hash"].to_pylist()
print("features  ", rows.features)
print("column    ", hashes.dtype, hashes.tolist(), " ", x.dtype, float(x[2]))
print("row       ", last["hash"].dtype, last["hash"], " ", last["x"].dtype, last["x"])
print("arrow     ", kept)
as_seen = (
    str(hashes.dtype) == "int64"
    and hashes.tolist() == [1, -(2**63), -1]
    and str(x.dtype) == "float32"
    and last["hash"] == 2**64 - 1
    and last["x"] == 2**24 + 1
    and kept == [1, 2**63, 2**64 - 1]
)
sys.exit(not as_seen)
PY
HF_HOME="$work" HF_HUB_OFFLINE=1 env/bin/python look.py
