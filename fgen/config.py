"""Conversion between frozen dataclasses, TOML and ``--set a.b=c``. It knows types and keys, and nothing of zero-shot
learning.

TOML has no null: None is written by leaving the key out, or, where the field's default is something else, as
the word ``"none"``. A field that may be None therefore reads the string ``"none"`` as None.
"""

import dataclasses
import hashlib
import json
import math
import numbers
import re
import tomllib
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import tomli_w

from fgen.errors import InputError, did_you_mean, shortened

T = TypeVar("T")

NONE = "none"
#: Characters of a TOML text: some 100 times as many as an experiment has. Tables and lists in each other.
MOST_TEXT, MOST_DEEP = 256 << 10, 20
#: A key of more than 100 parts.
LONG_KEY = re.compile(
    r"""(?:(?<![\w-])[\w-]++[ \t]*+\.[ \t]*+|"[^"\n]*+"[ \t]*+\.[ \t]*+|'[^'\n]*+'[ \t]*+\.[ \t]*+){100}"""
)
_SCALARS: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        InputError: the file is missing, can't be read, isn't UTF-8 or isn't TOML; the message names the line.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(4 * MOST_TEXT + 1)
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror})", "a TOML file", _elsewhere(Path(path))) from None
    try:
        return _parsed(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {line}, isn't UTF-8", "a TOML file", "Save the file as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} isn't valid TOML: {error}", "lines such as key = value") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def expect_plain(value: Any, where: str = "", depth: int = 0) -> None:
    """Refuse settings that no config file can hold, or no message could show.

    Raises:
        InputError: tables and lists more than 20 deep, whole numbers beyond 64 bits, or text that is no Unicode.
    """
    name = shortened(where)[1:-1] if where else "the config"
    if depth > MOST_DEEP:
        raise InputError(f"{name} is nested too deeply", f"at most {MOST_DEEP} tables and lists in each other")
    if isinstance(value, Mapping):
        for key, item in value.items():
            expect_plain(key, f"a key of {name}")
            expect_plain(item, f"{where}.{key}" if where else str(key), depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            expect_plain(item, where, depth + 1)
    elif isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise InputError(f"{name} is a number of {value.bit_length()} bits", "a whole number of at most 64")
    elif isinstance(value, str) and value != value.encode(errors="replace").decode():
        remedy = "Rename the file or folder, or go there and give '.'" if where.endswith("path") else ""
        raise InputError(f"{name} is {shortened(value)}, which is no Unicode", "text that UTF-8 can hold", remedy)


def _parsed(text: str) -> dict[str, Any]:
    """Parse a TOML text of limited length.

    Raises:
        InputError: it is too long, or as :func:`expect_plain` has it. TOMLDecodeError: no TOML.
    """
    if len(text) > MOST_TEXT or LONG_KEY.search(text):  # the parser would need minutes
        expected = f"at most {MOST_TEXT:,} characters, 100 dots in a key"
        raise InputError("the text is too long, or one of its keys", expected)
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        reason = "is nested too deeply" if isinstance(error, RecursionError) else "has a number of too many digits"
        raise InputError(f"the text {reason}", "lines such as key = value") from None
    expect_plain(content)
    return content


def apply_overrides(mapping: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return a copy of ``mapping`` with values replaced or added, in the order given.

    Args:
        mapping: nested tables, as :func:`read_toml` returns them; not modified.
        overrides: items ``a.b=c``. ``c`` is read as a TOML value if it is one (``3``, ``1e-4``, ``true``,
            ``[0, 1]``, ``"text"``) and as a plain string otherwise. Missing tables are added.

    Raises:
        InputError: an item without ``=`` or with an empty key, or a path that leads through a plain value.
    """
    result = deepcopy(dict(mapping))
    for item in overrides:
        path, value = parse_override(item)
        assign(result, path, value, f"--set {item!r}")
    expect_plain(result)
    return result


def parse_override(item: str) -> tuple[str, Any]:
    """Return the path and the value of ``a.b=c``, see :func:`apply_overrides`."""
    path, equals, text = item.partition("=")
    if not equals or not all(key.strip() for key in path.split(".")):
        raise InputError(f"--set {item!r} is not an assignment", "section.key=value", "Try --set model.lr=1e-4")
    try:
        return path, _toml_value(text.strip())
    except InputError as error:
        raise InputError(f"--set {shortened(item)}: {error}") from None


def assign(mapping: dict[str, Any], path: str, value: Any, found: str) -> None:
    """Set the value at ``a.b`` of nested tables; missing tables are added.

    Args:
        found: the assignment, for a message.

    Raises:
        InputError: the path leads through a plain value.
    """
    keys = [key.strip() for key in path.split(".")]
    table = mapping
    for depth, key in enumerate(keys[:-1], start=1):
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            above = ".".join(keys[:depth])
            raise InputError(f"{found} goes through {above}, which is {table!r}", f"{above} to be a table")
    table[keys[-1]] = value


def _elsewhere(path: Path) -> str:
    """Return a remedy for a path without a TOML file: where else the file might be."""
    if (path / "config.toml").is_file():
        return f"Of a run folder, give {path / 'config.toml'}"
    if path.exists():
        return "Check the path"
    beside = (entry.name for entry in sorted(path.parent.glob("*.toml")))
    return did_you_mean(path.name, beside, show=lambda name: str(path.with_name(name))) or "Check the path"


def build(cls: type[T], mapping: Mapping[str, Any], where: str = "model") -> T:
    """Build a dataclass from a mapping, checked against the annotations of its fields.

    Understood are bool, int, float, str, ``Literal``, ``Any``, tuples, lists, dicts, dataclasses and unions of
    these. A whole number is accepted for a float; nothing else is converted. Ranges are the dataclass's own
    ``__post_init__``, whose ValueError comes back with the section's name.

    Args:
        cls: the dataclass.
        mapping: one value for each key; fields with a default may be left out.
        where: the section's name, for messages.

    Raises:
        InputError: an unknown or missing key, a value of the wrong type, or one the dataclass refuses.
    """
    if not isinstance(mapping, Mapping):
        raise InputError(f"{where} is {mapping!r}", "a table of settings")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    refuse_unknown(mapping, fields, where)
    for name, field in fields.items():
        if name not in mapping and field.default is field.default_factory is dataclasses.MISSING:
            raise InputError(f"{where}.{name} is missing", _describe(hints[name]))
    values = {key: _convert(hints[key], value, f"{where}.{key}") for key, value in mapping.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise InputError(f"[{where}] {error}") from error


class Limit(NamedTuple):
    """Values that a field may have, and their description in an error; None is always accepted."""

    accepts: Callable[[Any], bool]
    expected: str
    remedy: str = ""


def check_limits(config: Any, limits: Mapping[str, Limit]) -> None:
    """Raise an InputError that names the first field of a dataclass whose value is out of range, or no ``Literal``.

    Args:
        config: the dataclass instance.
        limits: by a pattern of the field's name; the first pattern that matches counts.
    """
    hints = typing.get_type_hints(type(config))
    for name in (field.name for field in dataclasses.fields(config)):
        if any(typing.get_origin(hint) is Literal for hint in (hints[name], *typing.get_args(hints[name]))):
            _convert(hints[name], getattr(config, name), name)
        limit = next((limit for pattern, limit in limits.items() if re.fullmatch(pattern, name)), None)
        value = getattr(config, name)
        if limit is not None and value is not None and not limit.accepts(value):
            raise InputError(f"{name} is {value}", limit.expected, limit.remedy)


def refuse_unknown(keys: Iterable[str], known: Collection[str], where: str) -> None:
    """Refuse a key that isn't among the known ones."""
    for key in keys:
        if key not in known:
            everything = f"one of {', '.join(known)}" if known else "no keys at all"
            raise InputError(f"unknown key {where}.{key}", everything, did_you_mean(key, known, show=str))


def to_mapping(instance: Any) -> dict[str, Any]:
    """Return a dataclass instance as values that TOML can hold, the inverse of :func:`build`.

    Tuples become lists; None is left out, or written ``"none"`` where the default is something else.
    """
    mapping = {}
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        if field.init and not (value is None and field.default is None):
            mapping[field.name] = NONE if value is None else _plain(value)
    return mapping


def dump_toml(mapping: Mapping[str, Any]) -> str:
    """Return a mapping as TOML text."""
    return tomli_w.dumps(mapping)


def sha256(mapping: Mapping[str, Any]) -> str:
    """Return the SHA-256 (hex) of the canonical JSON: sorted keys, no spaces, dates in ISO 8601."""
    text = json.dumps(mapping, sort_keys=True, separators=(",", ":"), default=lambda date: date.isoformat())
    return hashlib.sha256(text.encode()).hexdigest()


def _toml_value(text: str) -> Any:
    try:
        parsed = _parsed(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    # A line break in the text could smuggle in a second key.
    return parsed["value"] if set(parsed) == {"value"} else text


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Convert ``value`` to what the annotation ``hint`` asks for, or raise an InputError that names the key."""
    origin = typing.get_origin(hint) or hint
    if origin is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _convert_union(hint, value, where)
    if origin is Literal:
        if any(type(value) is type(option) and value == option for option in typing.get_args(hint)):
            return value
    elif isinstance(origin, type) and dataclasses.is_dataclass(origin):
        if isinstance(value, origin):
            return value
        if isinstance(value, Mapping):
            return build(origin, value, where)
    elif origin in (tuple, list):
        if isinstance(value, list | tuple):
            return _convert_items(origin, typing.get_args(hint), value, where, hint)
    elif origin in (dict, Mapping):
        if isinstance(value, Mapping):
            item_hint = (typing.get_args(hint) or (str, Any))[1]
            return {str(key): _convert(item_hint, item, f"{where}.{key}") for key, item in value.items()}
    elif origin not in _SCALARS:
        raise TypeError(f"{where}: fields annotated {hint!r} can't come from TOML")
    elif origin is float and isinstance(value, numbers.Real) and not isinstance(value, bool):
        with suppress(OverflowError):
            if math.isfinite(number := float(value)):  # no JSON can hold others
                return number
    elif origin is int and isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    elif type(value) is origin:
        return value
    raise _wrong(hint, value, where)


def _convert_union(hint: Any, value: Any, where: str) -> Any:
    members = typing.get_args(hint)
    if type(None) in members and (value is None or value == NONE):
        return None
    members = tuple(member for member in members if member is not type(None))
    tables = [member for member in members if dataclasses.is_dataclass(member)]
    if len(members) == 1 or (len(tables) == 1 and isinstance(value, Mapping)):
        # Only one member can be meant, so its own message says most.
        return _convert((tables or members)[0], value, where)
    for member in members:
        try:
            return _convert(member, value, where)
        except InputError:
            continue
    raise _wrong(hint, value, where)


def _convert_items(origin: Any, hints: tuple[Any, ...], value: Sequence[Any], where: str, hint: Any) -> Any:
    if not hints or origin is list or hints[-1] is Ellipsis:
        hints = (hints or (Any,))[:1] * len(value)
    elif len(hints) != len(value):
        raise _wrong(hint, value, where)
    items = zip(hints, value, strict=True)
    return origin(_convert(item_hint, item, f"{where}[{i}]") for i, (item_hint, item) in enumerate(items))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_mapping(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    return value


def _wrong(hint: Any, value: Any, where: str) -> InputError:
    kind = "table" if isinstance(value, Mapping) else type(value).__name__
    return InputError(f"{where} is {value!r} ({kind})", _describe(hint), _remedy(hint, value))


def _describe(hint: Any) -> str:
    """Return in words what an annotation accepts."""
    origin, members = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin in _SCALARS:
        return _SCALARS[origin]
    if origin in (typing.Union, types.UnionType):
        return " or ".join(f'"{NONE}"' if member is type(None) else _describe(member) for member in members)
    if origin is Literal:
        return f"one of {', '.join(repr(option) for option in members)}"
    if origin in (tuple, list):
        if not members:
            return "a list"
        if origin is list or members[-1] is Ellipsis:
            return f"a list, each item {_describe(members[0])}"
        return f"a list of {len(members)}: {', '.join(_describe(member) for member in members)}"
    return "anything" if origin is Any else "a table"


def _remedy(hint: Any, value: Any) -> str:
    """Return how to write the value that was probably meant."""
    if hint is int and isinstance(value, float) and value.is_integer():
        return f"Write {int(value)}"
    if hint is str and not isinstance(value, Mapping | list):
        return f'Quote it: "{value}"'
    if typing.get_origin(hint) in (list, tuple) and isinstance(value, bool | int | float):
        return f"Write [{json.dumps(value)}]"
    if not isinstance(value, str):
        return ""
    if typing.get_origin(hint) is Literal:
        options = [option for option in typing.get_args(hint) if isinstance(option, str)]
        return did_you_mean(value, options, show=str)
    if hint is bool and value.lower() in ("true", "false"):
        return f"Write {value.lower()}, without quotes"
    if hint in (int, float):
        try:
            return f"Write {hint(value)}, without quotes"
        except ValueError:
            return ""
    return "Quote the strings in it: ['a', 'b']" if value.startswith("[") else ""
