"""Tiers of several files are joined by what their files say, and never by a guess."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdr_plugin.hierarchy.members import Hierarchy
from cdr_plugin.identity.store import Identity
from cdr_plugin.identity.ticket import Ticket, TierKey, new_secret, write_ticket
from tests.hierarchy.files import NOW_S, client, errors, found, joined, mover, notes, top


def ways(hierarchy: Hierarchy) -> list[tuple[str, str | None]]:
    return [(link.below.id, link.above.id if link.above else None) for link in hierarchy.links]


def write(path: Path, group: str = "legal", *, tier: str = "hq", inbox: str = "/srv/in", days: int = 30) -> None:
    """A ticket of the tier, of an identity made for it."""
    identity = Identity.create(path.parent / f"identity-of-{path.name}")
    ticket = Ticket(
        group=group,
        issuer=identity.signing.public,
        secret=new_secret(),
        uses=1,
        expires_s=int(NOW_S) + days * 86400,
        tiers=(TierKey(name=tier, key=identity.signing.public.raw),),
        sealing=identity.sealing_key(group, create=True).public,
        chunker={},
        inboxes=(inbox,),
    )
    path.write_text(write_ticket(ticket, identity.signing, issued_s=int(NOW_S) - 86400 * 60))


def test_one_url_joins_across_files_whatever_its_spelling() -> None:
    files = {"a.toml": client("a", '"file:///srv/in/"'), "hq.toml": top("hq", '"/srv/in"')}
    assert ways(joined(files)) == [("a", "hq")]
    assert found(files) == []


def test_a_folder_of_the_own_machine_is_meant_before_those_of_others() -> None:
    one = client("a", '"/srv/in"') + mover("one", '"/srv/in"', '"/mnt/one"')
    two = client("b", '"/srv/in"') + mover("two", '"/srv/in"', '"/mnt/two"')
    hierarchy = joined({"one.toml": one, "two.toml": two, "hq.toml": top("hq", '["/mnt/one", "/mnt/two"]')})
    assert ways(hierarchy) == [("a", "one"), ("one", "hq"), ("b", "two"), ("two", "hq")]


def test_a_folder_that_several_other_machines_have_joins_nothing_and_says_so() -> None:
    movers = {f"{name}.toml": mover(name, '"/srv/in"', '"/mnt/hq"') for name in ("one", "two")}
    files = {"a.toml": client("a", '"/srv/in"'), **movers, "hq.toml": top("hq", '"/mnt/hq"')}
    assert ways(joined(files))[0] == ("a", None)
    assert errors(files) == []
    assert notes(files) == [
        ("/etc/cdr/a.toml:5: tier.a.forward.to: /srv/in may be one or two; write it, as this machine sees it, into "
        "receive.seen_as of the one that it is")
    ]


def test_seen_as_joins_what_machines_name_differently() -> None:
    files = {
        "a.toml": client("a", '"sftp://drop@nas/srv/in"'),
        "hq.toml": top("hq", '"/srv/in"', 'seen_as = ["/mnt/nas", "sftp://drop@nas/srv/in/"]'),
    }
    assert ways(joined(files)) == [("a", "hq")]
    assert errors(files) == []


def test_a_ticket_joins_with_the_tier_that_it_names(tmp_path: Path) -> None:
    write(tmp_path / "t")
    files = {"a.toml": client("a", '"sftp://nas/in"', 'ticket = "t"'), "hq.toml": top("hq", '"/srv/in"')}
    assert ways(joined(files, tmp_path)) == [("a", "hq")]


def test_a_ticket_does_not_tell_which_tiers_stand_between(tmp_path: Path) -> None:
    write(tmp_path / "t")
    files = {
        "a.toml": client("a", '"sftp://nas/in"', 'ticket = "t"'),
        "nas.toml": mover("nas", '"/volume/in"', '"/srv/in"'),
        "hq.toml": top("hq", '"/srv/in"'),
    }
    assert ways(joined(files, tmp_path)) == [("a", None), ("nas", "hq")]
    (said,) = [one for one in found(files, folder=tmp_path) if "may be" in one.text]
    assert "sftp://nas/in may be hq or nas" in said.text


def test_tiers_of_one_name_are_told_apart_by_their_files() -> None:
    here = [member.id for member in joined({"a.toml": client("c", '"/x"'), "b.toml": client("c", '"/y"')}).members]
    assert here == ["c (a.toml)", "c (b.toml)"]


@pytest.mark.parametrize("order", [1, -1])
def test_files_may_come_in_any_order(order: int) -> None:
    names = {
        "a.toml": client("a", '"/lower"'),
        "b.toml": mover("b", '"/lower"', '"/upper"'),
        "hq.toml": top("hq", '"/upper"'),
    }
    hierarchy = joined(dict(list(names.items())[::order]))
    assert set(ways(hierarchy)) == {("a", "b"), ("b", "hq")}
    by_id = {member.id: member for member in hierarchy.members}
    assert [member.id for member in hierarchy.all_above(by_id["a"])] == ["b", "hq"]
    assert [member.id for member in hierarchy.all_below(by_id["hq"])] == ["b", "a"]


def test_a_ticket_of_a_tier_that_reduces_joins_with_it_and_its_own_with_the_next(tmp_path: Path) -> None:
    write(tmp_path / "client", tier="nas")
    write(tmp_path / "nas")
    reducing = mover("nas", '"/volume/in"', '"sftp://hq/in"') + 'ticket = "nas"\n[tier.nas.group.legal]\n'
    files = {
        "a.toml": client("a", '"sftp://nas/in"', 'ticket = "client"'),
        "nas.toml": reducing + '[tier.nas.reduce]\nmethods = ["commonality"]\n',
        "hq.toml": top("hq", '"/srv/in"'),
    }
    assert ways(joined(files, tmp_path)) == [("a", "nas"), ("nas", "hq")]
    assert [one.text for one in found(files, folder=tmp_path) if "ticket" in one.text.partition(": ")[2]] == []
