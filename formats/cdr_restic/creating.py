"""Makes a repository, in restic's order: folders, key, config."""

from __future__ import annotations

from cdr_plugin.contracts import RepositoryOptions, Settings
from cdr_plugin.errors import FormatError, UserError
from cdr_plugin.kernel.polynomial import random_polynomial
from cdr_restic.config import new_config, parse_polynomial, save_config
from cdr_restic.crypto import KeyMaterial
from cdr_restic.keys import OpenedKey, Scrypt, add_key, checked_password, measured_scrypt
from cdr_restic.options import check_options
from cdr_restic.repository import ResticRepository
from cdr_restic.storage import FileKind, Storage

_CHUNKER = {"name": "rabin", "min_size": 512 * 1024, "max_size": 8 * 1024 * 1024, "average_bits": 20}
"""What restic has built in; only the polynomial is a repository's own."""


def create_repository(
    storage: Storage, options: RepositoryOptions, chunker: Settings, scrypt: Scrypt | None = None
) -> ResticRepository:
    """A new, empty repository; UserError when there is one, or the rest of one, already.

    ``scrypt`` defaults to what costs this machine half a second.
    """
    check_options(options)
    polynomial = chosen_polynomial(chunker)
    _refuse_existing(storage)
    password = checked_password(options.password())
    key = KeyMaterial.random()
    config = new_config(options.settings.get("version", 2), polynomial)
    storage.make_folders()
    key_id = add_key(storage, key, password, scrypt or measured_scrypt())
    save_config(storage, key, config)
    return ResticRepository(storage, OpenedKey(key_id, key), config, options)


def chosen_polynomial(chunker: Settings) -> int:
    """The polynomial that ``chunker`` names, or a random one; UserError for what restic's
    chunker cannot do."""
    for name, value in chunker.items():
        if name != "polynomial" and _CHUNKER.get(name) != value:
            raise UserError(f"a restic repository cannot have the chunker setting {name} = {value!r}")
    if "polynomial" not in chunker:
        return random_polynomial()
    try:
        return parse_polynomial(str(chunker["polynomial"]))
    except FormatError as error:
        raise UserError(str(error)) from None


def _refuse_existing(storage: Storage) -> None:
    if storage.exists(FileKind.CONFIG, ""):
        raise UserError(
            f"there is a repository at {storage.location} already; open it, or choose another place"
        )
    for kind in (FileKind.KEYS, FileKind.SNAPSHOTS):
        if any(storage.list(kind)):
            raise UserError(
                f"{storage.location} holds {kind} of a repository without config; "
                "restore its config, or choose another place"
            )
