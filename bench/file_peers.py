"""Tools that make a delta of one file and another: each file whose bytes changed is theirs to encode.

What is new, or has a new name, is compressed as the tool's user would. The commands stand in one shell
script, so that starting a process per file is in their time: that is how these tools are used.
"""

from __future__ import annotations

import shlex
from abc import abstractmethod
from pathlib import Path

from bench.measure import Cost
from bench.peers import Change, Peer, Travel

_LEAST_WINDOW, _MOST_WINDOW = 1 << 20, 2 << 30
"""Bytes of xdelta3's source window, which it clears for each file: with its default of 64 MiB, 900 small
files take three minutes."""


class FilePeer(Peer):
    """One delta per changed file; the sum of their sizes travels."""

    def first(self) -> Cost | None:
        return None

    def next(self, changes: list[Change]) -> Travel:
        deltas = self.work / "deltas"
        deltas.mkdir(exist_ok=True)
        for left in deltas.iterdir():
            left.unlink()
        lines = [self._line(change, deltas / str(i)) for i, change in enumerate(changes)]
        cost = self.script("encode", lines)
        return Travel(cost, sum(path.stat().st_size for path in deltas.iterdir()))

    def script(self, name: str, lines: list[str]) -> Cost:
        path = self.work / f"{name}.sh"
        path.write_text("\n".join(["set -eo pipefail", *lines]) + "\n")
        return self.run("bash", str(path))

    def _line(self, change: Change, target: Path) -> str:
        """Empty files have no delta: zstd and rdiff stumble over them."""
        if change.old is None or not change.old.stat().st_size or not change.new.stat().st_size:
            return self.compress(change.new, target)
        return self.delta(change.old, change.new, target)

    @abstractmethod
    def delta(self, old: Path, new: Path, target: Path) -> str:
        """The shell command that encodes ``new``, which replaces ``old``, into ``target``."""

    @abstractmethod
    def compress(self, new: Path, target: Path) -> str:
        """The shell command for a file with nothing to compare with."""


class Rdiff(FilePeer):
    """Blocks of 1 KiB, deltas through zstd -3. It knows of the old file only the signature, as CDR does."""

    def next(self, changes: list[Change]) -> Travel:
        """Signatures are made before, not measured: they belong to the version before."""
        signed = [change.old for change in changes if change.old is not None]
        signatures = self.work / "signatures"
        signatures.mkdir(exist_ok=True)
        self._signature_of = {old: signatures / str(i) for i, old in enumerate(signed)}
        sign = ("rdiff", "-f", "-b", "1024", "signature")
        self.script("sign", [_shell(*sign, old, signature) for old, signature in self._signature_of.items()])
        travel = super().next(changes)
        kept = sum(path.stat().st_size for path in self._signature_of.values())
        return Travel(travel.cost, travel.travel_bytes, kept, sum(old.stat().st_size for old in signed))

    def delta(self, old: Path, new: Path, target: Path) -> str:
        return f"{_shell('rdiff', 'delta', self._signature_of[old], new)} | zstd -q -3 -c > {_shell(target)}"

    def compress(self, new: Path, target: Path) -> str:
        return _shell("zstd", "-q", "-f", "-3", new, "-o", target)


class Xdelta(FilePeer):
    """The best it offers, with both files at hand and a window that holds the old one whole."""

    _options = ("xdelta3", "-q", "-f", "-D", "-9", "-S", "djw", "-A=", "-e")

    def delta(self, old: Path, new: Path, target: Path) -> str:
        window = min(max(1 << old.stat().st_size.bit_length(), _LEAST_WINDOW), _MOST_WINDOW)
        return _shell(*self._options, "-B", window, "-s", old, new, target)

    def compress(self, new: Path, target: Path) -> str:
        return _shell(*self._options, new, target)


class Zstd(FilePeer):
    """``zstd --patch-from``, with both files at hand."""

    level = "-3"

    def delta(self, old: Path, new: Path, target: Path) -> str:
        return _shell("zstd", "-q", "-f", self.level, f"--patch-from={old}", new, "-o", target)

    def compress(self, new: Path, target: Path) -> str:
        return _shell("zstd", "-q", "-f", self.level, new, "-o", target)


class ZstdBest(Zstd):
    """At its highest ordinary level."""

    level = "-19"


def _shell(*words: object) -> str:
    return shlex.join(map(str, words))
