"""A whole hierarchy in one folder: client, branch, top tier, without the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from zoneinfo import ZoneInfo

from cdr_plugin.archiver import ArchiveOptions
from cdr_plugin.client.backup import BackupOptions, BackupResult, backup
from cdr_plugin.client.send import SendResult, send
from cdr_plugin.client.tier import ClientTier
from cdr_plugin.contracts import RepositoryOptions
from cdr_plugin.intermediate.tier import IntermediateTier
from cdr_plugin.plugins import installed
from cdr_plugin.reporter import Reporter
from cdr_plugin.top.receive import receive
from cdr_plugin.top.result import ReceiveResult
from cdr_plugin.top.tier import TopTier

PASSWORD = "chain-password"
ZONE = "Europe/Berlin"


class Recorder(Reporter):
    """Remembers what was reported."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.notes: list[str] = []

    def error(self, item: str, during: str, error: Exception | str) -> None:
        self.errors.append(f"{item}: {error}")

    def note(self, text: str) -> None:
        self.notes.append(text)


@dataclass
class Chain:
    """``base`` holds everything; clients send to ``inbox`` unless a branch stands between."""

    base: Path
    group: str = "g"
    branched: bool = False
    methods: tuple[str, ...] = ("zstd",)
    spool_limit: int | None = None
    keeps_copy: bool = False
    top: TopTier = field(init=False)
    branch: IntermediateTier = field(init=False)

    def __post_init__(self) -> None:
        self.top = self.new_top()
        self.branch = IntermediateTier(
            "branch", self.base / "branch-state", [str(self.lower)], str(self.inbox), installed()
        )

    @property
    def inbox(self) -> Path:
        """The top tier's inbox."""
        return self.base / "inbox"

    @property
    def lower(self) -> Path:
        """The inbox that clients send to."""
        return self.base / "branch-inbox" if self.branched else self.inbox

    @property
    def repository(self) -> Path:
        return self.base / "repo"

    def new_top(self) -> TopTier:
        """A fresh object over the same folders, as another process would have."""
        return TopTier(
            name="hq",
            group=self.group,
            state_folder=self.base / "top-state",
            identity_folder=self.base / "top-identity",
            inboxes=[str(self.inbox)],
            format="restic",
            repository=str(self.repository),
            options=RepositoryOptions(password=lambda: PASSWORD, state=self.base / "top-state" / "repository"),
            plugins=installed(),
        )

    def init(self) -> Chain:
        self.top.init()
        if self.branched:
            self.branch.init()
        return self

    def client(self, name: str = "alice") -> ClientTier:
        """A fresh object over one client's folders."""
        return ClientTier(
            name=name,
            state_folder=self.base / f"{name}-state",
            identity_folder=self.base / f"{name}-identity",
            spool=self.base / f"{name}-state" / "spool",
            to=str(self.lower),
            methods=self.methods,
            plugins=installed(),
            spool_limit=self.spool_limit,
            keeps_copy=self.keeps_copy,
        )

    def new_client(self, name: str = "alice") -> ClientTier:
        """Initialised and enrolled with a ticket of its own."""
        client = self.client(name)
        client.init(ZONE)
        client.enroll(self.top.issue_ticket(), {"host": name})
        return client

    def backup(self, client: ClientTier, *sources: Path, reporter: Reporter | None = None) -> BackupResult:
        options = BackupOptions(archive=ArchiveOptions(paths=list(sources), zone=ZoneInfo(ZONE)))
        return backup(client, options, reporter or Reporter())

    def send(self, client: ClientTier, reporter: Reporter | None = None) -> SendResult:
        return send(client, reporter or Reporter())

    def receive(self, reporter: Reporter | None = None) -> ReceiveResult:
        return receive(self.top, reporter or Reporter())

    def deliver(self, client: ClientTier, reporter: Reporter | None = None) -> ReceiveResult:
        """Everything from the spool to the repository, and the receipts back."""
        reporter = reporter or Reporter()
        self.send(client, reporter)
        if self.branched:
            self.branch.receive(reporter)
            self.branch.send(reporter)
        result = self.receive(reporter)
        if self.branched:
            self.branch.send(reporter)
        self.send(client, reporter)
        return result
