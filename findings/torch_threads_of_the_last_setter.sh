#!/bin/sh
# torch.set_num_threads in one thread decides for every thread that first uses torch later, as long as that one lives.
#
# Versions: torch 2.13.0, CPU, with OpenMP; Python 3.11, Linux.
# Expected: the number belongs to the whole process, so that every thread sees a change; or to the thread that sets it,
# so that no other does.
# Seen: neither. A thread that has used torch keeps its number, whatever others set. One that first uses torch later takes
# the number that was set last, by whichever thread, and keeps it after the setter has put the old number back. So a
# training that sets one thread for a while slows down a server's workers that first compute meanwhile, for good, and
# changes the last bits of what they sum up. A thread that set a number itself, and has not used torch since, counts as
# one that has not used it.
#
# Output seen (of a process that began with 4):
#   main thread, while another has set 1: 4
#   a thread that begins meanwhile: 1
#   the same thread, after the other has set 4 again: 1
#   a thread that begins after that: 4
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install -q torch==2.13.0 numpy==2.4.6
cat > look.py <<'PY'
import sys
from concurrent.futures import ThreadPoolExecutor

import torch


def worker():
    return ThreadPoolExecutor(max_workers=1)


torch.set_num_threads(4)
torch.get_num_threads()  # the first use
trainer, early, late = worker(), worker(), worker()
trainer.submit(torch.set_num_threads, 1).result()
main, begun = torch.get_num_threads(), early.submit(torch.get_num_threads).result()
trainer.submit(torch.set_num_threads, 4).result()
kept, after = early.submit(torch.get_num_threads).result(), late.submit(torch.get_num_threads).result()
print("main thread, while another has set 1:", main)
print("a thread that begins meanwhile:", begun)
print("the same thread, after the other has set 4 again:", kept)
print("a thread that begins after that:", after)
sys.exit((main, begun, kept, after) != (4, 1, 1, 4))
PY
env/bin/python -W ignore look.py
