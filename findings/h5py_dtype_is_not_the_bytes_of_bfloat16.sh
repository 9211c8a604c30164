#!/bin/sh
# h5py says that a contiguous dataset of bfloat16 is float32; the bytes in the file are not.
#
# Versions: h5py 3.16.0 (HDF5 2.0.0; the same with h5py 3.8.0, HDF5 1.12.2), NumPy 2.4.6; Python 3.11, Linux.
# Expected: an error, two raw bytes a value, or a dtype of 2 bytes, since NumPy has no bfloat16; at any rate that dtype,
# shape and offset of a contiguous dataset describe its bytes, on which the known way to map it into memory rests.
# Seen: dtype is plain little-endian float32 and nbytes twice what is stored, as HDF5 converts while it reads. Mapped by
# dtype, offset and shape, the values are wrong and nothing complains. `dataset.id.get_type()` tells them apart.
#
# Output seen:
#   dtype float32   nbytes 256   stored 128   type in the file: 2 bytes, equal to that of the dtype: False
#   read    [1.0, 1.0, 1.0, 1.0]
#   mapped  [1.0019378662109375, 1.0019378662109375, 1.0019378662109375, 1.0019378662109375]
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install -q h5py==3.16.0 numpy==2.4.6
cat > look.py <<'PY'
import sys

import h5py
import numpy as np

bfloat16 = h5py.h5t.IEEE_F16LE.copy()
bfloat16.set_fields(15, 7, 8, 0, 7)  # sign bit, exponent: position and size, mantissa: position and size
bfloat16.set_ebias(127)
with h5py.File("weights.h5", "w") as file:
    weights = h5py.h5d.create(file.id, b"weights", bfloat16, h5py.h5s.create_simple((64,)))
    weights.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ones(64, dtype="f4"))
    file["bias"] = np.ones(64, dtype="f4")

with h5py.File("weights.h5") as file:
    data = file["weights"]
    kind, stored = data.id.get_type(), data.id.get_storage_size()
    equal = kind.equal(h5py.h5t.py_create(data.dtype))
    print(f"dtype {data.dtype}   nbytes {data.nbytes}   stored {stored}", end="   ")
    print(f"type in the file: {kind.get_size()} bytes, equal to that of the dtype: {equal}")
    read = data[:4]
    mapped = np.memmap("weights.h5", data.dtype, "r", data.id.get_offset(), data.shape)[:4]
    print("read   ", read.tolist())
    print("mapped ", mapped.tolist())
    as_seen = data.dtype == np.dtype("<f4") and data.nbytes == 2 * stored and not equal
sys.exit(not (as_seen and (read == 1).all() and (mapped != 1).all()))
PY
env/bin/python look.py
