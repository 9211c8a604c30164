#!/bin/sh
# safetensors writes the entries of a file's metadata in an order that differs from call to call.
#
# Versions: safetensors 0.8.0, numpy 2.4.6; Python 3.11, Linux.
# Expected: the same tensors and the same metadata are the same bytes, as they are without metadata.
# Seen: 20 calls within one process give up to 20 different files of equal length. A single entry, such as one text of
# JSON with sorted keys, is always the same.
#
# Output seen (the first number may be another):
#   six entries: 20 different files of 20
#   one entry: 1 different files of 20
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install -q safetensors==0.8.0 numpy==2.4.6
cat > look.py <<'PY'
import sys

import numpy as np
from safetensors.numpy import save


def different(metadata):
    return len({save({"a": np.zeros(1, np.float32)}, metadata) for _ in range(20)})


six, one = different({key: key for key in "abcdef"}), different({"about": "abcdef"})
print(f"six entries: {six} different files of 20")
print(f"one entry: {one} different files of 20")
sys.exit(not (six > 1 and one == 1))
PY
env/bin/python look.py 2>err || { cat err; exit 1; }
