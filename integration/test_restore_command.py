"""``cdr restore`` from repositories of CDR and of restic itself."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from .command import Shell
from .hosts import files_in


@pytest.fixture
def theirs(shell: Shell) -> Shell:
    """A home where restic alone has made three snapshots, of two hosts, and no configuration is."""
    (shell.folder / "pass").write_text("secret\n")
    _restic(shell, "init")
    for number, host in enumerate(("alice", "bob", "alice")):
        files_in(shell.folder / host, letter=f"of {host}, {number}", sub__note=str(number))
        _restic(shell, "backup", host, "--host", host)
    return shell


def _restic(shell: Shell, *arguments: str) -> str:
    return shell.restic("-r", "theirs", "-p", "pass", *arguments).out


def _snapshots(shell: Shell) -> list[str]:
    return [one["id"] for one in json.loads(_restic(shell, "snapshots", "--json"))]


NAMED = ("-r", "theirs", "-p", "pass")


def test_a_repository_of_restics_needs_no_configuration(theirs: Shell) -> None:
    listed = json.loads(theirs.cdr("snapshots", *NAMED, "--json").out)
    assert [one["id"] for one in listed] == _snapshots(theirs)
    theirs.cdr("restore", "latest", *NAMED, "--target", "out")
    assert (theirs.folder / "out/alice/letter").read_text() == "of alice, 2"
    assert theirs.json("restore", "latest", "--repo", "theirs", "-p", "pass", "-t", "out2")["errors"] == 0


@pytest.mark.parametrize(
    "variables",
    [
        {"RESTIC_REPOSITORY": "theirs", "RESTIC_PASSWORD": "secret"},
        {"RESTIC_REPOSITORY": "theirs", "RESTIC_PASSWORD_FILE": "pass"},
        {"RESTIC_REPOSITORY_FILE": "where", "RESTIC_PASSWORD_COMMAND": "cat pass"},
    ],
    ids=" ".join,
)
def test_restics_variables_name_repository_and_password(theirs: Shell, variables: dict[str, str]) -> None:
    (theirs.folder / "where").write_text("theirs\n")
    Shell(theirs.folder, variables).cdr("restore", "latest", "--target", "out")
    assert (theirs.folder / "out/alice/letter").read_text() == "of alice, 2"


def test_which_version(theirs: Shell) -> None:
    first, second, _ = _snapshots(theirs)
    for number, (arguments, expected) in enumerate(
        (
            (("latest", "--client", "bob"), "of bob, 1"),
            (("latest", "--host", "alice"), "of alice, 2"),
            (("latest", "--path", str(theirs.folder / "bob")), "of bob, 1"),
            ((first,), "of alice, 0"),
            ((second[:8],), "of bob, 1"),
        )
    ):
        theirs.cdr("restore", *arguments, *NAMED, "--target", f"out{number}")
        (letter,) = (theirs.folder / f"out{number}").glob("*/letter")
        assert letter.read_text() == expected


def test_only_what_is_included_and_not_excluded(theirs: Shell) -> None:
    theirs.cdr("restore", "latest", *NAMED, "--target", "in", "--include", "/alice/sub")
    assert _files(theirs.folder / "in") == {"alice/sub/note"}
    theirs.cdr("restore", "latest", *NAMED, "--target", "ex", "--exclude", "note")
    assert _files(theirs.folder / "ex") == {"alice/letter"}


def test_what_exists_is_kept_unless_told_otherwise(theirs: Shell) -> None:
    target = theirs.folder / "out"
    theirs.cdr("restore", "latest", *NAMED, "--target", "out")
    letter, note = target / "alice/letter", target / "alice/sub/note"
    letter.write_text("edited")
    note.unlink()
    os.utime(letter, (4e9, 4e9))
    kept = theirs.cdr("restore", "latest", *NAMED, "--target", "out")
    assert "1 kept as they were" in kept.out
    assert (letter.read_text(), note.read_text()) == ("edited", "2")
    newer = theirs.json("restore", "latest", *NAMED, "--target", "out", "--overwrite", "if-newer")
    assert newer["files_skipped"] > 0
    assert letter.read_text() == "edited"
    theirs.cdr("restore", "latest", *NAMED, "--target", "out", "--overwrite", "if-changed", "--verify")
    assert letter.read_text() == "of alice, 2"
    letter.write_text("edited")
    theirs.cdr("restore", "latest", *NAMED, "--target", "out", "--overwrite", "always", "--verify")
    assert letter.read_text() == "of alice, 2"
    for version in ("--overwrite=never", "--overwrite=if-newer"):
        assert theirs.json("restore", "latest", *NAMED, "--target", "out", version)["errors"] == 0


def test_damage_in_the_repository_is_named_and_the_rest_restored(theirs: Shell) -> None:
    """One pack with files of two hosts; the byte that is changed belongs to a file of one."""
    (theirs.folder / "big").mkdir()
    (theirs.folder / "big/data").write_bytes(os.urandom(3_000_000))
    (theirs.folder / "big/small").write_text("s")
    before = set((theirs.folder / "theirs/data").glob("*/*"))
    _restic(theirs, "backup", "big", "--host", "carol")
    packs = sorted(set((theirs.folder / "theirs/data").glob("*/*")) - before, key=lambda path: path.stat().st_size)
    pack = packs[-1]
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)
    done = theirs.cdr("restore", "latest", "--client", "carol", *NAMED, "--target", "out", code=1)
    (said,) = done.err.splitlines()
    assert "big/data" in said
    assert "1 items could not be restored" in done.out
    assert (theirs.folder / "out/big/small").read_text() == "s"
    assert not (theirs.folder / "out/big/data").exists()


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_deleting_is_foreseen_by_a_dry_run_and_told_item_by_item(theirs: Shell) -> None:
    target = theirs.folder / "out"
    theirs.cdr("restore", "latest", *NAMED, "--target", "out")
    (target / "alice/extra").write_text("x")
    (target / "alice/letter").write_text("edited")
    foreseen = theirs.cdr("restore", "latest", *NAMED, "--target", "out", "--delete", "--dry-run", "-v").out
    assert "deleted   /alice/extra" in foreseen and "updated   /alice/letter with size" in foreseen
    assert "1 to be deleted" in foreseen and (target / "alice/extra").exists()
    done = theirs.cdr("restore", "latest", *NAMED, "--target", "out", "--delete", "-vv", "--json").out
    said = [json.loads(line) for line in done.splitlines()]
    told = {one["item"]: one["action"] for one in said if one["message_type"] == "verbose_status"}
    assert told["/alice/extra"] == "deleted" and told["/alice/letter"] == "updated"
    assert told["/alice/sub/note"] == "unchanged"
    assert said[-1]["files_deleted"] == 1 and isinstance(said[-1]["seconds_elapsed"], int)
    assert _files(target) == {"alice/letter", "alice/sub/note"}
    refused = theirs.cdr("restore", "latest", *NAMED, "--target", "/", "--delete", code=1)
    assert "needs includes or excludes" in refused.err


def test_patterns_from_files_and_a_folder_of_a_version(theirs: Shell) -> None:
    (theirs.folder / "patterns").write_text("# only notes\n\n${WHAT}*\n")
    shell = Shell(theirs.folder, {"WHAT": "NO"})
    shell.cdr("restore", "latest:alice", *NAMED, "--target", "in", "--iinclude-file", "patterns")
    assert _files(theirs.folder / "in") == {"sub/note"}
    shell.cdr("restore", "latest", *NAMED, "--target", "ex", "--iexclude-file", "patterns", "--no-sparse")
    assert _files(theirs.folder / "ex") == {"alice/letter"}
    gone = shell.cdr("restore", "latest", *NAMED, "--target", "x", "--include-file", "missing", code=1)
    assert "missing" in gone.err and not (theirs.folder / "x").exists()
