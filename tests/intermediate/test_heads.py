"""Heads that reach a carrying tier through several inboxes."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdr_plugin.identity.keys import SigningKey
from cdr_plugin.intermediate.tier import IntermediateTier
from cdr_plugin.parcel.head import Head, HeadParcel, carried_serial, write_head
from cdr_plugin.parcel.naming import folder_id, head_name
from cdr_plugin.plugins import installed
from cdr_plugin.reporter import Reporter

KEY, STRANGER = SigningKey.generate(), SigningKey.generate()
FOLDER = folder_id(KEY.public, "g")


def head(serial: int, key: SigningKey = KEY) -> bytes:
    return write_head(Head(serial, [HeadParcel(bytes(16), 1, False)]), key, group="g", issued_s=1)


@pytest.fixture
def branch(tmp_path: Path) -> IntermediateTier:
    """Two inboxes, the client's folder in both."""
    inboxes = [tmp_path / "one", tmp_path / "two"]
    for inbox in inboxes:
        (inbox / head_name(FOLDER)).parent.mkdir(parents=True)
    (tmp_path / "above").mkdir()
    tier = IntermediateTier(
        "branch", tmp_path / "state", [str(inbox) for inbox in inboxes], str(tmp_path / "above"), installed()
    )
    tier.init()
    return tier


def carried(branch: IntermediateTier, one: bytes, two: bytes) -> bytes:
    """The head that goes up when these lie in the inboxes."""
    for inbox, data in zip(branch.inboxes, (one, two), strict=True):
        (Path(inbox) / head_name(FOLDER)).write_bytes(data)
    branch.receive(Reporter())
    branch.send(Reporter())
    return (Path(branch.to) / head_name(FOLDER)).read_bytes()


def test_the_newest_head_goes_up_whichever_inbox_holds_it(branch: IntermediateTier) -> None:
    assert carried(branch, head(7), head(6)) == head(7)
    assert carried(branch, head(7), head(8)) == head(8)


def test_a_head_that_its_client_has_not_signed_does_not_replace_one_that_it_has(branch: IntermediateTier) -> None:
    assert carried(branch, head(3), head(1 << 50, STRANGER)) == head(3)
    assert carried(branch, b"garbage", head(4)) == head(4)
    assert carried_serial(head(5, STRANGER), FOLDER) == -1
