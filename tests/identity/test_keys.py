"""Keys: round trips, domain separation, and refusal of everything that is no key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdr_plugin.errors import AuthenticationError, CdrError, FormatError, UnknownVersionError, UserError
from cdr_plugin.identity.keys import (
    KemSuite,
    SealingKey,
    SealingPublicKey,
    SigningKey,
    VerifyKey,
    short,
    suite_from_label,
)
from cdr_plugin.identity.wire import MAJOR_VERSION, ObjectKind, check_group, check_start, frame, group_hash

parts = st.lists(st.binary(max_size=12), min_size=1, max_size=4)


@given(parts, parts)
def test_framing_never_joins_two_lists_to_the_same_bytes(one: list[bytes], two: list[bytes]) -> None:
    assert (frame(*one) == frame(*two)) == (one == two)


def test_a_signature_verifies_only_with_its_key_domain_and_parts() -> None:
    key, other = SigningKey.generate(), SigningKey.generate()
    signature = key.sign(b"domain", b"ab", b"c")
    key.public.verify(signature, b"domain", b"ab", b"c")
    for verifier, domain, pieces in (
        (key.public, b"domain", (b"a", b"bc")),
        (key.public, b"domain", (b"abc",)),
        (key.public, b"other", (b"ab", b"c")),
        (other.public, b"domain", (b"ab", b"c")),
    ):
        with pytest.raises(AuthenticationError, match="does not verify"):
            verifier.verify(signature, domain, *pieces)
    for damaged in (b"", signature[:-1], bytes(64), signature[:-1] + bytes((signature[-1] ^ 1,))):
        with pytest.raises(AuthenticationError):
            key.public.verify(damaged, b"domain", b"ab", b"c")


def test_keys_survive_their_text_form() -> None:
    signing = SigningKey.generate()
    assert SigningKey.from_text(signing.to_text() + "\n") == signing
    assert VerifyKey.from_text(signing.public.text) == signing.public
    for suite in KemSuite:
        sealing = SealingKey.generate(suite)
        assert SealingKey.from_text(sealing.to_text()) == sealing
        assert SealingPublicKey.from_text(sealing.public.text) == sealing.public
        assert suite_from_label(suite.label) is suite


def test_no_repr_shows_a_secret() -> None:
    signing, sealing = SigningKey.generate(), SealingKey.generate(KemSuite.X25519)
    for shown in (repr(signing), repr(sealing)):
        assert signing.raw.hex() not in shown and "raw" not in shown


@pytest.mark.parametrize(
    "text",
    ["", "cdr-sign-ed25519", "cdr-sign-ed25519 !!!!", "cdr-sign-ed25519 QUJD", "ssh-ed25519 AAAA", "\0"],
)
def test_text_that_is_no_key_is_refused(text: str) -> None:
    for read in (VerifyKey.from_text, SigningKey.from_text, SealingKey.from_text, SealingPublicKey.from_text):
        with pytest.raises(FormatError):
            read(text)


@pytest.mark.parametrize("y", [0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 18])
@pytest.mark.parametrize("sign", [0, 1 << 255])
def test_weak_verify_keys_are_refused(y: int, sign: int) -> None:
    with pytest.raises(FormatError, match="weak"):
        VerifyKey((y | sign).to_bytes(32, "little"))


@pytest.mark.parametrize("suite", list(KemSuite))
def test_only_the_owner_opens_and_only_with_the_same_info(suite: KemSuite) -> None:
    key, other = SealingKey.generate(suite), SealingKey.generate(suite)
    sealed = key.public.seal(b"secret", b"info")
    assert len(sealed) == len(b"secret") + suite.overhead
    assert key.open(sealed, b"info") == b"secret"
    with pytest.raises(AuthenticationError):
        other.open(sealed, b"info")
    with pytest.raises(AuthenticationError):
        key.open(sealed, b"else")
    for damaged in (b"", sealed[:5], sealed[:-1], sealed + b"x", sealed[:-1] + bytes((sealed[-1] ^ 1,))):
        with pytest.raises(AuthenticationError):
            key.open(damaged, b"info")


def test_a_sealing_key_that_no_kem_accepts_is_refused_at_its_first_use() -> None:
    with pytest.raises(FormatError, match="not usable"):
        SealingPublicKey(KemSuite.X25519, bytes(32)).seal(b"x", b"")
    with pytest.raises(FormatError, match="not usable"):
        SealingPublicKey(KemSuite.MLKEM768_X25519, b"\xff" * 1216).seal(b"x", b"")
    with pytest.raises(FormatError):
        SealingPublicKey(KemSuite.X25519, bytes(31))


def test_short_fingerprints_are_readable() -> None:
    assert short(bytes(range(32))) == "0001-0203-0405-0607"


@pytest.mark.parametrize("group", ["", ".", "..", ".x", "-x", "a/b", "a b", "ä", "a" * 65, "a\n", "a\0"])
def test_group_names_that_could_leave_a_folder_are_refused(group: str) -> None:
    with pytest.raises(UserError, match="group name"):
        check_group(group)


def test_group_names_are_kept_as_they_are() -> None:
    assert check_group("legal-2.x_Y") == "legal-2.x_Y"
    assert group_hash("a") != group_hash("b") and len(group_hash("a")) == 32


def test_an_unknown_suite_label_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match="mlkem768-x25519"):
        suite_from_label("rot13")


@given(st.binary(max_size=8))
def test_objects_of_other_versions_and_kinds_are_told_apart_from_damage(data: bytes) -> None:
    try:
        check_start(data, ObjectKind.SEGMENT, 2, 8, "object")
    except UnknownVersionError:
        assert data[0] != MAJOR_VERSION or data[1] not in (1, 2, 3)
    except CdrError:
        assert len(data) < 2 or data[1] in (2, 3)
    else:
        assert data[:2] == bytes((MAJOR_VERSION, ObjectKind.SEGMENT))
