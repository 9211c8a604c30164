"""Models in folders or by name, as the libraries of Hugging Face load them, and what these libraries print."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from fgen.errors import InputError, first_line, require

LIBRARIES = ("sentence_transformers", "transformers", "huggingface_hub")
log = logging.getLogger("fgen")
T = TypeVar("T")


@contextmanager
def quiet_libraries(*, bars: bool) -> Iterator[None]:
    """Hide the libraries' warnings and, unless ``bars`` is true, their bars in a block; restore both afterwards.

    Raises:
        MissingExtra: without ``fgen[text]``.
    """
    switch = require("transformers.utils.logging", "text", "a text encoder")
    loggers = [logging.getLogger(name) for name in LIBRARIES]
    levels, hide = [logger.level for logger in loggers], switch.is_progress_bar_enabled() and not bars
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    if hide:
        switch.disable_progress_bar()
    try:
        yield
    finally:
        if hide:
            switch.enable_progress_bar()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def load_model(what: str, model: str, load: Callable[[], T], expected: str) -> T:
    """Return what a library loads, or name the model that it can't load.

    Args:
        what: what an error calls the model, as in "the sentence encoder".
        model: its folder or name.
        load: loads it.
        expected: what an error asks for.

    Raises:
        InputError: the library raises any error, or ``model`` is the path of no folder.
    """
    reason = "there is no such folder"
    if not (os.path.isabs(model) or model.startswith(".")) or os.path.isdir(model):
        if not os.path.isdir(model):
            log.info("%s is no folder: it is taken from the cache, or downloaded", model)
        try:
            return load()
        except Exception as error:  # of many types, for a folder that is no model
            reason = first_line(error).rstrip(".")
    raise InputError(f"{what} {model!r} can't be loaded ({reason})", expected) from None
