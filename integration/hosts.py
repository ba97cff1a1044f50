"""A hierarchy on separate hosts: each tier has a folder and a configuration file of its own, and they
share nothing but storage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .command import Repository, Shell


@dataclass(frozen=True)
class Hierarchy:
    """Below ``folder``: a folder per host, ``storage`` and the repositories of ``groups``."""

    folder: Path
    groups: Sequence[str] = ("legal",)
    branched: bool = False
    clients: list[Shell] = field(default_factory=list)

    @property
    def hq(self) -> Shell:
        return Shell(self.folder / "hq")

    @property
    def branch(self) -> Shell:
        return Shell(self.folder / "branch")

    def configure(self) -> Hierarchy:
        """The top tier's host before ``cdr init``."""
        tables = "".join(f"[tier.hq.group.{group}]\n" for group in self.groups)
        _configure(
            self.hq,
            f"""
            [tier.hq]
            state = "state"
            identity = "identity"
            [tier.hq.receive]
            inbox = "file:{self.folder}/storage/hq"
            [tier.hq.store]
            repository = "repository-{{group}}"
            password_file = "{{group}}.password"
            {tables}""",
        )
        for group in self.groups:
            (self.hq.folder / f"{group}.password").write_text(f"password of {group}\n")
        return self

    def init(self) -> Hierarchy:
        """The upper tiers as their operators set them up."""
        self.configure()
        self.hq.cdr("init")
        if self.branched:
            _configure(
                self.branch,
                f"""
                [tier.branch]
                state = "state"
                identity = "identity"
                [tier.branch.receive]
                inbox = "file:{self.folder}/storage/branch"
                [tier.branch.forward]
                to = "file:{self.folder}/storage/hq"
                """,
            )
            self.branch.cdr("init")
        return self

    def client(self, name: str, group: str = "legal", *, source: str = "", more: str = "") -> Shell:
        """A new host with ``name`` as its only tier, enrolled with a ticket. It backs up its folder
        ``files``; ``source`` is added to that table, ``more`` to the end of the file."""
        shell = self.prepare(name, source=source, more=more)
        shell.cdr("init")
        self.enroll(shell, group)
        return shell

    def prepare(self, name: str, *, source: str = "", more: str = "") -> Shell:
        """A new host with a configuration and nothing else."""
        shell = Shell(self.folder / name)
        _configure(
            shell,
            f"""
            [tier.{name}]
            state = "state"
            identity = "identity"
            [tier.{name}.forward]
            to = "file:{self.folder}/storage/{"branch" if self.branched else "hq"}"
            [tier.{name}.source]
            paths = ["files"]
            {source}
            {more}""",
        )
        (shell.folder / "files").mkdir()
        self.clients.append(shell)
        return shell

    def enroll(self, client: Shell, group: str = "legal") -> None:
        ticket = client.folder / "ticket"
        ticket.write_text(self.hq.cdr("ticket", "--group", group).out)
        client.cdr("enroll", ticket)

    def deliver(self, *clients: Shell) -> dict[str, Any]:
        """Everything from the spools of ``clients`` (else all) to the repository, and the receipts back.
        What the top tier said."""
        chosen = clients or self.clients
        for client in chosen:
            client.cdr("send")
        if self.branched:
            self.branch.cdr("receive")
            self.branch.cdr("send")
        received = self.hq.json("receive")
        if self.branched:
            self.branch.cdr("send")
        for client in chosen:
            client.cdr("send")
        return received

    def repository(self, group: str = "legal") -> Repository:
        return Repository(self.hq, self.hq.folder / f"repository-{group}", self.hq.folder / f"{group}.password")


def _configure(shell: Shell, text: str) -> None:
    shell.folder.mkdir()
    lines = (line.strip() for line in text.splitlines())
    (shell.folder / "cdr.toml").write_text("\n".join(lines) + "\n")


def files_in(folder: Path, **contents: str | bytes) -> None:
    """Write files of these names (``__`` stands for ``/``)."""
    for name, content in contents.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
