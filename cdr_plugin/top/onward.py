"""What a receiving tier passes on of what it takes, besides keeping it. The top tier passes on nothing.

Called in the order in which things were taken. What was passed on before ``checkpoint`` is durable behind it,
and only then is anything acknowledged or removed below. Whatever is repeated after a crash may be passed on twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from cdr_plugin.identity.register import Client
from cdr_plugin.model.blobs import Payload
from cdr_plugin.parcel.blobrefs import BlobRef
from cdr_plugin.parcel.version import SignedVersionRecord


class Onward:
    """Passes nothing on."""

    def blob(self, client: Client, payload: Payload) -> None:
        """The client delivered this payload, and it decodes to the blob that it names."""

    def opaque(self, client: Client, payload: Payload) -> None:
        """The client delivered this payload, which cannot be decoded here."""

    def attested(self, client: Client, blobs: Sequence[BlobRef]) -> None:
        """A tier below says that the client delivered these."""

    def version(self, client: Client, number: int, signed: SignedVersionRecord) -> None:
        """A version record of the client, verified."""

    def has_room(self) -> bool:
        """Can more be passed on now?"""
        return True

    def checkpoint(self) -> None:
        """Returns when all that was passed on is durable."""
