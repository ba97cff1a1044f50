"""Checks what a config file says about a restic repository."""

from __future__ import annotations

from cdr_plugin.contracts import RepositoryOptions
from cdr_plugin.errors import ConfigError
from cdr_restic.config import VERSIONS
from cdr_restic.encoding import check_compression

_MIB = 1024 * 1024
MIN_PACK_SIZE = 4 * _MIB
MAX_PACK_SIZE = 128 * _MIB
"""restic's range of ``--pack-size``."""


def check_options(options: RepositoryOptions) -> None:
    """ConfigError that names the option and what it takes."""
    check_compression(options.compression)
    if not MIN_PACK_SIZE <= options.pack_size <= MAX_PACK_SIZE:
        raise ConfigError(f"pack size of {options.pack_size} bytes: restic takes 4 to 128 MiB")
    unknown = set(options.settings) - {"version"}
    if unknown:
        raise ConfigError(
            f"restic repository: unknown setting {min(unknown)!r} (there is: version)"
        )
    if options.settings.get("version", 2) not in VERSIONS:
        raise ConfigError("restic repository: version must be 1 or 2")
