"""An export holds what of a tier cannot be made again, and brings it back whole or not at all."""

from __future__ import annotations

import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from cdr_plugin import passwords
from cdr_plugin.client.state import ClientState
from cdr_plugin.errors import CdrError, FormatError, NotEnrolledError, UnknownVersionError, UserError
from cdr_plugin.identity import export_file
from cdr_plugin.identity.export_file import Export, StateFacts, open_export, seal_export
from cdr_plugin.identity.exported import last_export
from cdr_plugin.identity.exporting import collect, write_export
from cdr_plugin.identity.keys import KemSuite
from cdr_plugin.identity.recovering import recover
from cdr_plugin.identity.register import Register
from cdr_plugin.identity.store import Identity
from tests.support.crashing import kill_at
from tests.support.memory import folder_in_memory

PASSPHRASE = "correct horse"
DEVICE = "_agentless/legal/printer"
STATES = {".": "UTC", "legal/up": "Europe/Berlin", DEVICE: "Asia/Tokyo"}


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """In memory; passphrases cost next to nothing."""
    monkeypatch.setattr(export_file, "_MEMORY_KIB", 64)
    monkeypatch.setattr(export_file, "_PASSES", 1)
    with folder_in_memory() as made:
        yield made


def a_tier(folder: Path) -> Path:
    """A tier that receives and sends, in two groups, with keys of before and a ticket that it issued."""
    identity = Identity.create(folder / "identity", KemSuite.X25519)
    for group in ("legal", "sales"):
        identity.sealing_key(group, create=True)
    identity.rotate_sealing_key("legal")
    identity.rotate_signing_key()
    (folder / "identity" / "retained-legal.pass").touch(mode=0o600)
    (folder / "identity" / "retained-legal.pass").write_text("random\n")
    register = Register(folder / "identity" / "register.db")
    register.add_ticket(b"s" * 32, group="legal", uses=3, issued_s=1, expires_s=9)
    register.close()
    Identity.create(folder / "identity" / DEVICE).sealing_key("legal", create=True)
    for name, zone in STATES.items():
        state = ClientState(folder / "state" / name)
        state.put({"timezone": zone, "ticket": "TICKET", "receipt_serial": "77"})
        state.open_parcel(b"p" * 16, b"secret")
        state.close()
    return folder


def exported(folder: Path) -> Export:
    return collect("branch", "intermediate", folder / "identity", folder / "state")


def recovered(export: Export, folder: Path) -> None:
    recover(export, folder / "identity", folder / "state")


def assert_is_back(export: Export, folder: Path) -> None:
    """All that the export holds is there, usable, and the tier's own alone."""
    identity = Identity.load(folder / "identity")
    assert identity.files() == {n: d for n, d in export.files.items() if n != "register.db" and "/" not in n}
    assert Identity.load(folder / "identity" / DEVICE).groups() == ["legal"]
    assert [len(identity.sealing_keys(group)) for group in identity.groups()] == [2, 1]
    assert len(identity.predecessors) == 1
    with closing(sqlite3.connect(folder / "identity" / "register.db")) as db:
        assert db.execute("SELECT grp, uses_left FROM tickets").fetchall() == [("legal", 3)]
    assert export.states.keys() == STATES.keys()
    for name, zone in STATES.items():
        state = ClientState(folder / "state" / name)
        assert (state.get("timezone"), state.get("ticket")) == (zone.encode(), b"TICKET")
        assert state.get("receipt_serial") is None
        assert state.newest_parcel() == 0
        state.close()
    for path in (folder / "identity").rglob("*"):
        assert path.is_dir() or stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE((folder / "identity").stat().st_mode) == 0o700
    assert not list(folder.rglob(".*"))


def test_what_was_exported_comes_back(folder: Path) -> None:
    export = open_export(seal_export(exported(a_tier(folder / "old")), PASSPHRASE), PASSPHRASE)
    assert (export.tier, export.role) == ("branch", "intermediate")
    recovered(export, folder / "new")
    assert_is_back(export, folder / "new")
    assert exported(folder / "new").states == export.states


def test_a_register_that_is_written_to_meanwhile_is_copied_as_of_one_moment(folder: Path) -> None:
    """Its newest entries are in its log alone."""
    tier = a_tier(folder / "old")
    register = Register(tier / "identity" / "register.db")
    with register._changing() as db:
        db.execute("UPDATE tickets SET uses_left = 2")
        export = exported(tier)
    recovered(export, folder / "new")
    register.add_ticket(b"t" * 32, group="sales", uses=1, issued_s=1, expires_s=9)
    recovered(exported(tier), folder / "newer")
    register.close()
    for name, count in (("new", [3]), ("newer", [2, 1])):
        with closing(sqlite3.connect(folder / name / "identity" / "register.db")) as db:
            assert [row[0] for row in db.execute("SELECT uses_left FROM tickets ORDER BY issued_s, rowid")] == count


def test_keys_of_clients_that_a_tier_runs_for_devices_come_back_where_the_tier_has_none_itself(folder: Path) -> None:
    tier = a_tier(folder / "old")
    for path in (tier / "identity").iterdir():
        if path.is_file():
            path.unlink()
    export = exported(tier)
    assert {name.rpartition("/")[0] for name in export.files} == {DEVICE}
    recovered(export, folder / "new")
    assert exported(folder / "new").files == export.files
    with pytest.raises(UserError, match="there is an identity already"):
        recovered(export, folder / "new")


def test_a_tier_without_an_identity_has_nothing_to_export(folder: Path) -> None:
    with pytest.raises(NotEnrolledError, match="run 'cdr init'"):
        exported(folder)


# --- the file ---


def test_no_other_passphrase_and_no_other_bytes_open_it(folder: Path) -> None:
    small = Export("t", "client", 1, "cdr", {"identity.key": b"k"}, {})
    sealed = seal_export(small, PASSPHRASE)
    assert open_export(sealed, PASSPHRASE) == small
    with pytest.raises(UserError, match="the passphrase is wrong, or the file is damaged"):
        open_export(sealed, PASSPHRASE + " ")
    for at in range(len(sealed)):
        with pytest.raises(CdrError):
            open_export(sealed[:at] + bytes((sealed[at] ^ 1,)) + sealed[at + 1 :], PASSPHRASE)
        with pytest.raises(CdrError):
            open_export(sealed[:at], PASSPHRASE)
    assert b"identity.key" not in sealed


def test_a_file_of_a_newer_program_or_of_something_else_is_named_so(folder: Path) -> None:
    with pytest.raises(UnknownVersionError, match=r"made by a newer cdr \(cdr-identity-export 2\); upgrade"):
        open_export(b"cdr-identity-export 2\nwhatever", PASSPHRASE)
    with pytest.raises(FormatError, match="this file is none"):
        open_export(b"-----BEGIN CDR TICKET-----", PASSPHRASE)


@pytest.mark.parametrize("cost", [(1, 4, 1 << 31), (1 << 31, 4, 64), (1, 200, 1 << 20), (0, 1, 64), (1, 4, 8)])
def test_a_file_cannot_ask_for_more_work_than_anything_is_worth(folder: Path, cost: tuple[int, int, int]) -> None:
    sealed = bytearray(seal_export(Export("t", "client", 1, "cdr", {}, {}), PASSPHRASE))
    sealed[22:34] = b"".join(number.to_bytes(4, "big") for number in cost)
    with pytest.raises(FormatError, match="damaged, or hostile"):
        open_export(bytes(sealed), PASSPHRASE)


def test_it_is_written_in_one_step_for_its_owner_alone_and_noted(folder: Path) -> None:
    tier, path = a_tier(folder / "tier"), folder / "kept"
    assert last_export(tier / "state", tier / "identity") is None
    first, second = exported(tier), replace(exported(tier), made_s=2)

    def write() -> None:
        write_export(second, path, PASSPHRASE, tier / "state", tier / "identity")

    write_export(first, path, PASSPHRASE, tier / "state", tier / "identity")
    for at in range(1, 100):
        ended = kill_at(at, write)
        assert open_export(path.read_bytes(), PASSPHRASE) in (first, second)
        if not ended.killed:
            break
    assert open_export(path.read_bytes(), PASSPHRASE) == second
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    noted = last_export(tier / "state", tier / "identity")
    assert noted is not None and noted.made_s == 2 and noted.is_current
    Identity.load(tier / "identity").rotate_sealing_key("sales")
    noted = last_export(tier / "state", tier / "identity")
    assert noted is not None and not noted.is_current


def test_a_file_that_is_something_else_is_not_written_over(folder: Path) -> None:
    tier, path = a_tier(folder / "tier"), folder / "letter"
    path.write_text("Dear all,\n")
    with pytest.raises(UserError, match="which is no export"):
        write_export(exported(tier), path, PASSPHRASE, tier / "state", tier / "identity")
    assert path.read_text() == "Dear all,\n"


# --- putting it back ---

UNUSABLE = {
    "a name that leaves the folder": lambda e: replace(e, files={**e.files, "../sealing-g.keys": b""}),
    "a file of a newer program": lambda e: replace(e, files={**e.files, "sealing-post-quantum": b""}),
    "no identity": lambda e: replace(e, files={n: d for n, d in e.files.items() if n != "identity.key"}),
    "an identity of a newer program": lambda e: replace(e, files={**e.files, "identity.key": b"cdr-identity 3 x\nk\n"}),
    "a group without a key": lambda e: replace(e, files={**e.files, "sealing-legal.keys": b"\n"}),
    "a damaged key": lambda e: replace(e, files={**e.files, "sealing-legal.keys": b"cdr-seal-private-x25519 AA\n"}),
    "a damaged register": lambda e: replace(
        e, files={**e.files, "register.db": e.files["register.db"][:4096] + b"?" * 4096 + e.files["register.db"][8192:]}
    ),
    "no register at all": lambda e: replace(e, files={**e.files, "register.db": b"not a database"}),
    "a state that leaves the folder": lambda e: replace(e, states={"../up": e.states["."]}),
    "a state that does more than be": lambda e: replace(
        e, states={".": StateFacts(version=1, schema=["ATTACH 'x' AS y"], facts={})}
    ),
    "a state without room for facts": lambda e: replace(
        e, states={".": StateFacts(version=1, schema=[], facts={"a": b""})}
    ),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_everything_is_checked_before_anything_is_written(folder: Path, what: str) -> None:
    export = UNUSABLE[what](exported(a_tier(folder / "old")))
    with pytest.raises(FormatError):
        recovered(export, folder / "new")
    assert not (folder / "new").exists()


def test_a_broken_line_of_signing_keys_is_not_taken_back(folder: Path) -> None:
    tier = a_tier(folder / "old")
    Identity.load(tier / "identity").rotate_signing_key()
    export = exported(tier)
    lines = export.files["identity.key"].decode().splitlines()
    swapped = "\n".join([*lines[:2], lines[3], lines[2]]) + "\n"
    with pytest.raises(CdrError, match="does not verify"):
        recovered(replace(export, files={**export.files, "identity.key": swapped.encode()}), folder / "new")
    assert not (folder / "new").exists()


@pytest.mark.parametrize(
    "there", ["identity/identity.key", "identity/sealing-legal.keys", "identity/register.db-wal", "state/state.db-wal"]
)
def test_nothing_that_is_there_is_written_over(folder: Path, there: str) -> None:
    export = exported(a_tier(folder / "old"))
    path = folder / "new" / there
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(UserError, match="move it away yourself if it may go"):
        recovered(export, folder / "new")
    assert [one for one in (folder / "new").rglob("*") if one.is_file()] == [path]
    assert path.read_text() == "mine"


def test_a_state_that_is_whole_stays_and_a_fresh_one_is_reminded(folder: Path) -> None:
    """The identity alone was lost; or 'cdr init' came before the recovery."""
    export = exported(a_tier(folder / "old"))
    for name, ticket in ((".", "NEWER"), ("legal/up", "")):
        state = ClientState(folder / "new" / "state" / name)
        state.put({"timezone": "Etc/GMT", "receipt_serial": "78"} | ({"ticket": ticket} if ticket else {}))
        state.close()
    recovered(export, folder / "new")
    found = {}
    for name in (".", "legal/up"):
        state = ClientState(folder / "new" / "state" / name)
        found[name] = tuple(state.get(key) for key in ("timezone", "ticket", "receipt_serial"))
        state.close()
    assert found == {".": (b"Etc/GMT", b"NEWER", b"78"), "legal/up": (b"Europe/Berlin", b"TICKET", b"78")}


def test_killed_at_any_moment_it_leaves_no_half_identity_and_can_be_repeated(folder: Path) -> None:
    export = exported(a_tier(folder / "old"))
    for at in range(1, 1000):
        ended = kill_at(at, lambda: recovered(export, folder / "new"))
        if (folder / "new" / "identity" / ".recovering").exists():
            with pytest.raises(UserError, match=r"a recovery was cut off here|there is one already"):
                Identity.create(folder / "new" / "identity")
        if (folder / "new" / "identity" / "identity.key").exists():
            assert exported(folder / "new").files.keys() == export.files.keys()
            is_whole = not (folder / "new" / "identity" / ".recovering").exists()
        else:
            is_whole = False
        if not is_whole:
            recovered(export, folder / "new")
        assert_is_back(export, folder / "new")
        shutil.rmtree(folder / "new")
        if not ended.killed:
            break
    assert at > 20


# --- passphrases ---


def test_where_passphrases_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "passphrase"
    file.write_text("of the file\n")
    given = {"CDR_PASSPHRASE": "of the environment"}
    assert passwords.read_passphrase(file, None, environment=given) == "of the file"
    assert passwords.read_passphrase(None, "echo of the command", environment=given) == "of the command"
    assert passwords.read_passphrase(None, None, environment=given) == "of the environment"
    with pytest.raises(UserError, match="choose one"):
        passwords.read_passphrase(file, "true")
    with pytest.raises(UserError, match="passphrase command failed with exit code 1"):
        passwords.read_passphrase(None, "false")
    with pytest.raises(UserError, match="there is no terminal to ask for it"):
        passwords.read_passphrase(None, None, environment={})
    file.write_text("\n")
    with pytest.raises(UserError, match="it is empty"):
        passwords.read_passphrase(file, None)


def test_a_new_passphrase_is_typed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_on_terminal", lambda: True)
    typed = iter(["one", "two", "three", "three", "four"])
    monkeypatch.setattr(passwords.getpass, "getpass", lambda _: next(typed))
    with pytest.raises(UserError, match="differ; nothing was written"):
        passwords.read_passphrase(None, None, new=True, environment={})
    assert passwords.read_passphrase(None, None, new=True, environment={}) == "three"
    assert passwords.read_passphrase(None, None, environment={}) == "four"
