"""From TOML tables to dataclasses, by the annotations of their fields.

============================  ==================================================================
annotation                    takes
============================  ==================================================================
bool, str                     the same
a dataclass                   a table
tuple[X, ...]                 a list
Mapping[str, X]               a table with any keys
Literal[...]                  one of these strings
Annotated[X, parser]          whatever ``parser(value)`` takes; it raises ValueError
Annotated[X, Located(p)]      the same for ``p(value, folder of the file)``
Annotated[X, Whole(b)]        whatever ``b(value, path, origin)`` takes; it raises ConfigError
Annotated[Tables, Extra(n)]   not a key: tables whose names ``n(other fields)`` allows
X | None                      as X
============================  ==================================================================
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from cdr_plugin.errors import ConfigError
from cdr_plugin.model.quantities import show

from .origin import KeyPath, Origin, collecting, nearest, raise_all

C = TypeVar("C")

OPTIONAL = (types.UnionType, Union)
"""What ``X | None`` is at run time, depending on X."""

Tables: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Settings of plugins: name -> the table as TOML has it."""


@dataclass(frozen=True, slots=True)
class Located:
    """A parser that needs the folder in which relative paths start."""

    parse: Callable[[object, Path], Any]


@dataclass(frozen=True, slots=True)
class Whole:
    """A parser that reports its own errors."""

    build: Callable[[object, KeyPath, Origin], Any]


@dataclass(frozen=True, slots=True)
class OneOrMany:
    """A parser for one value or a list of at least one; gives a tuple."""

    item: Located


@dataclass(frozen=True, slots=True)
class Extra:
    """Marks the field that takes tables under other names than those of the fields."""

    names: Callable[[Mapping[str, Any]], Iterable[str]]
    """Given the other fields as far as they are there."""


def named(key: str) -> dict[str, str]:
    """Metadata of a field that has another name in the file; ``""``: it is not in the file.

    Two fields may share a key: the one that is a Mapping takes tables, the other the rest.
    """
    return {"key": key}


def key_of(item: dataclasses.Field[Any]) -> str:
    """The key of a field in the file."""
    key: str = item.metadata.get("key", item.name)
    return key


def hints_of(cls: type) -> dict[str, Any]:
    """The annotations of a dataclass's fields, resolved once."""
    if cls not in _hints:
        _hints[cls] = get_type_hints(cls, include_extras=True)
    return _hints[cls]


_hints: dict[type, dict[str, Any]] = {}


def extra_of(cls: type) -> tuple[str, Extra] | None:
    """The field that takes further tables, and which."""
    for name, hint in hints_of(cls).items():
        if get_origin(hint) is Annotated and isinstance(hint.__metadata__[0], Extra):
            return name, hint.__metadata__[0]
    return None


def build(cls: type[C], table: object, path: KeyPath, origin: Origin) -> C:
    """An instance of the dataclass ``cls`` from a TOML table at ``path``; ConfigError, or ConfigProblems
    with all that is wrong in it."""
    if not isinstance(table, dict):
        raise origin.error(path, f"expected a table, not {show(table)}")
    hints, extra = hints_of(cls), extra_of(cls)
    values: dict[str, Any] = {}
    others: dict[str, Any] = {}
    problems: list[ConfigError] = []
    for key, value in table.items():
        name = _field_for(cls, key, value)
        if name is None or (extra and name == extra[0]):
            others[key] = value
        else:
            with collecting(problems):
                values[name] = convert(hints[name], value, (*path, key), origin)
    allowed = set(extra[1].names(values)) if extra else set()
    for key, value in others.items():
        with collecting(problems):
            _check_extra(cls, allowed, value, (*path, key), origin)
    if not problems:  # else a misspelled key would be missing as well
        _check_missing(cls, values, path, origin)
    raise_all(problems)
    if extra:
        values[extra[0]] = others
    return cls(**values)


def _check_extra(cls: type, allowed: set[str], value: object, path: KeyPath, origin: Origin) -> None:
    if path[-1] not in allowed:
        raise origin.unknown(path, {*_keys(cls), *allowed})
    if not isinstance(value, dict):
        raise origin.error(path, f"expected a table, not {show(value)}")


def convert(hint: Any, value: object, path: KeyPath, origin: Origin) -> Any:
    """``value`` as ``hint`` says; ConfigError."""
    kind = get_origin(hint)
    if kind in OPTIONAL:
        return convert(get_args(hint)[0], value, path, origin)
    if kind is Annotated:
        return _parsed(hint.__metadata__[0], value, path, origin)
    if kind is Literal:
        return _choice(get_args(hint), value, path, origin)
    if kind is tuple:
        _check_type(list, "a list", value, path, origin)
        item = get_args(hint)[0]
        return tuple(_each(item, enumerate(_list(value)), path, origin).values())
    if kind is not None:  # Mapping[str, X]
        _check_type(dict, "a table", value, path, origin)
        item = get_args(hint)[1]
        return _each(item, _items(value), path, origin)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return build(hint, value, path, origin)
    _check_type(hint, {bool: "true or false", str: "text in quotes"}[hint], value, path, origin)
    return value


def _each(hint: Any, values: Iterable[tuple[Any, object]], path: KeyPath, origin: Origin) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    problems: list[ConfigError] = []
    for key, value in values:
        with collecting(problems):
            found[key] = convert(hint, value, (*path, key), origin)
    raise_all(problems)
    return found


def _parsed(parser: Any, value: object, path: KeyPath, origin: Origin) -> Any:
    if isinstance(parser, Whole):
        return parser.build(value, path, origin)
    if isinstance(parser, OneOrMany):
        many = _list(value) if isinstance(value, list) else [value]
        if not many:
            raise origin.error(path, "an empty list; name at least one")
        return tuple(_parsed(parser.item, one, path, origin) for one in many)
    try:
        return parser.parse(value, origin.folder) if isinstance(parser, Located) else parser(value)
    except ValueError as error:
        raise origin.error(path, str(error)) from None


def _choice(choices: tuple[str, ...], value: object, path: KeyPath, origin: Origin) -> object:
    if value not in choices:
        near = nearest(str(value), choices)
        advice = f'did you mean "{near}"?' if near else f"choose from {', '.join(choices)}"
        raise origin.error(path, f"{show(value)} is not a choice; {advice}")
    return value


def _check_type(kind: type, wanted: str, value: object, path: KeyPath, origin: Origin) -> None:
    if type(value) is not kind:
        raise origin.error(path, f"expected {wanted}, not {show(value)}")


def _check_missing(cls: type, values: Mapping[str, Any], path: KeyPath, origin: Origin) -> None:
    for item in _fields(cls):
        optional = item.default is not dataclasses.MISSING or item.default_factory is not dataclasses.MISSING
        if item.name not in values and not optional:
            raise origin.error(path, f"'{key_of(item)}' is missing")


def _field_for(cls: type, key: str, value: object) -> str | None:
    """The field that takes ``key``; of two with one key, the Mapping takes tables."""
    found = [item.name for item in _fields(cls) if key_of(item) == key]
    if len(found) > 1:
        mappings = [name for name in found if get_origin(hints_of(cls)[name]) is Mapping]
        return next(name for name in found if (name in mappings) == isinstance(value, dict))
    return found[0] if found else None


def _keys(cls: type) -> set[str]:
    extra = extra_of(cls)
    return {key_of(item) for item in _fields(cls) if not (extra and item.name == extra[0]) and key_of(item)}


def _fields(cls: type) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(cls)


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _items(value: object) -> list[tuple[str, object]]:
    return list(value.items()) if isinstance(value, dict) else []
