"""docs/hierarchies.md: its configurations fit, its drawings are theirs, and its commands carry versions through.

Each machine of an example has folders of its own; a mount is a folder of another machine. A ``transcript``
shows ``MACHINE$ command`` and lines that must occur in its output, in this order; ``(exit code N)`` where
it is not 0. ``# The disk goes to the MACHINE.`` moves the folder that is the disk.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cdr_plugin.cli.main import main
from cdr_plugin.config.load import load_leniently
from cdr_plugin.hierarchy.drawing import drawing_of
from cdr_plugin.hierarchy.findings import findings
from cdr_plugin.hierarchy.members import Hierarchy
from cdr_plugin.hierarchy.svg import as_svg
from cdr_plugin.hierarchy.text import as_text
from cdr_plugin.plugins import installed
from cdr_plugin.unbuilt import refuse_unbuilt
from cdr_restic.creating import create_repository
from cdr_restic.local import LocalStorage
from tests.restic.world import QUICK
from tests.support.compare import assert_same_tree
from tests.test_docs import DOCS, Block, blocks, check_output

PAGE = DOCS / "hierarchies.md"
EXAMPLES = DOCS / "examples"
NAMES = sorted(path.name for path in EXAMPLES.iterdir())
DISK = "media/cdr-disk"

_Places = Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Example:
    """``mounts``: ``MACHINE/path`` -> machine and path where it really is. ``sources``: what each client backs
    up, below its folder. ``judged``: machine, path and password of each repository, and the host to restore."""

    mounts: _Places
    sources: Mapping[str, list[str]]
    judged: tuple[tuple[str, str, str, str], ...]
    disk: str = ""
    """The machine that has the disk at first."""
    documents: tuple[str, ...] = field(default=("letter.txt", "Deep/er/notes", "empty"))


WORLD = {
    "laptop-and-nas": Example(
        {"laptop/mnt/nas/inbox": ("nas", "/volume1/cdr/inbox")},
        {"laptop": ["home/Documents", "home/Pictures"]},
        (("nas", "/volume1/cdr/repository", "/etc/cdr/password", "laptop"),),
    ),
    "three-branches": Example(
        {
            "alice/mnt/berlin/inbox": ("berlin", "/srv/cdr/inbox"),
            "bob/mnt/london/inbox": ("london", "/srv/cdr/inbox"),
            "carol/mnt/paris/inbox": ("paris", "/srv/cdr/inbox"),
            "berlin/mnt/hq/berlin": ("hq", "/srv/cdr/inbox/berlin"),
            "london/mnt/hq/london": ("hq", "/srv/cdr/inbox/london"),
            "paris/mnt/hq/paris": ("hq", "/srv/cdr/inbox/paris"),
        },
        {name: ["home/Documents", "home/Mail"] for name in ("alice", "bob", "carol")},
        tuple(("hq", "/srv/cdr/repository", "/etc/cdr/password", name) for name in ("alice", "bob", "carol")),
    ),
    "two-tenants": Example(
        {
            "acme-files/mnt/backup/acme": ("provider", "/srv/tenants/acme/inbox"),
            "globex-desk/mnt/backup/globex": ("provider", "/srv/tenants/globex/inbox"),
        },
        {"acme-files": ["srv/files"], "globex-desk": ["home/Documents"]},
        (
            ("provider", "/srv/tenants/acme/repository", "/etc/cdr/acme.password", "files"),
            ("provider", "/srv/tenants/globex/repository", "/etc/cdr/globex.password", "desk"),
        ),
    ),
    "usb-hop": Example(
        {"lab/mnt/gate/inbox": ("gate", "/srv/cdr/inbox")},
        {"lab": ["srv/measurements"]},
        (("vault", "/srv/cdr/repository", "/etc/cdr/password", "lab"),),
        disk="vault",
    ),
}


def files_of(name: str) -> list[Path]:
    return sorted((EXAMPLES / name).glob("*.toml"))


def blocks_with(word: str) -> list[Block]:
    return [block for block in blocks(PAGE) if word in block.words]


def test_the_page_has_every_example() -> None:
    assert sorted(WORLD) == NAMES
    links = re.findall(r"\]\(examples/([^)]*\.toml)\)", PAGE.read_text())
    assert sorted(links) == sorted(str(path.relative_to(EXAMPLES)) for name in NAMES for path in files_of(name))


@pytest.mark.parametrize("name", NAMES)
def test_an_example_fits_together_and_is_carried_out_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hierarchy = Hierarchy([load_leniently(path) for path in files_of(name)])
    assert list(findings(hierarchy, installed(), is_whole=True, is_here=True)) == []
    assert [link for link in hierarchy.links if link.above is None] == []
    for member in hierarchy.members:
        refuse_unbuilt(member.tier)


@pytest.mark.parametrize("name", NAMES)
def test_the_drawings_are_those_of_the_files(name: str) -> None:
    drawing = drawing_of(Hierarchy([load_leniently(path) for path in files_of(name)]), [])
    (block,) = blocks_with(f"graph={name}")
    assert block.text == as_text(drawing) + "\n"
    for kept in (EXAMPLES / name).glob("*.svg"):
        assert kept.read_text() == as_svg(drawing) + "\n"


class Machines:
    """All machines of an example; each command runs as if on one of them."""

    def __init__(
        self, base: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.base = base
        self.example = WORLD[name]
        self._capsys, self._monkeypatch = capsys, monkeypatch
        self._disk = self.example.disk
        (base / "desk").mkdir()
        monkeypatch.chdir(base / "desk")  # where people hand tickets over
        for variable in ("CDR_CONFIG", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "RESTIC_REPOSITORY"):
            monkeypatch.delenv(variable, raising=False)
        for path in files_of(name):
            self._set_up(path.stem, path.read_text())
        for place in self.example.mounts:  # mounted folders are there, whoever makes what is in them
            self.real(place.partition("/")[0], f"/{place.partition('/')[2]}").parent.mkdir(parents=True, exist_ok=True)
        if self._disk:
            (base / self._disk / DISK).mkdir(parents=True)

    def _set_up(self, machine: str, text: str) -> None:
        config = self.base / machine / "home/.config/cdr/cdr.toml"
        config.parent.mkdir(parents=True)
        config.write_text(self.placed(text, machine))
        (self.base / machine / "etc/cdr").mkdir(parents=True)
        for source in self.example.sources.get(machine, ()):
            for document in self.example.documents:
                path = self.base / machine / source / document
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("" if document == "empty" else f"{document}\n" * 99)

    def real(self, machine: str, path: str) -> Path:
        """Where ``path`` of a machine is in this test."""
        for place, (other, real) in self.example.mounts.items():
            if f"{machine}{path}/".startswith(f"{place}/"):
                return self.base / other / real[1:] / path[len(place) - len(machine) :].lstrip("/")
        return self.base / machine / path[1:]

    def placed(self, text: str, machine: str) -> str:
        pattern = r"(?<![\w.~/-])/(?:etc/cdr|srv|volume1|mnt|media)(?:/[\w.{}-]+)*"
        return re.sub(pattern, lambda found: str(self.real(machine, found[0])), text)

    def carry_disk(self, machine: str) -> None:
        here, there = (self.base / one / DISK for one in (self._disk, machine))
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(here, there)
        self._disk = machine

    def run(self, machine: str, command: str) -> tuple[int, str]:
        """The exit code, and what was said."""
        self._monkeypatch.setenv("HOME", str(self.base / machine / "home"))
        words = shlex.split(self.placed(command, machine))
        if words[0] != "cdr":
            shell = ["bash", "-o", "pipefail", "-c", self.placed(command, machine)]
            done = subprocess.run(shell, capture_output=True, text=True, check=False)
            return done.returncode, done.stdout + done.stderr
        target = Path(words.pop()) if words[-2:-1] == [">"] else None
        code = main(words[1:-1] if target else words[1:])
        told = self._capsys.readouterr()
        if target:
            target.write_text(told.out)
        return code, told.err + ("" if target else told.out)


def steps(text: str) -> Iterator[tuple[str, str, str]]:
    """Machine, command and what is shown of its output; of a disk that is carried, its new machine."""
    for step in re.split(r"^(?=[\w-]+\$ |# )", text, flags=re.MULTILINE)[1:]:
        line, _, shown = step.partition("\n")
        carried = re.fullmatch(r"# The disk goes to the (\w+)\.", line)
        machine, _, command = line.partition("$ ")
        yield (carried[1], "", "") if carried else (machine, command, shown)


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_of_an_example_do_what_the_page_says(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdr_restic.plugin.ResticFormat.create", _quick_create)
    machines = Machines(tmp_path, name, capsys, monkeypatch)
    for block in blocks_with(f"example={name}"):
        for machine, command, shown in steps(block.text):
            if not command:
                machines.carry_disk(machine)
                continue
            where = f"{block.where}: {machine}$ {command}"
            wanted = re.search(r"^\(exit code (\d+)\)$", shown, re.MULTILINE)
            code, said = machines.run(machine, command)
            assert code == (int(wanted[1]) if wanted else 0), f"{where}\n{said}"
            lines = [line for line in shown.splitlines() if not line.startswith("(exit code ")]
            check_output(machines.placed("\n".join(lines), machine), said, where)
    for judged in machines.example.judged:
        assert_restored(machines, *judged, tmp_path / "restored")


def assert_restored(
    machines: Machines, machine: str, repository: str, password: str, host: str, target: Path
) -> None:
    """Stock restic brings back what the client of this name had."""
    client = next(one for one in machines.example.sources if one == host or one.endswith(f"-{host}"))
    place = ["-r", str(machines.real(machine, repository)), "-p", str(machines.real(machine, password))]
    command = ["restic", "--no-cache", "-q", *place, "restore", "latest", "--host", host, "--target", str(target)]
    subprocess.run(command, check=True, env={**os.environ, "TZ": "UTC"})
    for source in machines.example.sources[client]:
        original = machines.base / client / source
        assert_same_tree(original, target / str(original)[1:])
    shutil.rmtree(target)


def _quick_create(_: object, location: str, options: Any, chunker: Any) -> object:
    return create_repository(LocalStorage(location), options, chunker, QUICK)


def test_a_lost_disk_costs_no_version(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdr_restic.plugin.ResticFormat.create", _quick_create)
    machines = Machines(tmp_path, "usb-hop", capsys, monkeypatch)

    def run(*lines: str) -> str:
        said = ""
        for line in lines:
            machine, _, command = line.partition("$ ")
            code, said = machines.run(machine, command)
            assert code == 0, f"{line}\n{said}"
        return said

    run("vault$ echo secret > /etc/cdr/password", "vault$ cdr init", "vault$ cdr ticket > t")
    run("gate$ cdr init", "lab$ cdr init", "lab$ cdr enroll t", "lab$ cdr backup", "lab$ cdr send", "gate$ cdr receive")
    machines.carry_disk("gate")
    run("gate$ cdr send")
    machines.carry_disk("vault")
    shutil.rmtree(tmp_path / "vault" / DISK)  # lost: another one takes its place
    (tmp_path / "vault" / DISK).mkdir()
    run("vault$ cdr init")  # makes its inbox there
    run("lab$ cdr backup")
    # The vault asks for what was lost, and gets it: of trees that changed, as those above the source do while
    # other tests run, level by level.
    for _ in range(len(tmp_path.parts) + 8):
        if re.search(r"lab +lab +2 +committed", run("lab$ cdr status")):
            break
        run("lab$ cdr send", "gate$ cdr receive")
        machines.carry_disk("gate")
        run("gate$ cdr send")
        machines.carry_disk("vault")
        run("vault$ cdr receive")
        machines.carry_disk("gate")
        run("gate$ cdr send", "lab$ cdr send")
        machines.carry_disk("vault")
    assert re.search(r"lab +lab +2 +committed", run("lab$ cdr status"))
    assert len(run("vault$ cdr snapshots -q --json").split('"time"')) == 3
    assert_restored(machines, *machines.example.judged[0], tmp_path / "restored")
