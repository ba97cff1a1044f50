"""Measures what travels for the next version, against tools that make deltas: ``python -m bench.delta``.

Each contestant takes the first version of a data set. Then the files change in place, and all take the
next one, in random order; that is repeated ``--runs`` times, each time with other changes. What CDR made is
stored by a top tier, restored by restic and compared byte by byte with the source, version by version.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from random import Random

from bench.care import apart
from bench.delta_report import delta_markdown
from bench.file_peers import Rdiff, Xdelta, Zstd, ZstdBest
from bench.measure import BenchError, Cost, read_all
from bench.peers import Change, Peer, Restic, Rsync, Travel, cdr_peers
from bench.report import Record
from bench.run import add_options, machine, report
from bench.versions import SETS, Size, make_version

PEERS: dict[str, tuple[type[Peer], str]] = {
    "restic": (Restic, "restic"),
    "rsync": (Rsync, "rsync"),
    "rdiff": (Rdiff, "rdiff"),
    "xdelta3": (Xdelta, "xdelta3"),
    "zstd -3": (Zstd, "zstd"),
    "zstd -19": (ZstdBest, "zstd"),
}
"""By name: what it does, and its command, which is also the name of its Debian package."""

DEFAULT_SCALE = 0.05
"""Ten minutes for three runs, half of them for zstd -19."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.delta", description=__doc__)
    add_options(parser, SETS)
    parser.add_argument("--only", help="contestants, comma-separated (default: all)")
    parser.set_defaults(scale=DEFAULT_SCALE)
    args = parser.parse_args()
    return report(args, "-delta", lambda: all_records(args), delta_markdown)


def all_records(args: argparse.Namespace) -> Iterator[Record]:
    peers, missing = contestants(args.only)
    yield machine(sorted({PEERS[name][1] if name in PEERS else "cdr" for name in peers}))
    for command in missing:
        yield remark(f"{command} is not installed and left out (Debian: apt install {command})")
    for name in SETS if args.set == "all" else [args.set]:
        try:
            yield from one_set(name, peers, args)
        except SetMissing as error:
            yield remark(str(error))


class SetMissing(BenchError):
    """This data set cannot be made here; the text says why."""


def contestants(only: str | None) -> tuple[dict[str, type[Peer]], list[str]]:
    """Those that can be measured here, and the commands that are missing."""
    peers: dict[str, type[Peer]] = {**{name: kind for name, (kind, _) in PEERS.items()}, **cdr_peers()}
    names = only.split(",") if only else list(peers)
    for name in names:
        if name not in peers:
            raise BenchError(f"there is no contestant {name!r}; choose from {', '.join(peers)}")
    needs = {name: PEERS[name][1] for name in names if name in PEERS}
    missing = {command for command in needs.values() if not shutil.which(command)}
    if "rdiff" in needs and not shutil.which("zstd"):  # which compresses its deltas
        missing |= {"rdiff", "zstd"}
    return {name: peers[name] for name in names if needs.get(name) not in missing}, sorted(missing)


def remark(text: str) -> Record:
    return {"record": "remark", "text": text}


def one_set(name: str, kinds: dict[str, type[Peer]], args: argparse.Namespace) -> Iterator[Record]:
    """The first version, then ``--runs`` next ones."""
    work = args.work / name
    shutil.rmtree(work, ignore_errors=True)
    source, previous = work / "source" / name, work / "previous"
    yield {"record": "dataset", "name": name, **asdict(changed(name, source, 1, args))}
    peers = {}
    for peer_name, kind in kinds.items():
        (own := work / peer_name.replace(" ", "")).mkdir()
        peer = peers[peer_name] = kind(source, own)
        apart(read_all, source)
        if (cost := peer.first()) is not None:
            yield operation(name, 0, peer_name, "first", cost)
        peer.settle()
    order = Random(args.seed)
    for run in range(1, min(args.runs, SETS[name].versions - 1) + 1):
        shutil.rmtree(previous, ignore_errors=True)
        shutil.copytree(source, previous, symlinks=True)
        changed(name, source, run + 1, args)
        changes = apart(changes_between, previous, source)
        for peer_name in order.sample(sorted(peers), len(peers)):
            apart(read_all, source)
            travel = peers[peer_name].next(changes)
            yield operation(name, run, peer_name, "next", travel.cost, travel)
            peers[peer_name].settle()
    if not args.keep:
        shutil.rmtree(work)


def changed(name: str, source: Path, version: int, args: argparse.Namespace) -> Size:
    """Make a version; by another process, since the peak memory of whatever we start is at least our own."""
    try:
        return apart(make_version, name, source, version, args.scale, args.seed)
    except BenchError as error:
        raise SetMissing(f"set {name} left out: {error}") from None


def changes_between(previous: Path, source: Path) -> list[Change]:
    """Files whose bytes are not those of the same name before."""
    found = []
    for parent, folders, names in os.walk(source):
        folders.sort()
        for name in sorted(names):
            new = Path(parent, name)
            old = previous / new.relative_to(source)
            if not old.is_file():
                found.append(Change(new, None))
            elif not filecmp.cmp(old, new, shallow=True) and not filecmp.cmp(old, new, shallow=False):
                found.append(Change(new, old))
    return found


def operation(dataset: str, run: int, peer: str, what: str, cost: Cost, travel: Travel | None = None) -> Record:
    record = {"record": "operation", "set": dataset, "run": run, "contestant": peer, "operation": what, **asdict(cost)}
    if travel is not None:
        record |= {key: value for key, value in asdict(travel).items() if key != "cost"}
    return record


if __name__ == "__main__":
    sys.exit(main())
