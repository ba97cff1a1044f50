"""Object names: what a storage accepts as one, wherever it keeps its objects.

=============  ======  ==========================================================================
limit          value   reason
=============  ======  ==========================================================================
component      255     bytes in a directory entry of every file system in use
name           1024    S3's limit, the lowest of the storages that have one
components     32      a local storage holds one descriptor for each while it walks them
=============  ======  ==========================================================================
"""

from __future__ import annotations

import re

from cdr_plugin.errors import RemoteError

MAX_COMPONENT_BYTES = 255
MAX_NAME_BYTES = 1024
MAX_COMPONENTS = 32

_COMPONENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}").fullmatch


def is_component(text: str) -> bool:
    """May this be one component of an object's name? ``.``, ``..`` and hidden files may not."""
    return _COMPONENT(text) is not None


def split_name(name: str) -> list[str]:
    """The components of an object's name; RemoteError when it is none."""
    components = name.split("/")
    short = len(name) <= MAX_NAME_BYTES and len(components) <= MAX_COMPONENTS
    if not short or not all(map(is_component, components)):
        raise RemoteError(
            f"{name[:80]!r} is not an object name: use components of A-Z a-z 0-9 . _ - joined by '/', "
            "none of which starts with a dot"
        )
    return components


def split_folder(folder: str) -> list[str]:
    """The components of a folder's name, of which the root (``""``) has none; RemoteError."""
    return split_name(folder) if folder else []
