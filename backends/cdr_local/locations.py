"""Which folder a ``file:`` URL or a plain path names."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote_to_bytes

from cdr_plugin.errors import UserError


def folder_of(url: str) -> Path:
    """The absolute path that ``url`` names; UserError when it names none.

    Percent escapes count in ``file:`` URLs only; ``~`` is expanded; relative paths start at the
    working directory. Symbolic links on the way to the folder are the user's business and stay.
    """
    path = _path_of_url(url) if url[:5].lower() == "file:" else url
    if not path or "\0" in path:
        raise UserError(f"{url!r} names no folder; write file:/absolute/path or a plain path")
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:
        raise UserError(f"{url!r} names no folder: {error}") from None


def _path_of_url(url: str) -> str:
    rest = url[5:]
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host not in ("", "localhost"):
            raise UserError(f"{url!r} names the host {host!r}; a folder of this machine is file:///{path}")
        rest = slash + path
    return os.fsdecode(unquote_to_bytes(rest))
