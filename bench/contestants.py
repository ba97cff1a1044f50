"""Who is measured: each contestant goes through its operations on one source folder, in order.

An operation is ``init``, ``first`` (first version, of which CDR's is the client alone), ``chain`` (CDR
only: first version through all tiers, one command after the other), ``unchanged`` (a second version, nothing
changed) or ``restore``. Each works in a new folder and leaves its restored files in ``restored``.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.measure import Cost, Runner, size_of

PASSWORD = "only-for-the-benchmark"

CONFIG = """\
[tier.client]
group = "bench"
state = "client/state"
identity = "client/identity"
[tier.client.source]
paths = ["{source}"]
[tier.client.forward]
to = "file:{work}/branch-inbox"

[tier.branch]
state = "branch/state"
identity = "branch/identity"
[tier.branch.receive]
inbox = "file:{work}/branch-inbox"
[tier.branch.forward]
to = "file:{work}/hq-inbox"

[tier.hq]
state = "hq/state"
identity = "hq/identity"
[tier.hq.receive]
inbox = "file:{work}/hq-inbox"
[tier.hq.store]
format = "restic"
repository = "{work}/repository"
password_file = "{work}/password"
"""

HOPS = [
    ("client", "send", "branch-inbox"),
    ("branch", "receive", "branch"),
    ("branch", "send", "hq-inbox"),
    ("hq", "receive", "repository"),
]
"""Tier, command, and the folder that holds its result, in the order in which a version travels."""


@dataclass(frozen=True, slots=True)
class Step:
    """One measured operation, and the bytes that lie in its result afterwards (0: not of interest)."""

    operation: str
    cost: Cost
    output_bytes: int = 0


class Contestant(ABC):
    """Something that backs up ``source``, using ``work`` for everything it writes."""

    name: str

    def __init__(self, source: Path, work: Path) -> None:
        self.source = source
        self.work = work
        self.run = Runner(work / "log.txt")
        (work / "password").write_text(PASSWORD + "\n")

    @property
    def restored(self) -> Path:
        """The folder whose contents must equal the source after ``steps``."""
        return self.work / "restored" / str(self.source).lstrip("/")

    @abstractmethod
    def steps(self) -> Iterator[Step]:
        """Do the operations, one for each item; raises BenchError."""

    def restic(self, *command: str) -> Cost:
        """Stock restic on this contestant's repository, with a cache of its own."""
        options = {"repo": "repository", "password-file": "password", "cache-dir": "restic-cache"}
        return self.run("restic", *(f"--{key}={self.work / name}" for key, name in options.items()), *command)

    def check(self) -> None:
        """Not measured: restic judges the repository, if there is one; raises BenchError."""
        if (self.work / "repository").exists():
            self.restic("check")


class Restic(Contestant):
    """Stock restic with its defaults, into a local repository."""

    name = "restic"

    def steps(self) -> Iterator[Step]:
        yield Step("init", self.restic("init"))
        backup = ("backup", "--quiet", str(self.source))
        yield Step("first", self.restic(*backup), size_of(self.work / "repository"))
        yield Step("unchanged", self.restic(*backup))
        yield Step("restore", self.restic("restore", "latest", f"--target={self.work / 'restored'}"))


class Cdr(Contestant):
    """A client, an intermediate tier that reduces nothing, and a top tier, all on this machine."""

    name = "cdr"

    def cdr(self, command: str, *more: str) -> Cost:
        return self.run(*cdr_command(), command, "-q", "-c", str(self.work / "cdr.toml"), *more)

    def steps(self) -> Iterator[Step]:
        (self.work / "cdr.toml").write_text(CONFIG.format(source=self.source, work=self.work))
        yield Step("init", self.cdr("init"))
        chain = self.cdr("backup", "-T", "client")
        yield Step("first", chain, size_of(self.work / "client"))
        for tier, command, result in HOPS:
            cost = self.cdr(command, "-T", tier, "--now")
            chain += cost
            yield Step(f"{tier} {command}", cost, size_of(self.work / result))
        yield Step("chain", chain, size_of(self.work / "repository"))
        yield Step("unchanged", self.cdr("backup", "-T", "client"))
        target = ("--client", "client", "--target", str(self.work / "restored"))
        yield Step("restore", self.cdr("restore", "latest", "-T", "hq", *target))


class Rsync(Contestant):
    """A plain copy, and the price of finding that nothing changed."""

    name = "rsync"

    def steps(self) -> Iterator[Step]:
        self.restored.mkdir(parents=True)
        copy = ("rsync", "-aHAX", f"{self.source}/", f"{self.restored}/")
        yield Step("first", self.run(*copy), size_of(self.restored))
        yield Step("unchanged", self.run(*copy))


CONTESTANTS: dict[str, type[Contestant]] = {kind.name: kind for kind in (Restic, Cdr, Rsync)}


def cdr_command() -> list[str]:
    """The ``cdr`` of the Python that runs this."""
    beside = Path(sys.executable).with_name("cdr")
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "cdr_plugin"]
