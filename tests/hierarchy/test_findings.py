"""What does not fit is named, with file, line, key and what to do; what may be sound is no error."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdr_plugin.hierarchy.findings import Severity
from tests.hierarchy.files import client, errors, found, mover, notes, top
from tests.hierarchy.test_members import write

HQ = top("hq", '"/srv/in"')
HQ_FAR = top("hq", '"/srv/upper"')


def test_a_forward_that_no_inbox_receives() -> None:
    files = {"a.toml": client("a", '"/srv/inn"'), "hq.toml": HQ}
    assert errors(files) == [
        ("/etc/cdr/a.toml:5: tier.a.forward.to: no inbox of these files is /srv/inn; did you mean '/srv/in'? If it is "
        "the same under another name, write it into receive.seen_as of the tier that receives")
    ]


def test_a_part_of_a_hierarchy_is_no_error() -> None:
    alone = {"a.toml": client("a", '"/srv/inn"')}
    assert errors(alone) == []
    assert notes(alone) == ["/etc/cdr/a.toml:5: tier.a.forward.to: /srv/inn is not in these files"]
    with_top = {"a.toml": client("a", '"/srv/inn"') + HQ}
    assert errors(with_top, is_whole=False) == []
    assert len(errors(with_top, is_whole=True)) == 1


def test_one_storage_named_differently_by_two_machines_is_a_note() -> None:
    files = {"a.toml": client("a", '"sftp://nas/srv/in"'), "hq.toml": HQ}
    assert errors(files) == []
    assert notes(files)[-1] == (
        "/etc/cdr/a.toml:5: tier.a.forward.to: sftp://nas/srv/in is not in these files; if it is an inbox of hq, "
        "write it into receive.seen_as there"
    )


def test_so_it_is_where_one_file_has_tiers_of_several_machines() -> None:
    one_file = {"all.toml": client("a", '"sftp://nas/srv/in"') + mover("b", '"/srv/in"', '"https://hq/in"') + HQ_FAR}
    assert errors(one_file) == []
    assert [said.split("; ")[1] for said in notes(one_file) if "if it is" in said] == [
        "if it is an inbox of b, write it into receive.seen_as there",
        "if it is an inbox of hq, write it into receive.seen_as there",
    ]


def test_of_several_ways_to_one_storage_one_must_be_there_of_several_storages_each() -> None:
    both = '["/srv/in", "/mnt/other"]'
    assert errors({"a.toml": client("a", both), "hq.toml": HQ}) == []
    (said,) = errors({"a.toml": client("a", both, 'mode = "all"'), "hq.toml": HQ})
    assert "no inbox of these files is /mnt/other" in said


def test_a_cycle_over_several_files() -> None:
    files = {"a.toml": mover("a", '"/a"', '"/b"'), "b.toml": mover("b", '"/b"', '"/a"'), "hq.toml": HQ}
    assert errors(files) == ["/etc/cdr/a.toml:5: tier.a.forward.to: parcels would go in a circle: a -> b -> a"]
    (finding,) = found(files)
    assert finding.arrows == (("a", "b"), ("b", "a"))


def test_a_group_that_the_top_tier_in_another_file_does_not_have() -> None:
    files = {"a.toml": client("a", '"/lower"', group="legla"), "b.toml": mover("b", '"/lower"', '"/srv/in"'), "h": HQ}
    assert errors(files) == [
        "/etc/cdr/a.toml:2: tier.a.group: hq has no group 'legla' (there are: legal); add [tier.hq.group.legla]"
    ]


def test_a_method_that_no_plugin_provides() -> None:
    text = client("a", '"/srv/in"') + '[tier.a.reduce]\nmethods = ["delta", "zsdt"]\n'
    (said,) = errors({"a.toml": text})
    assert said.startswith("/etc/cdr/a.toml:8: tier.a.reduce.methods: no plugin provides the reduction method 'zsdt'")
    assert said.endswith('; did you mean "zstd"?')


def test_a_transport_that_is_not_installed_matters_where_the_tier_runs() -> None:
    files = {"a.toml": client("a", '"gopher://x"')}
    assert errors(files) == []
    assert errors(files, is_here=True)[0].startswith("/etc/cdr/a.toml:5: tier.a.forward.to: no plugin provides")


def test_clients_of_one_group_need_names_of_their_own() -> None:
    files = {"one.toml": client("a", '"/srv/in"'), "two.toml": client("a", '"/srv/in"'), "hq.toml": HQ}
    assert errors(files) == [
        ("/etc/cdr/two.toml:1: tier.a: a (one.toml) has the same name in group legal; each client of a group needs "
        "its own")
    ]
    files["two.toml"] = client("a", '"/srv/in"', group="sales")
    files["hq.toml"] = top("hq", '"/srv/in"', groups=("legal", "sales"))
    assert errors(files) == []


def test_an_address_belongs_to_one_tier_a_folder_to_one_tier_of_each_machine() -> None:
    files = {name: mover(name, '["sftp://nas/in", "/srv/x"]', '"/srv/in"') for name in ("a", "b")}
    assert [said.partition(": ")[2] for said in errors({**files, "hq": HQ})] == [
        "tier.b.receive.inbox: a has the same inbox; give each tier its own"
    ]


def test_all_faults_of_all_files_are_named() -> None:
    files = {
        "a.toml": client("a", '"/srv/in"').replace("paths", "path") + "[tier.a.spol]\n[tier.x]\n",
        "b.toml": "[tier.b\n",
        "hq.toml": HQ,
    }
    said = [text.partition(": ")[2] for text in errors(files)]
    assert said == [
        "tier.a.source.path: unknown key; did you mean 'paths'?",
        "tier.a.spol: unknown key; did you mean 'spool'?",
        "tier.x: does nothing; give it [source] (a client) or [receive] (an intermediate or top tier)",
        "not TOML: expected ']' at the end of a table declaration",
    ]


# --- tickets ---


def ticket_errors(folder: Path, group: str = "legal") -> list[tuple[Severity, str]]:
    text = client("a", '"/srv/in"', 'ticket = "t"', group=group)
    files = {"a.toml": text.replace("[tier.a]", "[tier.a]\nstate = 's'")}
    said = found(files, is_here=True, folder=folder)
    return [(one.severity, one.text) for one in said if "forward.ticket" in one.text]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no ticket", "no ticket: the text must run from '-----BEGIN CDR TICKET-----' to '-----END CDR TICKET-----'"),
        ("\x80", "not a text file"),
    ],
)
def test_a_ticket_that_is_none(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "t").write_text(text)
    where = f"{tmp_path}/a.toml:7: tier.a.forward.ticket: "
    assert ticket_errors(tmp_path) == [(Severity.ERROR, f"{where}ticket {tmp_path}/t: {said}")]


def test_a_ticket_of_another_group(tmp_path: Path) -> None:
    write(tmp_path / "t", "sales")
    ((severity, said),) = ticket_errors(tmp_path)
    assert severity is Severity.ERROR
    assert said.endswith(f"the ticket {tmp_path}/t is for group 'sales', the tier says 'legal'")
    assert ticket_errors(tmp_path, "sales") == []


def test_a_ticket_decides_the_group_where_the_tier_says_none(tmp_path: Path) -> None:
    write(tmp_path / "t", "sales")
    text = client("a", '"/srv/in"', 'ticket = "t"').replace('group = "legal"\n', "")
    (said,) = found({"a.toml": text, "hq.toml": HQ}, folder=tmp_path)
    where = f"{tmp_path}/a.toml:5: tier.a.forward.ticket: "
    assert said.text == f"{where}hq has no group 'sales' (there are: legal); add [tier.hq.group.sales]"


def test_an_expired_ticket_and_a_missing_one_matter_until_they_are_adopted(tmp_path: Path) -> None:
    assert "No such file or directory; 'cdr ticket' on the tier above prints one" in ticket_errors(tmp_path)[0][1]
    write(tmp_path / "t", days=-1)
    assert "has expired; 'cdr ticket' on the tier above prints another" in ticket_errors(tmp_path)[0][1]
    (tmp_path / "s").mkdir()
    (tmp_path / "s/state.db").touch()
    assert ticket_errors(tmp_path) == []
    (tmp_path / "t").unlink()
    assert ticket_errors(tmp_path) == []
