"""Successors of signing keys: a key that gives way to another signs it.

Who trusts one key of a line trusts the last, as long as every step between the two is signed. A step proves
only that the older key was willing: whoever stole it can make one as well, so after a theft there is no
succession, but new tickets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from cdr_plugin.errors import AuthenticationError
from cdr_plugin.identity.codec import Bytes32, WireStruct
from cdr_plugin.identity.keys import SIGNATURE_BYTES, SigningKey, VerifyKey, short

MAX_PREDECESSORS = 64
"""Keys before the present one: five years of a key a month."""

_DOMAIN = b"cdr/1 successor"


class Predecessor(WireStruct, frozen=True):
    """A key that the same tier had, and its signature over the key that came after it."""

    key: Bytes32
    signature: Annotated[bytes, msgspec.Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]

    @property
    def verify_key(self) -> VerifyKey:
        return VerifyKey(self.key)

    def check(self, successor: VerifyKey) -> None:
        """AuthenticationError unless this key named ``successor`` itself."""
        self.verify_key.verify(self.signature, _DOMAIN, self.key, successor.raw)


Predecessors = Annotated[list[Predecessor], msgspec.Meta(max_length=MAX_PREDECESSORS)]
"""Oldest first; each one's successor is the next, the last one's is the present key."""


def name_successor(key: SigningKey, successor: VerifyKey) -> Predecessor:
    """``key`` gives way."""
    public = key.public
    return Predecessor(key=public.raw, signature=key.sign(_DOMAIN, public.raw, successor.raw))


def check_succession(predecessors: Sequence[Predecessor], present: VerifyKey, trusted: VerifyKey) -> None:
    """AuthenticationError unless ``trusted`` is the ``present`` key, or named it through all steps between."""
    if present == trusted:
        return
    places = [at for at, one in enumerate(predecessors) if one.key == trusted.raw]
    if not places:
        raise AuthenticationError(
            f"key {short(present.fingerprint)} is no successor of {short(trusted.fingerprint)}, which is trusted"
        )
    line = predecessors[places[-1] :]
    for one, successor in zip(line, [*(later.verify_key for later in line[1:]), present], strict=True):
        one.check(successor)
