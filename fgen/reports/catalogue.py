"""What ``fgen methods`` tells: generators, baselines and heads, their settings and defaults."""

import dataclasses
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fgen.baselines import BASELINES
from fgen.classifiers.registry import CLASSIFIERS
from fgen.config import NONE
from fgen.errors import InputError, did_you_mean
from fgen.models.registry import MODELS

#: The names to choose from, by what they are, with the section of a config in which they are chosen.
KINDS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "generators": ("model", MODELS),
    "baselines": ("model", BASELINES),
    "heads": ("classifier", CLASSIFIERS),
}
#: Characters of a line.
WIDTH = 100
#: In a docstring: names of attributes, and what is said of them on this line and on indented ones after it.
_ATTRIBUTE = re.compile(r"^    (\w+(?:,\s+\w+)*): (.+(?:\n        .+)*)", re.MULTILINE)
_MARKUP = re.compile(r":\w+:`~?([^`]+)`|``([^`]+)``")


@dataclass(frozen=True)
class Entry:
    """A method or a head.

    Attributes:
        section: of a config, in which ``name`` chooses it.
        about: what it is, and its source.
        settings: defaults by name, as TOML has them.
        notes: what a setting means, by name.
    """

    name: str
    section: str
    about: str
    settings: dict[str, Any]
    notes: dict[str, str]

    @classmethod
    def of(cls, name: str, section: str, config: Any) -> "Entry":
        """Return what the config class and its docstrings say."""
        fields = [field for field in dataclasses.fields(config) if field.init]
        values = dataclasses.asdict(config())
        settings = {field.name: NONE if values[field.name] is None else values[field.name] for field in fields}
        notes = _notes(config)
        return cls(name, section, _about(config), settings, {key: notes[key] for key in settings if key in notes})

    def as_toml(self) -> str:
        """Return the section of a config that says what the defaults are, with what each setting means beside it."""
        lines = [*_comment(self.about), f"[{self.section}]", f'name = "{self.name}"']
        for key, value in self.settings.items():
            line, note = f"{key} = {json.dumps(value)}", self.notes.get(key, "")
            beside = f"{line}  # {note.rstrip('.')}"
            lines += [beside] if len(beside) <= WIDTH else [*_comment(note), line]
        return "\n".join(lines)


def catalogue() -> dict[str, dict[str, Entry | str]]:
    """Return the entries by kind and name; of a package's method that can't be used, what is wrong with it."""
    found: dict[str, dict[str, Entry | str]] = {}
    for kind, (section, registry) in KINDS.items():
        found[kind] = {}
        for name in registry:
            try:
                found[kind][name] = Entry.of(name, section, registry[name])
            except InputError as error:
                found[kind][name] = str(error)
    return found


def entry(name: str) -> Entry:
    """Return the entry of a method or a head.

    Raises:
        InputError: there is none of that name; the message has the nearest.
    """
    for section, registry in KINDS.values():
        if name in registry:
            return Entry.of(name, section, registry[name])
    names = [name for _, registry in KINDS.values() for name in registry]
    raise InputError(f"{name!r} is no method and no head", f"one of {', '.join(names)}", did_you_mean(name, names))


def _comment(text: str) -> list[str]:
    """Return the lines of a comment."""
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ")


def _about(config: Any) -> str:
    """Return the first paragraph of what is said of a method: by its module, or by a config that says more."""
    own = inspect.getdoc(config) or ""
    module = sys.modules[getattr(config, "generator", config).__module__].__doc__ or ""
    return _plain((module if own.startswith("Settings") else own).split("\n\n")[0])


def _notes(config: Any) -> dict[str, str]:
    """Return what the docstrings of a config class, and of those that it extends, say of its fields."""
    notes: dict[str, str] = {}
    for cls in reversed(config.__mro__):
        for names, text in _ATTRIBUTE.findall(inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")[2]):
            notes |= dict.fromkeys(re.split(r",\s+", names), _plain(text))
    return notes


def _plain(text: str) -> str:
    """Return a docstring's text on one line, without its markup."""
    return _MARKUP.sub(lambda found: found[1] or found[2], " ".join(text.split()))
