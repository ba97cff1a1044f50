"""The configuration in force, defaults included, as JSON types and as TOML again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from cdr_plugin.model.quantities import (
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_rate,
    parse_size,
)

from .build import OPTIONAL, extra_of, hints_of, key_of
from .chain import Config

_FORMATS = {parse_size: format_size, parse_rate: format_rate, parse_duration: format_duration}


def as_document(config: Config) -> dict[str, Any]:
    """What the file would say if it said everything; absent values are left out."""
    return {"tier": {name: _table(tier) for name, tier in config.tiers.items()}}


def as_toml(config: Config) -> str:
    """``as_document`` as TOML text that loads to an equal configuration."""
    return "\n".join(_lines(as_document(config), ())).lstrip("\n") + "\n"


def as_value(value: Any) -> str:
    """One value of a document as TOML writes it behind a key."""
    return _value(value)


def _table(value: Any) -> dict[str, Any]:
    hints, extra = hints_of(type(value)), extra_of(type(value))
    result: dict[str, Any] = {}
    for item in dataclasses.fields(value):
        held = getattr(value, item.name)
        if extra and item.name == extra[0]:
            result.update(held)
        elif key_of(item) and not _is_absent(item, held):
            result[key_of(item)] = _plain(held, hints[item.name])
    return result


def _is_absent(item: dataclasses.Field[Any], held: Any) -> bool:
    """Would the file not mention it? Empty values that are defaults say nothing."""
    if item.default_factory is not dataclasses.MISSING:
        return bool(held == item.default_factory())
    return held is None or (held == () and item.default == ())


def _plain(value: Any, hint: Any) -> Any:
    if get_origin(hint) in OPTIONAL:
        return _plain(value, get_args(hint)[0])
    if get_origin(hint) is Annotated and hint.__metadata__[0] in _FORMATS:
        return _FORMATS[hint.__metadata__[0]](value)
    if dataclasses.is_dataclass(value):
        return _table(value)
    if isinstance(value, tuple):
        return [_plain(one, type(one)) for one in value]
    if isinstance(value, Mapping):
        return {key: _plain(one, type(one)) for key, one in value.items()}
    return str(value) if isinstance(value, Path) else value


def _lines(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """A table's own keys, then its tables; those of conditions, rules and lists stay in line."""
    inner = {key: value for key, value in table.items() if isinstance(value, dict) and _stands_alone(path, key)}
    own = {key: value for key, value in table.items() if key not in inner}
    if own or (path and not inner):
        yield f"\n[{'.'.join(map(_key, path))}]"
        yield from (f"{_key(key)} = {_value(value)}" for key, value in own.items())
    for key, value in inner.items():
        yield from _lines(value, (*path, key))


def _stands_alone(path: tuple[str, ...], key: str) -> bool:
    return key not in ("when", "map", "facts", "match", "retain", "forget", "check") or len(path) < 2


def _value(value: Any) -> str:
    if isinstance(value, dict):
        inside = ", ".join(f"{_key(key)} = {_value(one)}" for key, one in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):
        return _text(value)
    return json.dumps(value) if isinstance(value, bool | int | float) else str(value)


def _key(key: str) -> str:
    bare = key.isascii() and key.replace("-", "a").replace("_", "a").isalnum()
    return key if bare else _text(key)


def _text(text: str) -> str:
    """A basic string: JSON's escapes are TOML's, except for the one character that JSON leaves."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
