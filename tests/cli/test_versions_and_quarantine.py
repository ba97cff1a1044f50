"""``cdr versions`` and ``cdr quarantine``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cdr_plugin.top.sender import SenderPass
from tests.cli.test_scheduled_care import deliver, keep, one_more, store
from tests.cli.test_status_and_policies import Host, host

__all__ = ["host"]


def states(host: Host, tier: str) -> list[tuple[int, str]]:
    found = host.json("versions", "-T", tier)["clients"]
    return [(one["number"], one["state"]) for client in found for one in client["versions"]]


# --- versions ---


def test_every_version_is_shown_as_the_client_and_as_the_top_know_it(host: Host) -> None:
    store(host, "check = {}")
    (host.folder / "files/a").write_bytes(b"second")
    host.cdr("backup")
    assert states(host, "laptop") == [(1, "committed"), (2, "captured")]
    assert states(host, "hq") == [(1, "committed")]
    host.cdr("send")
    assert states(host, "laptop") == [(1, "committed"), (2, "in transit")]
    deliver(host)
    host.cdr("check", "--scheduled")
    host.cdr("send")
    assert states(host, "laptop") == states(host, "hq") == [(1, "verified"), (2, "verified")]
    out, _ = host.cdr("versions")
    assert "laptop (group home), says laptop:" in out and "laptop (group home), says hq:" in out
    assert out.count("verified now") == 4


def test_what_was_forgotten_is_removed_at_both_ends(host: Host) -> None:
    store(host, "forget = { keep_last = 1 }")
    for number in range(3):
        one_more(host, b"%d" % number)
    host.cdr("forget", "--scheduled")
    expected = [(1, "removed"), (2, "removed"), (3, "committed"), (4, "committed")]
    assert states(host, "hq") == expected
    deliver(host)
    assert states(host, "laptop") == expected


def test_a_version_that_is_committed_just_now_is_not_called_removed(host: Host) -> None:
    store(host)
    one_more(host, b"second")
    assert states(host, "laptop") == [(1, "committed"), (2, "committed")]


def test_without_the_password_the_top_still_says_what_it_knows(host: Host) -> None:
    store(host)
    (host.folder / "password").write_text("wrong")
    out, err = host.cdr("versions", "-T", "hq")
    assert "committed" in out and "what was removed is not told apart" in err


def test_filters_choose_clients(host: Host) -> None:
    store(host)
    assert [one["tier"] for one in host.json("versions", "--client", "laptop", "-T", "hq")["clients"]] == ["hq"]
    assert host.json("versions", "--client", "nobody")["clients"] == []
    assert host.cdr("versions", "--group", "other")[0] == "no client fits\n"


# --- quarantine ---


def rejected(host: Host, content: bytes = b"more") -> dict[str, Any]:
    """A segment whose seal was broken on its way: in quarantine. Its sound copy is still with the client."""
    (host.folder / "files/a").write_bytes(content)
    host.cdr("backup")
    host.cdr("send")
    (segment,) = [p for p in (host.folder / "inbox/clients").glob("*/*/*") if p.is_file()]
    data = bytearray(segment.read_bytes())
    data[-1] ^= 1
    segment.unlink()
    segment.write_bytes(data)
    host.cdr("receive", code=1)
    found = host.json("quarantine", "list")["quarantine"]
    return dict(found[-1])


def test_what_was_rejected_is_listed_with_its_client_and_the_reason(host: Host) -> None:
    store(host)
    assert host.cdr("quarantine")[0] == "nothing is in quarantine\n"
    found = rejected(host)
    assert (found["client"], found["tier"], found["group"]) == ("laptop", "hq", "home")
    assert found["reason"] and found["reason"] in host.cdr("quarantine")[0]


def test_what_is_released_is_tried_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an upgrade: the same object, which was refused, is taken."""
    store(host)
    (host.folder / "files/a").write_bytes(b"more")
    host.cdr("backup")
    host.cdr("send")
    real = SenderPass._take

    def refuse(self: Any, segments: Any) -> None:
        from cdr_plugin.errors import PayloadError
        from cdr_plugin.top.intake import Rejected

        for opened in segments:
            self._reject(Rejected(opened.arrival, b"", PayloadError("not understood")))

    monkeypatch.setattr(SenderPass, "_take", refuse)
    host.cdr("receive", code=1)
    monkeypatch.setattr(SenderPass, "_take", real)
    (found,) = host.json("quarantine", "list")["quarantine"]
    assert found["reason"] == "not understood"
    out, _ = host.cdr("quarantine", "release", found["id"][:10])
    assert out == "1 segments put back; 'cdr receive' tries them again\n"
    assert host.json("quarantine", "list")["quarantine"] == []
    host.cdr("receive")
    assert len(json.loads(host.cdr("snapshots", "--json")[0])) == 2


def test_what_is_still_bad_comes_back_and_can_be_deleted(host: Host) -> None:
    store(host)
    found = rejected(host)
    host.cdr("quarantine", "release", "--all")
    host.cdr("receive", code=1)
    assert [one["id"] for one in host.json("quarantine", "list")["quarantine"]] == [found["id"]]
    assert host.json("quarantine", "release", "--all", "--delete")["deleted"] == [found["id"]]
    assert host.json("quarantine", "list")["quarantine"] == []
    deliver(host)
    deliver(host)
    assert len(json.loads(host.cdr("snapshots", "--json")[0])) == 2


def test_a_better_copy_that_the_client_has_sent_is_not_overwritten(host: Host) -> None:
    store(host)
    found = rejected(host)
    host.cdr("send")  # the receipt asked for it
    _, err = host.cdr("quarantine", "release", found["id"], code=1)
    assert "its client has sent it again already; run 'cdr receive', or delete this one" in err
    host.cdr("receive")
    assert len(json.loads(host.cdr("snapshots", "--json")[0])) == 2


def test_what_nobody_owns_can_only_be_deleted(host: Host) -> None:
    store(host)
    folder: Path = host.folder / "hq/home/quarantine"
    folder.mkdir()
    (folder / f"{'ab' * 16}-00000000").write_bytes(b"rubbish")
    (folder / "notes.txt").write_bytes(b"of the operator")
    (found,) = host.json("quarantine", "list")["quarantine"]
    assert (found["client"], found["reason"]) == (None, "")
    assert "does not know whose it is" in host.cdr("quarantine", "release", "--all", code=1)[1]
    host.cdr("quarantine", "release", "--all", "--delete")
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_ids_that_mean_nothing_or_several_are_refused(host: Host) -> None:
    store(host)
    keep(host)
    found = rejected(host)
    for text, problem in (("ffff0000ffff", "nothing in quarantine"), (found["id"][:2], "too short an ID")):
        assert problem in host.cdr("quarantine", "release", text, code=1)[1]
    assert "takes IDs, or --all" in host.cdr("quarantine", "release", code=1)[1]
