"""Exclude files: one pattern per line, ``#`` comments, environment variables, as restic reads them."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Mapping
from pathlib import Path

from cdr_plugin.errors import UserError

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))

# Go's os.Expand: ${name}, $name or one special character; "${}" and an unclosed "${" are eaten.
_VARIABLE = re.compile(r"\$(?:\{([^}]*)\}|(\{)|([*#$@!?\-0-9])|([A-Za-z0-9_]+))")


def read_exclude_file(path: Path, environ: Mapping[str, str] = os.environ) -> list[str]:
    """The patterns in the file, in order; UserError when it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: exclude file cannot be read: {error.strerror}") from None
    lines = [line.strip() for line in decode(f"{path}: exclude file", data).split("\n")]
    return [expand(line, environ) for line in lines if line and not line.startswith("#")]


def decode(what: str, data: bytes) -> str:
    """Text with a byte order mark as that says, other text as file names are; UserError about ``what``."""
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            try:
                return data[len(bom) :].decode(encoding)
            except UnicodeDecodeError as error:
                raise UserError(f"{what} is not {encoding}: {error.reason}") from None
    return os.fsdecode(data)


def expand(text: str, environ: Mapping[str, str]) -> str:
    """``text`` with ``$NAME`` and ``${NAME}`` replaced, unset ones by nothing, ``$$`` by ``$``."""

    def value(match: re.Match[str]) -> str:
        braced, open_brace, special, name = match.groups()
        if open_brace:
            return ""
        key: str = braced if braced is not None else special or name
        return "$" if key == "$" else environ.get(key, "")

    return _VARIABLE.sub(value, text)
