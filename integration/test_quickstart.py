"""``cdr quickstart``, and what it says to type next."""

from __future__ import annotations

import shlex
from pathlib import Path

from tests.support.compare import assert_same_tree

from .command import CDR, Repository, Shell
from .hosts import files_in


def test_what_it_prints_can_be_typed(shell: Shell, tmp_path: Path) -> None:
    """Every command in its advice, as it stands, by a shell that finds ``cdr`` in PATH."""
    files_in(shell.folder / "it's a folder", letter="l", sub__other="o")
    source = shell.folder / "it's a folder"
    shell = Shell(shell.folder, {"PATH": f"{CDR.parent}:{shell.environment()['PATH']}"})
    said = shell.run("cdr", "quickstart", source, "--at", "a demo").out
    advice = [line.strip() for line in said.splitlines() if line.startswith(("  cdr ", "  restic ", f"  {CDR} "))]
    by_cdr, by_restic, check, again = advice
    for number, command in enumerate((by_cdr, by_restic)):
        target = f"restored-{number}"
        shell.run("sh", "-c", command.replace("/tmp/restored", target))
        assert_same_tree(source, shell.folder / target / source.relative_to("/"))
    assert "no errors were found" in shell.run("sh", "-c", check).out
    files_in(source, letter="changed")
    shell.run("sh", "-c", again)
    listed = shell.run(
        "sh",
        "-c",
        by_restic.replace("restore latest --target /tmp/restored", "dump latest")
        + " "
        + shlex.quote(str(source / "letter")),
    )
    assert listed.out == "changed"


def test_it_says_that_it_is_a_demonstration_and_names_the_folder(shell: Shell) -> None:
    files_in(shell.folder / "files", letter="l")
    done = shell.cdr("quickstart", "files")
    assert f"This is a demonstration: three tiers in one folder, {shell.folder}/cdr-demo" in done.out
    assert {path.name for path in (shell.folder / "cdr-demo").iterdir()} == {"branch", "cdr.toml", "hq", "laptop"}
    assert (shell.folder / "cdr-demo").stat().st_mode & 0o077 == 0


def test_its_summary_has_what_a_program_needs(shell: Shell) -> None:
    files_in(shell.folder / "files", letter="l")
    done = shell.cdr("quickstart", "files", "--at", "demo", "--json")
    found = done.summary
    assert found.keys() >= {"config", "repository", "password_file", "version", "snapshot_id", "tree"}
    assert found["version"] == 1
    repository = Repository(shell, Path(found["repository"]), Path(found["password_file"]))
    (snapshot,) = repository.snapshots()
    assert (snapshot["id"], snapshot["tree"]) == (found["snapshot_id"], found["tree"])
    assert Path(found["config"]) == shell.folder / "demo" / "cdr.toml"
    repository.check()


def test_nothing_waits_when_it_is_done(shell: Shell) -> None:
    files_in(shell.folder / "files", letter="l")
    made = shell.json("quickstart", "files", "--at", "demo")
    tiers = shell.json("status", "-c", made["config"])["tiers"]
    assert [tier["name"] for tier in tiers] == ["laptop", "branch", "hq"]
    for tier in tiers:
        assert tier["queue"] == {"segments": 0, "bytes": 0}
        assert tier["waiting_for"] == ""
    assert not list((shell.folder / "demo/laptop/state/spool").iterdir())


def test_odd_sources(shell: Shell) -> None:
    """A file, a link, a folder above the demonstration itself, quotes and patterns in names."""
    files_in(shell.folder, **{'a "b" [c]*\\__letter': "l", "file": "f"})
    (shell.folder / "link").symlink_to("file")
    made = shell.json("quickstart", ".", "file", "link", 'a "b" [c]*\\', "--at", 'demo "[x]"')
    repository = Repository(shell, Path(made["repository"]), Path(made["password_file"]))
    repository.check()
    listed = repository.restic("ls", "latest").out.splitlines()
    assert f'{shell.folder}/a "b" [c]*\\/letter' in listed
    assert not [line for line in listed if "demo" in line]
