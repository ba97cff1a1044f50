"""What a client is told to be verified: it comes back as it was, to that client alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdr_plugin.errors import AuthenticationError, FormatError, IntegrityError
from cdr_plugin.parcel.limits import MAX_VERIFIED_VERSIONS
from cdr_plugin.parcel.standing import Standing, write_standing
from cdr_plugin.parcel.verified import Verified, read_verified, write_verified
from cdr_plugin.parcel.verified_list import VerifiedVersion, pack_verified, unpack_verified
from tests.parcel.parties import (
    CLIENT,
    CLIENT_SEALING,
    GROUP,
    NOT_FOR_THIS_READER,
    TIER,
    reader_of_an_answer,
    with_a_flipped_byte,
)

VERSIONS = tuple(VerifiedVersion(n, bytes((n % 251,)) * 32, 1_700_000_000 + n) for n in range(1, 1002))
VERIFIED = Verified(9, VERSIONS[:3])
HEADER: dict[str, Any] = {
    "client": CLIENT.public, "sealing": CLIENT_SEALING.public, "group": GROUP, "issued_s": 1, "expires_s": 99,
}  # fmt: skip


def said(verified: Verified = VERIFIED) -> bytes:
    return write_verified(verified, TIER, **HEADER)


def heard(data: bytes, **change: Any) -> Verified:
    return read_verified(data, **reader_of_an_answer(**change))


@pytest.mark.parametrize("verified", [VERIFIED, Verified(9), Verified(9, VERSIONS[:MAX_VERIFIED_VERSIONS])])
def test_it_comes_back_to_its_client(verified: Verified) -> None:
    assert heard(said(verified)) == verified


@pytest.mark.parametrize("change", NOT_FOR_THIS_READER)
def test_for_somebody_else_or_from_before_it_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(AuthenticationError, match="verified"):
        heard(said(), **change)


def test_a_standing_does_not_pass_for_it() -> None:
    with pytest.raises(AuthenticationError):
        heard(write_standing(Standing(9, ""), TIER, **HEADER))


def test_every_flipped_byte_is_refused() -> None:
    for bad in with_a_flipped_byte(said()):
        with pytest.raises(IntegrityError):
            heard(bad)


def test_more_than_the_limit_is_not_written() -> None:
    with pytest.raises(FormatError, match="verified"):
        said(Verified(9, VERSIONS))


@given(st.lists(st.tuples(st.integers(1, 2**63 - 1), st.binary(min_size=32, max_size=32)), unique=True, max_size=20))
def test_a_list_is_read_as_it_was_written_and_no_shorter_one(pairs: list[tuple[int, bytes]]) -> None:
    versions = [VerifiedVersion(*pair, 5) for pair in sorted(pairs)]
    packed = pack_verified(versions)
    assert unpack_verified(packed) == versions
    for cut in (1, 8, 47):
        if packed:
            with pytest.raises(FormatError, match="verified"):
                unpack_verified(packed[:-cut])
    if len(versions) > 1:
        with pytest.raises(FormatError, match="order"):
            unpack_verified(pack_verified(versions[::-1]))


@pytest.mark.parametrize("version", [VerifiedVersion(0, bytes(32), 1), VerifiedVersion(1, bytes(32), 1 << 63)])
def test_what_no_database_holds_is_refused(version: VerifiedVersion) -> None:
    with pytest.raises(FormatError, match="range"):
        unpack_verified(pack_verified([version]))
