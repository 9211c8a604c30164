#!/bin/sh
# pandas: two nullable columns of one type become an array of objects, where one column becomes an array of numbers.
#
# Versions: pandas 3.1.1, NumPy 2.4.6; Python 3.11, Linux.
# Expected: a table whose columns are all Float64, without a missing value, becomes float64, as each of its columns does
# by itself, and as a table of one such column does.
# Seen: from two columns on numpy.asarray(table) and table.to_numpy() give objects, Python floats one by one. Libraries
# that ask for the array's type refuse a table of numbers, or convert it slowly. to_numpy(dtype="float64") keeps numbers.
#
# Output seen:
#   Float64 column: float64, table of one: float64, table of two: object
#   Int64 column: int64, table of one: int64, table of two: object
#   boolean column: bool, table of one: bool, table of two: object
#   asked for: float64
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install -q pandas==3.1.1 numpy==2.4.6
cat > look.py <<'PY'
import sys

import numpy as np
import pandas

as_seen = True
for name, plain in (("Float64", "float64"), ("Int64", "int64"), ("boolean", "bool")):
    two = pandas.DataFrame({"a": [1, 0], "b": [0, 1]}).astype(name)
    found = [str(np.asarray(part).dtype) for part in (two["a"], two[["a"]], two)]
    print("{} column: {}, table of one: {}, table of two: {}".format(name, *found))
    as_seen &= found == [plain, plain, "object"] and two.to_numpy().dtype == object
asked = two.to_numpy(dtype="float64").dtype
print("asked for:", asked)
sys.exit(not (as_seen and asked == np.float64))
PY
env/bin/python look.py
