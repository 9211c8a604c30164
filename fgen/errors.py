"""Errors that a user can correct: each message says what was found, what was expected and what to do."""

import difflib
import importlib
import logging
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

#: Characters that a terminal obeys: controls, of which escape sequences begin with one, and turns of the direction.
OBEYED = [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
VISIBLE = {code: ascii(chr(code))[1:-1] for code in OBEYED}


def visible(text: str, *, keep: str = "") -> str:
    """Return the text with its control characters written out, as ``\\x1b``, but for those in ``keep``.

    Names in foreign files, and names of files, may hold sequences that would recolour, retitle or overwrite a terminal.
    """
    return text.translate({code: shown for code, shown in VISIBLE.items() if chr(code) not in keep})


class _VisibleNames(logging.Filter):
    """Write out the control characters of names in what fgen logs."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = visible(record.getMessage(), keep="\n"), None
        return True


logging.getLogger("fgen").addFilter(_VisibleNames())


class InputError(ValueError):
    """Input that fgen can't work with.

    The message is for the person who gave the input; the shell door prints it and exits with 2. It is one line, and
    control characters in it are written out.

    Args:
        found: what was found, with its place.
        expected: what would be accepted.
        remedy: what to do.

    Example:
        >>> print(fgen.InputError("lr is -1", "a number above 0", "Try 1e-4"))
        lr is -1; expected a number above 0. Try 1e-4.
    """

    def __init__(self, found: str, expected: str = "", remedy: str = "") -> None:
        parts = [found]
        if expected:
            parts.append(f"expected {expected}")
        text = "; ".join(part.rstrip(". ") for part in parts) + "."
        if remedy:
            text += f" {remedy}" if remedy.endswith("?") else f" {remedy.rstrip('. ')}."
        super().__init__(visible(text))
        self._parts = found, expected, remedy

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._parts, self.__dict__


def wrong_array(name: str, array: Any, expected: str, remedy: str = "") -> InputError:
    """Return the error for an array of another shape or type than expected."""
    return InputError(f"{name} has shape {tuple(array.shape)} and type {array.dtype}", expected, remedy)


class TrainingDiverged(InputError):
    """A loss term or a network left the finite numbers; the message names it."""


class MissingExtra(InputError, ImportError):
    """An optional library isn't installed, and the message holds the exact ``pip install`` line; or it is and fails."""


class Interrupted(Exception):
    """Training was stopped by a signal after its state had been written to a checkpoint."""

    def __init__(self, signal_number: int, step: int) -> None:
        super().__init__(f"stopped after step {step:,}; a checkpoint was written")
        self.signal_number = signal_number
        self.step = step

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.signal_number, self.step), self.__dict__


def first_line(error: BaseException, most: int = 200) -> str:
    """Return the first line of what a library says of an error, or the error's type where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0][:most]


def shortened(text: str, width: int = 60) -> str:
    """Return a text in quotes for a message, cut after ``width`` characters."""
    return repr(text if len(text) <= width else f"{text[:width]}…")


def did_you_mean(wrong: str, options: Iterable[str], *, n: int = 1, show: Callable[[str], str] = repr) -> str:
    """Return a remedy with the ``n`` options that are most similar to ``wrong``, or "" where none is similar."""
    near = difflib.get_close_matches(wrong, list(options), n=n, cutoff=0.5)
    return f"Did you mean {', '.join(map(show, near))}?" if near else ""


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional library, or say which extra brings it.

    Args:
        module: dotted name to import.
        extra: name of the extra in ``setup.cfg``.
        purpose: what needs it, as the subject of a sentence ("plots", "the scikit-learn estimator").

    Raises:
        MissingExtra: the library is not installed, or fails when it is imported.
    """
    top = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except Exception as error:  # whatever the library raises where another one doesn't fit it
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
            found, remedy = f"{purpose} needs {top}, which isn't installed", f'Run: pip install "fgen[{extra}]"'
            raise MissingExtra(found, "it to be installed", remedy) from error
        found = f"{purpose} needs {top}, which is installed and can't be imported ({causes(error)})"
        remedy = "Run: pip check, which names those that don't"
        raise MissingExtra(found, "packages that fit each other", remedy) from error


def causes(error: BaseException) -> str:
    """Return the text of an error, and of the first error in its chain of causes."""
    first = error
    while (cause := first.__cause__ or first.__context__) is not None:
        first = cause
    said = [f"{type(one).__name__}: {' '.join(str(one).split())[:200]}" for one in (error, first)]
    return ", because of ".join(dict.fromkeys(said))
