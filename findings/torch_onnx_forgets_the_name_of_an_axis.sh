#!/bin/sh
# torch.onnx.export of an exported program loses the name of a free axis, which the same export of the module keeps.
#
# Versions: torch 2.13.0, onnx 1.23.2, onnxscript 0.7.2; Python 3.11, Linux.
# Expected: the axis that torch.export was told to call "batch" is called so in the ONNX file, whichever way it goes.
# Seen: of the exported program the axis has a made-up name, as s77, which differs from export to export; readers that
# bind axes by name find none. dynamic_shapes, given once more to torch.onnx.export, brings the name back, though the
# program has its shapes by then.
#
# Output seen (the number may be another):
#   the module: batch
#   the exported program: s77
#   the exported program, dynamic_shapes again: batch
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install -q torch==2.13.0 numpy==2.4.6 onnx==1.23.2 onnxscript==0.7.2
cat > look.py <<'PY'
import re
import sys

import torch

module, example = torch.nn.Linear(2, 2), (torch.zeros(3, 2),)
free = ({0: torch.export.Dim("batch")},)
program = torch.export.export(module, example, dynamic_shapes=free)


def name_of(*given, **options):
    found = torch.onnx.export(*given, dynamo=True, verbose=False, **options).model_proto
    return found.graph.input[0].type.tensor_type.shape.dim[0].dim_param


names = [name_of(module, example, dynamic_shapes=free), name_of(program), name_of(program, dynamic_shapes=free)]
for way, name in zip(("the module", "the exported program", "the exported program, dynamic_shapes again"), names):
    print(f"{way}: {name}")
sys.exit(not (names[0] == names[2] == "batch" and re.fullmatch(r"s\d+", names[1])))
PY
env/bin/python look.py 2>err || { cat err; exit 1; }
