#!/bin/sh
# torch.export can't leave an axis free whose size a module takes by len(x), where x.shape[0] is no trouble; the traced
# Python does, which was the default once and is called strict.
#
# Versions: torch 2.13.0; Python 3.11, Linux.
# Expected: len(x) and x.shape[0] are one number, also to the exporter, as they are to torch.compile.
# Seen: with strict=False, the default, len(x) gives an integer of the example, and the export of an axis declared free
# is refused; the message speaks of violated constraints and names the axis, not the call. With strict=True it is taken.
#
# Output seen:
#   len(x), strict=False: UserError: Constraints violated (batch)!
#   len(x), strict=True: (5, 2)
#   x.shape[0], strict=False: (5, 2)
#   x.shape[0], strict=True: (5, 2)
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install -q torch==2.13.0 numpy==2.4.6
cat > look.py <<'PY'
import sys

import torch
from torch import nn


class ByLen(nn.Module):
    def forward(self, x):
        return x + torch.arange(len(x))[:, None]


class ByShape(nn.Module):
    def forward(self, x):
        return x + torch.arange(x.shape[0])[:, None]


free = ({0: torch.export.Dim("batch")},)
seen = []
for name, module in (("len(x)", ByLen()), ("x.shape[0]", ByShape())):
    for strict in (False, True):
        try:
            program = torch.export.export(module, (torch.zeros(3, 2),), dynamic_shapes=free, strict=strict)
            seen.append(tuple(program.module()(torch.zeros(5, 2)).shape))
            print(f"{name}, strict={strict}: {seen[-1]}")
        except Exception as error:
            seen.append(None)
            print(f"{name}, strict={strict}: {type(error).__name__}: {str(error).partition(' For more')[0]}")
sys.exit(seen != [None, (5, 2), (5, 2), (5, 2)])
PY
env/bin/python look.py 2>err || { cat err; exit 1; }
