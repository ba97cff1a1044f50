"""TOML text to its tables."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from cdr_plugin.errors import ConfigError

_SYNTAX = re.compile(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", re.DOTALL).fullmatch


def parse_tables(text: str, file: Path) -> dict[str, Any]:
    """ConfigError, naming ``file`` and the line, when it is not TOML."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise _syntax_error(error, text, file) from None


def _syntax_error(error: Exception, text: str, file: Path) -> ConfigError:
    match = _SYNTAX(str(error))
    if match is None:
        return ConfigError(f"{file}: {error}")
    line = match[2] or text.count("\n") + 1
    reason = match[1][:1].lower() + match[1][1:]
    return ConfigError(f"{file}:{line}: not TOML: {reason}")
