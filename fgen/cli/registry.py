"""Declaration of commands: a function for each, and its arguments."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fgen.errors import visible

Argument = Callable[[argparse.ArgumentParser], object]


@dataclass(frozen=True)
class Command:
    """A command of the shell.

    Attributes:
        run: what it does, called with its arguments by name; its docstring is the help.
        arguments: functions that declare them to a parser.
        prints: ``--out -`` writes to standard output.
    """

    run: Callable[..., None]
    arguments: tuple[Argument, ...]
    prints: bool = False

    @property
    def name(self) -> str:
        """The word after ``fgen``."""
        return self.run.__name__

    @property
    def help(self) -> str:
        """The first words of the help."""
        text = (self.run.__doc__ or "").rstrip(".")
        return text[:1].lower() + text[1:]


def command(*arguments: Argument, prints: bool = False) -> Callable[[Callable[..., None]], Command]:
    """Make a function of the name ``NAME`` the command ``fgen NAME``, see :class:`Command`."""
    return lambda function: Command(function, arguments, prints)


def argument(*names: str, **options: Any) -> Argument:
    """Return a function that declares an argument, as ``add_argument`` does."""
    return lambda parser: parser.add_argument(*names, **options)


#: What files of embeddings are.
EMBEDDINGS = (
    "{}: .csv, or .txt as GloVe and word2vec write it, with a name and its numbers in each row; .npz with class_names "
    "and class_embeddings; or NAME.npy, with names in NAME.names.txt"
)
#: The encoder of pictures where none is named.
DEFAULT_ENCODER = "efficientnet-lite0"
#: How pictures are encoded.
ENCODER = (
    argument(
        "--encoder",
        help="encoder of pictures: efficientnet-lite0, 1 or 2, torchvision:NAME, timm:NAME, hf:FOLDER, "
        f"open_clip:FOLDER, pyramid:ENCODER, fpn:FILE (default: the run's own, or {DEFAULT_ENCODER})",
    ),
    argument("--weights", metavar="FILE", help="its weights: .safetensors, or a state dict of torch.save"),
    argument("--skip-broken", action="store_true", help="leave out files that are no pictures, and list them"),
)
RUN = argument("run", help="run folder")
OVERWRITE = argument("--overwrite", action="store_true", help="replace what is there under that name")
JSON = argument("--json", action="store_true", dest="as_json", help="print JSON")


def PROGRESS(parser: argparse.ArgumentParser) -> None:
    """Have a command called with ``progress``, whether to show bars."""
    parser.set_defaults(progress=False)


def say(text: str) -> None:
    """Print a command's answer, with the control characters of names written out."""
    print(visible(text, keep="\n"))  # noqa: T201
