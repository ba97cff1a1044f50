"""A line of signing keys leads from any key that is trusted to the present one, step by step, or not at all."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from cdr_plugin.errors import AuthenticationError, FormatError, UserError
from cdr_plugin.identity.keys import SigningKey
from cdr_plugin.identity.store import Identity
from cdr_plugin.identity.succession import MAX_PREDECESSORS, check_succession, name_successor

KEYS = [SigningKey(bytes((number,)) * 32) for number in range(1, 6)]
LINE = [name_successor(key, successor.public) for key, successor in pairwise(KEYS)]
PRESENT = KEYS[-1].public


@pytest.mark.parametrize("trusted", KEYS)
def test_whoever_trusts_one_of_the_line_trusts_the_present_key(trusted: SigningKey) -> None:
    check_succession(LINE, PRESENT, trusted.public)


def test_a_stranger_and_a_successor_that_comes_later_are_not_of_the_line() -> None:
    stranger = SigningKey(b"x" * 32)
    for line, present, trusted in (
        (LINE, PRESENT, stranger),
        (LINE, stranger.public, KEYS[0]),
        ([], PRESENT, KEYS[0]),
        (LINE[:1], KEYS[0].public, KEYS[1]),
    ):
        with pytest.raises(AuthenticationError):
            check_succession(line, present, trusted.public)


def test_a_step_that_is_left_out_swapped_or_signed_by_another_breaks_it() -> None:
    forged = LINE[1].__class__(key=LINE[1].key, signature=LINE[2].signature)
    for line in ([LINE[0], *LINE[2:]], [LINE[0], LINE[2], LINE[1], LINE[3]], [LINE[0], forged, *LINE[2:]]):
        with pytest.raises(AuthenticationError):
            check_succession(line, PRESENT, KEYS[0].public)
    check_succession([forged, *LINE[2:]], PRESENT, KEYS[2].public)  # behind the key that is trusted all is well


def test_a_rotated_identity_is_read_back_with_its_line(tmp_path: Path) -> None:
    identity = Identity.create(tmp_path / "identity")
    first = identity.signing.public
    keys = [first]
    for _ in range(3):
        identity = identity.rotate_signing_key()
        keys.append(identity.signing.public)
    read = Identity.load(tmp_path / "identity")
    assert read.signing == identity.signing
    assert [one.verify_key for one in read.predecessors] == keys[:-1]
    check_succession(read.predecessors, read.signing.public, first)
    text = (tmp_path / "identity" / "identity.key").read_text()
    assert text.startswith("cdr-identity 2 ")
    for damaged in (text[:-20], text.replace("cdr-identity 2", "cdr-identity 1"), text + "more\n"):
        with pytest.raises(FormatError):
            Identity.parse(tmp_path, damaged)


def test_a_line_does_not_grow_for_ever(tmp_path: Path) -> None:
    identity = Identity.create(tmp_path / "identity")
    for _ in range(MAX_PREDECESSORS):
        identity = identity.rotate_signing_key()
    with pytest.raises(UserError, match="make a new identity"):
        identity.rotate_signing_key()
    assert len(Identity.load(tmp_path / "identity").predecessors) == MAX_PREDECESSORS
