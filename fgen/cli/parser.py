"""Arguments of the shell: how they are read, and what a mistyped word is answered with."""

import argparse
import sys
from collections.abc import Collection, Sequence
from typing import Any, NoReturn

from fgen.cli.registry import Command
from fgen.errors import did_you_mean, visible
from fgen.experiment.provenance import version

QUIET: dict[str, Any] = {"action": "store_true", "help": "no log lines and no bars; errors are told"}


class Parser(argparse.ArgumentParser):
    """A parser that answers a mistyped word with the usage of its command and the nearest word that it knows.

    Options are written out: an abbreviation would change its meaning when an option is added.

    Attributes:
        commands: names of the commands, where the first word that is no option must be one.
    """

    commands: Collection[str] = ()

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse unknown words, before those that are missing are told of."""
        words = [*(sys.argv[1:] if args is None else args)]
        self._refuse_mistyped(words)
        found, others = super().parse_known_args(words, namespace)
        if others:
            self.error(f"{self.prog} takes no {others[0]!r}.")
        return found, others

    def _refuse_mistyped(self, words: Sequence[str]) -> None:
        for word in words:
            option = word.partition("=")[0]
            if word == "--":
                return
            if word.startswith("--") and option not in self._option_string_actions:
                known = [name for name in self._option_string_actions if name.startswith("--")]
                self.error(f"{self.prog} has no option {option}. {did_you_mean(option, known, show=str)}")
            if self.commands and not word.startswith("-"):
                if word not in self.commands:
                    near = did_you_mean(word, self.commands, show=str) or "fgen --help lists them."
                    self.error(f"{self.prog} has no command {word!r}. {near}")
                return

    def error(self, message: str) -> NoReturn:
        """Print the usage of the command and the message; exit with 2."""
        self.print_usage(sys.stderr)
        self.exit(2, f"{visible(f'fgen: {message.strip()}')}\n")


def parser_of(commands: Sequence[Command]) -> Parser:
    """Return the parser of ``fgen``. ``--quiet`` may stand before and after the command."""
    parser = Parser(prog="fgen", description="Training data for classes nobody has pictures of.")
    parser.add_argument("--version", action="version", version=f"fgen {version()}")
    parser.add_argument("--quiet", **QUIET)
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in commands:
        subparser = subparsers.add_parser(command.name, help=command.help, description=command.help)
        for declare in command.arguments:
            declare(subparser)
        subparser.add_argument("--quiet", **QUIET, default=argparse.SUPPRESS)
        subparser.set_defaults(command=command)
    parser.commands = [command.name for command in commands]
    return parser
