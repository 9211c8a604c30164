#!/bin/sh
# xarray reads every 0 and False of an HDF5 file as NaN when it reads it through kerchunk's references.
#
# Versions: kerchunk 0.2.10, xarray 2026.9.0, zarr 3.1.6, h5netcdf 1.8.2, h5py 3.16.0; Python 3.11, Linux.
# Expected: the values that are in the file, as the engine h5netcdf returns them; the file says nothing of fill values.
# Seen: kerchunk writes HDF5's default fill value (0) as the array's fill value, and xarray masks what equals it. So
# integers become float64 with NaN in place of 0, booleans become objects with NaN in place of False, and the zeros of
# floats are NaN. No warning. With mask_and_scale=False all values and types are right.
#
# Output seen:
#   h5netcdf                        labels int64 [0, 1, 2]   flags bool [False, True, True]   x float32 [0.0, 0.5, 1.0]
#   kerchunk                        labels float64 [nan, 1.0, 2.0]   flags object [nan, True, True]   x float32 [nan, 0.5, 1.0]
#   kerchunk, mask_and_scale=False  labels int64 [0, 1, 2]   flags bool [False, True, True]   x float32 [0.0, 0.5, 1.0]
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install -q kerchunk==0.2.10 xarray==2026.9.0 zarr==3.1.6 h5netcdf==1.8.2 h5py==3.16.0
cat > look.py <<'PY'
import sys
import warnings

import h5py
import kerchunk.hdf
import numpy as np
import xarray

with h5py.File("rows.h5", "w") as file:
    file["labels"] = np.arange(3)
    file["flags"] = np.array([False, True, True])
    file["x"] = np.array([0, 0.5, 1], dtype="f4")
references = kerchunk.hdf.SingleHdf5ToZarr("rows.h5").translate()


def read(name, source, **options):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        data = xarray.open_dataset(source, **options)
        found = {key: (str(data[key].dtype), data[key].values.tolist()) for key in ("labels", "flags", "x")}
    print(f"{name:31}", "   ".join(f"{key} {kind} {values}" for key, (kind, values) in found.items()))
    masks = [w for w in told if "fill" in str(w.message).lower() or "nan" in str(w.message).lower()]
    assert not masks, masks
    return found


plain = read("h5netcdf", "rows.h5", engine="h5netcdf", phony_dims="sort")
masked = read("kerchunk", references, engine="kerchunk")
whole = read("kerchunk, mask_and_scale=False", references, engine="kerchunk", mask_and_scale=False)
zeros_are_nan = all(values[0] != values[0] and values[1:] == plain[key][1][1:] for key, (_, values) in masked.items())
kinds = [kind for kind, _ in masked.values()]
sys.exit(not (zeros_are_nan and kinds == ["float64", "object", "float32"] and whole == plain))
PY
env/bin/python look.py
