"""Paths, storage URLs and repository locations: absolute, seen from the file that holds them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from cdr_plugin.model.quantities import show

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):").match
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}").fullmatch


def parse_path(value: object, folder: Path) -> Path:
    """An absolute path; ``~`` is expanded, relative paths start at ``folder``."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"expected a path, not {show(value)}")
    try:
        # normpath would change what "link/.." means; "./" and doubled slashes Path removes itself.
        return folder / Path(value).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{error} in {show(value)}") from None


def parse_url(value: object, folder: Path) -> str:
    """A storage URL; relative ``file:`` URLs and plain paths become absolute."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected a storage URL or a path, not {show(value)}")
    scheme = _SCHEME(value)
    if scheme is None:
        return str(parse_path(value, folder))
    if scheme[1].lower() == "file":
        return _absolute_file_url(value, folder)
    _check_no_password(value, value)
    return value


def parse_location(value: object, folder: Path) -> str:
    """A repository location as restic spells it; relative local paths become absolute."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected a repository location, not {show(value)}")
    check_placeholders(value)
    scheme = _SCHEME(value)
    if scheme is None:
        return str(parse_path(value, folder))
    if scheme[1].lower() == "local":
        return str(parse_path(value[len("local:") :], folder))
    _check_no_password(value, value.partition(":")[2])
    return value


def parse_template(value: object, folder: Path) -> Path:
    """A path that may hold ``{group}``."""
    path = parse_path(value, folder)
    check_placeholders(str(value))
    return path


def parse_name(value: object, folder: Path) -> str:
    """A name of a group or client: also a folder's name somewhere."""
    if not isinstance(value, str) or not _NAME(value):
        raise ValueError(f"expected a name of A-Z a-z 0-9 . _ - (at most 64), not {show(value)}")
    return value


def check_placeholders(text: str) -> None:
    """ValueError for any placeholder but ``{group}``."""
    for found in _PLACEHOLDER.findall(text):
        if found != "group":
            raise ValueError(f"unknown placeholder '{{{found}}}'; there is '{{group}}'")


def same_place(url: str) -> str:
    """A form of ``url`` that is equal for all spellings of one storage."""
    scheme = _SCHEME(url)
    if scheme is None:
        return os.path.normpath(url)
    if scheme[1].lower() == "file":
        return os.path.normpath(unquote(_file_path(url)))
    return f"{scheme[1].lower()}:{url[scheme.end() :].rstrip('/')}"


def scheme_of(url: str) -> str:
    """The scheme in lower case; ``file`` of a plain path."""
    scheme = _SCHEME(url)
    return scheme[1].lower() if scheme else "file"


def schemes(key: str) -> Callable[[Mapping[str, Any]], Iterable[str]]:
    """The schemes of all URLs that a table holds under ``key``."""
    return lambda table: map(scheme_of, table.get(key, ()))


def _absolute_file_url(url: str, folder: Path) -> str:
    path = _file_path(url)
    if not path or path.startswith("/"):
        return url
    return f"file:{quote(str(parse_path(unquote(path), folder)))}"


def _file_path(url: str) -> str:
    """The path in a ``file:`` URL, still escaped."""
    path = url[len("file:") :]
    return "/" + path[2:].partition("/")[2] if path.startswith("//") else path


def _check_no_password(shown: str, url: str) -> None:
    try:
        has_password = urlsplit(url).password is not None
    except ValueError as error:
        raise ValueError(f"not a URL: {error}") from None
    if has_password:
        raise ValueError("a password stands in the URL; use a *_file or *_command key, or the environment")
