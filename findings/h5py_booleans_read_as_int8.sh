#!/bin/sh
# Booleans that h5py wrote are numbers for other readers, and `x[~mask]` then picks wrong rows without an error.
#
# Versions: h5py 3.16.0, xarray 2026.9.0, netCDF4 1.7.5.1.post1 (netCDF 4.10.1), h5netcdf 1.8.2, PyTables 3.11.1,
# pyfive 1.3.0; Python 3.11, Linux.
# Expected: every reader returns booleans, and xarray returns the same type by each of its engines.
# Seen: xarray by h5netcdf returns bool; xarray by netCDF4 (its first choice where both are installed), netCDF4,
# PyTables and pyfive return int8. `~` of 0 and 1 is -1 and -2, which NumPy takes as positions from the end: the result
# has a row for each entry of the mask, copies of the last two rows. `mask == 0` is right in every reader.
#
# Output seen:
#   h5py               bool   x[~mask] = [0, 1, 2]
#   xarray, h5netcdf   bool   x[~mask] = [0, 1, 2]
#   xarray             int8   x[~mask] = [4, 4, 4, 3, 3]
#   netCDF4            int8   x[~mask] = [4, 4, 4, 3, 3]
#   PyTables           int8   x[~mask] = [4, 4, 4, 3, 3]
#   pyfive             int8   x[~mask] = [4, 4, 4, 3, 3]
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install -q h5py==3.16.0 xarray==2026.9.0 netCDF4==1.7.5.1.post1 h5netcdf==1.8.2 tables==3.11.1 pyfive==1.3.0
cat > look.py <<'PY'
import sys

import h5py
import netCDF4
import numpy as np
import pyfive
import tables
import xarray

with h5py.File("rows.h5", "w") as file:
    file["x"] = np.arange(5)
    file["mask"] = np.array([False, False, False, True, True])

with h5py.File("rows.h5") as file:
    found = {"h5py": (file["x"][:], file["mask"][:])}
for name, options in {"xarray, h5netcdf": {"engine": "h5netcdf", "phony_dims": "sort"}, "xarray": {}}.items():
    with xarray.open_dataset("rows.h5", **options) as data:
        found[name] = data.x.values, data["mask"].values
with netCDF4.Dataset("rows.h5") as file:
    found["netCDF4"] = np.asarray(file["x"][:]), np.asarray(file["mask"][:])
with tables.open_file("rows.h5") as file:
    found["PyTables"] = file.root.x[:], file.root.mask[:]
with pyfive.File("rows.h5") as file:
    found["pyfive"] = file["x"][:], file["mask"][:]

seen = {}
for name, (x, mask) in found.items():
    seen[name] = str(mask.dtype), x[~mask].tolist()
    print(f"{name:18} {mask.dtype!s:6} x[~mask] = {seen[name][1]}")
    assert x[mask == 0].tolist() == [0, 1, 2], name
right, wrong = ("bool", [0, 1, 2]), ("int8", [4, 4, 4, 3, 3])
expected = dict.fromkeys(found, wrong) | {"h5py": right, "xarray, h5netcdf": right}
sys.exit(seen != expected)
PY
env/bin/python look.py
