"""Who lets the next version travel: whole-folder tools, each with its own memory of the version before.

A peer takes the first version, then, each time the source has changed, the next one. Only the bytes that
would travel over a network, or lie in a new place, count as travelling.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from bench.contestants import PASSWORD, cdr_command
from bench.measure import BenchError, Cost, Runner, size_of
from bench.verify import require_equal

CDR_CONFIG = """\
[tier.client]
group = "bench"
state = "client/state"
identity = "client/identity"
[tier.client.source]
paths = ["{source}"]
[tier.client.reduce]
{reduce}
[tier.client.forward]
to = "file:{work}/inbox"

[tier.hq]
state = "hq/state"
identity = "hq/identity"
[tier.hq.receive]
inbox = "file:{work}/inbox"
[tier.hq.store]
format = "restic"
repository = "{work}/repository"
password_file = "{work}/password"
"""

_TRANSFERRED = re.compile(r"^Total bytes (?:sent|received): ([\d,]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Change:
    """A file of the next version whose bytes are new; ``old`` is that of the version before under the same name."""

    new: Path
    old: Path | None


@dataclass(frozen=True, slots=True)
class Travel:
    """What the next version cost, and the bytes that travel for it.

    ``kept_bytes``: what the sending side remembers of ``kept_for_bytes`` of files, to compare the version
    after it with; both are 0 where that is not of interest.
    """

    cost: Cost
    travel_bytes: int
    kept_bytes: int = 0
    kept_for_bytes: int = 0


class Peer(ABC):
    """Follows the versions of ``source``, using ``work`` for everything it writes."""

    def __init__(self, source: Path, work: Path) -> None:
        self.source = source
        self.work = work
        self.log = work / "log.txt"
        self.run = Runner(self.log)

    @abstractmethod
    def first(self) -> Cost | None:
        """Take the first version; None when there is nothing to measure."""

    @abstractmethod
    def next(self, changes: list[Change]) -> Travel:
        """Take the next version, which is in ``source`` now."""

    def settle(self) -> None:
        """Not measured: whatever comes after a version until the next one; raises BenchError."""


class Restic(Peer):
    """Stock restic with its defaults; what is added to the repository travels."""

    def restic(self, *command: str) -> Cost:
        options = {"repo": "repository", "password-file": "password", "cache-dir": "cache"}
        return self.run("restic", *(f"--{key}={self.work / name}" for key, name in options.items()), *command)

    def first(self) -> Cost:
        (self.work / "password").write_text(PASSWORD + "\n")
        self.restic("init")
        return self.restic("backup", "--quiet", str(self.source))

    def next(self, changes: list[Change]) -> Travel:
        before = size_of(self.work / "repository")
        cost = self.restic("backup", "--quiet", str(self.source))
        return Travel(cost, size_of(self.work / "repository") - before)


class Rsync(Peer):
    """``rsync -az`` through a pipe, as if the other side were another machine; both sides are measured."""

    def first(self) -> Cost:
        shell = self.work / "shell"
        shell.write_text('#!/bin/sh\nshift\nexec "$@"\n')
        shell.chmod(0o700)
        return self._copy()

    def next(self, changes: list[Change]) -> Travel:
        before = self.log.stat().st_size
        cost = self._copy()
        with self.log.open() as log:
            log.seek(before)
            counts = [int(found.replace(",", "")) for found in _TRANSFERRED.findall(log.read())]
        if len(counts) != 2:
            raise BenchError(f"{self.log}: rsync does not say how much it sent and received")
        return Travel(cost, sum(counts))

    def _copy(self) -> Cost:
        options = ("-az", "--no-whole-file", "--stats", "--delete", "-e", str(self.work / "shell"))
        return self.run("rsync", *options, f"{self.source}/", f"host:{self.work / 'copy'}/")

    def settle(self) -> None:
        require_equal(self.source, self.work / "copy")


class Cdr(Peer):
    """A client alone; afterwards a top tier stores the version, restic restores it, every byte is compared.

    The sealed segments that the backup adds to the spool travel.
    """

    reduce = 'methods = ["zstd"]'

    def cdr(self, *command: str) -> Cost:
        return self.run(*cdr_command(), *command[:1], "-q", "-c", str(self.work / "cdr.toml"), *command[1:])

    def first(self) -> Cost:
        (self.work / "password").write_text(PASSWORD + "\n")
        config = CDR_CONFIG.format(source=self.source, work=self.work, reduce=self.reduce)
        (self.work / "cdr.toml").write_text(config)
        self.cdr("init")
        return self.cdr("backup", "-T", "client")

    def next(self, changes: list[Change]) -> Travel:
        spool = self.work / "client/state/spool"
        before = {path: path.stat().st_size for path in spool.rglob("*") if path.is_file()}
        cost = self.cdr("backup", "-T", "client")
        travels = sum(path.stat().st_size for path in spool.rglob("*") if path.is_file() and path not in before)
        return Travel(cost, travels, size_of(self.work / "client/state/baseline"), size_of(self.source))

    def settle(self) -> None:
        """The version is stored, and the client hears of it: only then may the next one build on it."""
        self.cdr("send", "-T", "client", "--now")
        self.cdr("receive", "-T", "hq", "--now")
        self.cdr("send", "-T", "client", "--now")
        restored = self.work / "restored"
        options = {"repo": "repository", "password-file": "password"}
        restic = ["restic", "--no-cache", *(f"--{key}={self.work / name}" for key, name in options.items())]
        self.run(*restic, "restore", "latest", f"--target={restored}")
        require_equal(self.source, restored / str(self.source).lstrip("/"))
        shutil.rmtree(restored)


class CdrSignature(Cdr):
    """The delta method against signatures, the default."""

    reduce = 'methods = ["delta", "zstd"]\nbaseline = "signature"'


class CdrCopy(Cdr):
    """The delta method against the bytes of the version before, which the client keeps."""

    reduce = 'methods = ["delta", "zstd"]\nbaseline = "copy"'


def cdr_peers() -> dict[str, type[Cdr]]:
    """As many as the CDR of this machine can be."""
    command = [*cdr_command(), "plugins", "--json"]
    plugins = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    methods = {each["name"] for each in plugins if each["kind"] == "reduction method" and each["enabled"]}
    if "delta" in methods:
        return {"cdr signature": CdrSignature, "cdr copy": CdrCopy}
    return {"cdr zstd": Cdr}
