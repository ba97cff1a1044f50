"""Finds, reads and checks the configuration file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cdr_plugin.errors import ConfigError
from cdr_plugin.model.quantities import show

from .build import build
from .chain import Config, check_chain
from .origin import Origin, collecting, raise_all
from .places import parse_name
from .schema import TierConfig
from .tables import parse_tables

CLIENT_METHODS = ("delta", "zstd")
"""What a client reduces with when ``reduce.methods`` is absent."""

MAX_BYTES = 4 * 1024 * 1024
"""A mistaken path (a disk image) is refused, not read into memory."""


def load_config(path: Path | None = None, *, inherit: bool = True) -> Config:
    """The configuration in ``path``, else in the first of $CDR_CONFIG, ./cdr.toml and
    ~/.config/cdr/cdr.toml; ConfigError names file, line and key. ``inherit``: as for ``parse_config``."""
    file = (find_config() if path is None else path).absolute()
    return parse_config(read_text(file), file, inherit=inherit)


def find_config() -> Path:
    """The file that is used when none is named; ConfigError when there is none."""
    named = os.environ.get("CDR_CONFIG")
    if named:
        return Path(named)
    candidates = [Path("cdr.toml"), _user_folder("XDG_CONFIG_HOME", ".config") / "cdr.toml"]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    places = " or ".join(map(str, candidates))
    raise ConfigError(f"no configuration: there is no {places}; name one with -c FILE or $CDR_CONFIG")


def parse_config(text: str, file: Path, *, inherit: bool = True) -> Config:
    """The configuration in ``text``, with ``file`` (absolute) for messages and relative paths; under the policies that
    its tiers have adopted, unless not to ``inherit``."""
    loaded = parse_leniently(text, file)
    raise_all(loaded.problems)
    if not inherit or all(tier.policy == "own" for tier in loaded.config.tiers.values()):
        return loaded.config
    from .adopted import in_force

    return in_force(loaded.config)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A file as far as it could be understood: tiers without a fault of their own, and all that is wrong."""

    config: Config
    origin: Origin
    problems: tuple[ConfigError, ...]


def load_leniently(file: Path) -> Loaded:
    """What can be said of ``file`` (absolute). Raises nothing: a file that cannot be read is a problem."""
    try:
        text = read_text(file)
    except ConfigError as error:
        return Loaded(Config(file, {}), Origin(file, ""), (error,))
    return parse_leniently(text, file)


def parse_leniently(text: str, file: Path) -> Loaded:
    """As ``parse_config``, and raises nothing."""
    origin, problems = Origin(file, text), list[ConfigError]()
    config = Config(file, {})
    with collecting(problems):
        for name, table in _tables(text, origin, problems).items():
            with collecting(problems):
                config.tiers[name] = _tier(name, table, origin)
        # Of tiers that cannot be built nothing is expected, so that no message follows from another.
        check_chain(config, origin)
    return Loaded(config, origin, tuple(problems))


def _tables(text: str, origin: Origin, problems: list[ConfigError]) -> dict[str, Any]:
    """The tables of the tiers by name."""
    document = parse_tables(text, origin.file)
    problems += [origin.unknown((key,), ["tier"]) for key in document if key != "tier"]
    tables = document.get("tier")
    if isinstance(tables, dict) and tables:
        return tables
    if problems:
        return {}
    raise origin.error((), "no tier; a file needs at least one [tier.NAME]")


def _tier(name: str, table: object, origin: Origin) -> TierConfig:
    path = ("tier", name)
    try:
        parse_name(name, origin.folder)
    except ValueError as error:
        raise origin.error(path, str(error)) from None
    if not isinstance(table, dict):
        raise origin.error(path, f"expected a table, not {show(table)}")
    return replace(build(TierConfig, _with_defaults(name, table), path, origin), name=name)


def _with_defaults(name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults that depend on the tier's name, on its other tables or on the user."""
    result = {
        "state": str(_user_folder("XDG_STATE_HOME", ".local/state") / name),
        "identity": str(_user_folder("XDG_CONFIG_HOME", ".config") / name),
        "reduce": {},
        **table,
    }
    if isinstance(result["reduce"], dict):
        methods = list(CLIENT_METHODS) if "source" in table else []
        result["reduce"] = {"methods": methods, **result["reduce"]}
    return result


def _user_folder(variable: str, default: str) -> Path:
    """CDR's folder below one of the XDG base directories; relative values count as unset."""
    base = Path(os.environ.get(variable, ""))
    return (base if base.is_absolute() else Path("~").expanduser() / default) / "cdr"


def read_text(file: Path) -> str:
    """The text of a configuration, whatever it says; ConfigError."""
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"{file}: {reason}; name a configuration with -c FILE or $CDR_CONFIG") from None
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{file}: larger than {MAX_BYTES} bytes; this is no configuration")
    try:
        # TOML's line ends are \n and \r\n; tomllib wants text as open() would give it.
        return data.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}:{line}: not UTF-8 text, as TOML must be") from None
