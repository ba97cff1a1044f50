"""Reading what the tiers above put into the inbox for this client: one answer, from each storage that may hold it.

What is wrong with an answer is reported and stops nothing: the next contact reads it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar, Unpack

from cdr_plugin.client.tier import ClientTier
from cdr_plugin.client.tier_keys import FormerKeyError
from cdr_plugin.contracts import Transport
from cdr_plugin.errors import IntegrityError, NotFoundError, RemoteError
from cdr_plugin.identity.documents import MAX_DOCUMENT_BYTES, Accept
from cdr_plugin.model.blobs import Buffer
from cdr_plugin.parcel.sealed import AddresseeFields
from cdr_plugin.reporter import Reporter


class _Numbered(Protocol):
    @property
    def serial(self) -> int: ...


_N = TypeVar("_N", bound=_Numbered)
_N_co = TypeVar("_N_co", bound=_Numbered, covariant=True)


class Opens(Protocol[_N_co]):
    """Opens one kind of sealed document, such as ``read_notice``."""

    def __call__(self, data: Buffer, **addressee: Unpack[AddresseeFields]) -> _N_co: ...


Signer = Callable[[ClientTier], Accept]
"""Who may sign an answer: ``tier_signer`` or ``top_signer``."""


def newest_answer(
    client: ClientTier,
    storages: Iterable[Transport],
    name: str,
    opens: Opens[_N],
    signer: Signer,
    reporter: Reporter,
    *,
    what: str,
    lowest_serial: int = 0,
) -> _N | None:
    """Of the answers in the storages that of the highest serial; None where there is none that counts.

    A storage that fails does not matter: it is noted that ``what`` ('its standing is') is read another time.
    """
    found = []
    for storage in storages:
        try:
            found.append(read_answer(client, storage, name, opens, signer, reporter, lowest_serial=lowest_serial))
        except RemoteError as error:
            reporter.note(f"client {client.name}: {error}; {what} read another time")
    return max((answer for answer in found if answer is not None), key=lambda answer: answer.serial, default=None)


def read_answer(
    client: ClientTier,
    storage: Transport,
    name: str,
    opens: Opens[_N],
    signer: Signer,
    reporter: Reporter,
    *,
    lowest_serial: int = 0,
) -> _N | None:
    """The answer in a storage; None where there is none, one of a key that was replaced, or one that is not for us,
    is older than ``lowest_serial`` or damaged, which is reported. RemoteError when the storage fails."""
    ticket = client.ticket
    try:
        return opens(
            storage.get(name, 0, MAX_DOCUMENT_BYTES + 1),
            keys=client.identity.sealing_keys(ticket.group),
            tier=signer(client),
            client=client.identity.signing.public,
            group=ticket.group,
            now_s=time.time(),
            lowest_serial=lowest_serial,
        )
    except (NotFoundError, FormerKeyError):
        return None
    except IntegrityError as error:
        reporter.error(name, "receive", f"{error}; ignored")
        return None
