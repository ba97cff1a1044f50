"""Reading which of our versions the top tier's checks have verified.

Only knowledge to show: nothing is freed or built on it. It is remembered as it was told, so that a version that
reaches damage stops to be shown as verified.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cdr_plugin.errors import FormatError
from cdr_plugin.parcel.verified_list import pack_verified, unpack_verified

# Reading a document needs the crypto library, which 'cdr status' does without.
if TYPE_CHECKING:
    from cdr_plugin.client.state import ClientState
    from cdr_plugin.client.tier import ClientTier
    from cdr_plugin.contracts import Transport
    from cdr_plugin.reporter import Reporter

_SERIAL, _VERSIONS = "verified_serial", "verified_versions"


def read_verified_in(client: ClientTier, storages: Iterable[Transport], folder: str, reporter: Reporter) -> None:
    """Remember the newest word in any of the storages, if it is newer than the last one. One that fails does not
    matter here."""
    from cdr_plugin.client.answer_reading import newest_answer
    from cdr_plugin.client.tier_keys import top_signer
    from cdr_plugin.parcel.naming import Answer, answer_name
    from cdr_plugin.parcel.verified import read_verified

    name = answer_name(folder, Answer.VERIFIED)
    newest = newest_answer(client, storages, name, read_verified, top_signer, reporter, what="what is verified is")
    if newest is not None and newest.serial > int(client.state.get(_SERIAL) or b"0"):
        client.state.put({_SERIAL: str(newest.serial), _VERSIONS: pack_verified(newest.versions)})


def verified_times(state: ClientState) -> dict[tuple[int, bytes], int]:
    """When a check last covered each verified version, in seconds since 1970: by number and record hash."""
    try:
        versions = unpack_verified(state.get(_VERSIONS) or b"")
    except FormatError:
        return {}  # of a newer program; what it says is told again
    return {(version.number, version.record): version.time_s for version in versions}
