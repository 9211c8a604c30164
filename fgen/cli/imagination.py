"""The command that makes pictures of classes nobody has pictures of."""

from pathlib import Path
from typing import Any

from fgen.cli.registry import OVERWRITE, PROGRESS, RUN, argument, command, say
from fgen.errors import InputError, require


@command(
    RUN,
    argument("--pictures", required=True, help="folder, with a folder for each class, that the data set was made from"),
    argument("--out", required=True, help="the sheet, a .png file"),
    argument("--classes", help="unseen, seen, all, or NAME,NAME (default: unseen)"),
    argument("--n-classes", type=int, default=12, help="of more classes, so many are drawn by seed (default: 12)"),
    argument("--seed", type=int, help="seed of model, noise and decoder (default: the run's first)"),
    OVERWRITE,
    PROGRESS,
)
def imagine(run: str, pictures: str, out: str, overwrite: bool, **options: Any) -> None:
    """A sheet of pictures that a run's generated features are decoded into."""
    from fgen.inference.imagination import imagine
    from fgen.io.atomic import expect_free
    from fgen.reports.imagination_sheet import write_sheet

    target = Path(out).absolute()
    if target.suffix != ".png":
        raise InputError(f"{out} ends in {target.suffix!r}", "a .png file")
    expect_free(target, overwrite=overwrite)
    require("matplotlib.figure", "plots", "a sheet of pictures")  # before minutes of work
    keep = target.with_name(f"{target.name}.pictures.partial")
    found = imagine(run, pictures, keep=keep, **options)
    write_sheet(target, found)
    keep.unlink(missing_ok=True)
    for name, error in found.errors.items():
        say(f"{name}: error {error.decoded:.3f}, of the mean picture {error.mean_picture:.3f} ({error.n:,} drawings)")
    say(f"sheet: {out}")
