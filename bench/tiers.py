"""What an intermediate tier that reduces and the top tier cost: ``python -m bench.tiers``.

So many clients share 70 % of their files; the sum of their data is the same for every number of clients. All send
their first version through one branch to the head office, then one client changes a file and sends the next. What the
branch and the head office take is measured, and, beside it, ``restic backup`` of the distinct files. restic checks
the end.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from bench.contestants import PASSWORD, cdr_command
from bench.measure import Cost, Runner, size_of

SHARED = 0.7
KINDS = {"large": 1_000_000, "small": 8_000}
"""Bytes of a file, each of which is one blob, or few: what a gigabyte costs, and what a million blobs cost."""


@dataclass(frozen=True)
class World:
    """A folder per client, one for what is distinct, and the tiers, all below ``work``."""

    work: Path
    clients: int
    kind: str
    size: int
    run: Runner

    def make(self) -> World:
        files = max(1, self.size // KINDS[self.kind] // self.clients)
        shared = int(files * SHARED)
        for at in range(self.clients):
            for number in range(files):
                seed = f"shared {number}" if number < shared else f"client {at} file {number}"
                self._write(self.work / "sources" / f"c{at}" / f"{number // 500}" / f"{number}", seed)
                if at == 0 or number >= shared:
                    self._write(self.work / "distinct" / f"{at}-{number}", seed)
        (self.work / "cdr.toml").write_text("".join(self._config()))
        (self.work / "password").write_text(PASSWORD + "\n")
        self.cdr("init")
        return self

    def _write(self, path: Path, seed: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        random = Random(seed)
        path.write_bytes(random.randbytes(KINDS[self.kind] // 2) + bytes(KINDS[self.kind] // 2))

    def _config(self) -> Iterator[str]:
        for at in range(self.clients):
            yield (
                f'[tier.c{at}]\ngroup = "g"\nstate = "tiers/c{at}/state"\nidentity = "tiers/c{at}/identity"\n'
                f'source = {{ paths = ["sources/c{at}"] }}\nforward = {{ to = "file:tiers/branch/inbox" }}\n'
            )
        yield '[tier.branch]\nstate = "tiers/branch/state"\nidentity = "tiers/branch/identity"\n'
        yield 'receive = { inbox = "file:tiers/branch/inbox" }\nreduce = { methods = ["commonality"] }\n'
        yield 'forward = { to = "file:tiers/hq/inbox" }\n[tier.hq]\nstate = "tiers/hq/state"\n'
        yield 'identity = "tiers/hq/identity"\nreceive = { inbox = "file:tiers/hq/inbox" }\n'
        yield 'store = { repository = "tiers/repository", password_file = "password" }\n'

    def cdr(self, command: str, *tiers: str) -> Cost:
        chosen = (word for tier in tiers for word in ("-T", tier))
        return self.run(*cdr_command(), command, "-c", str(self.work / "cdr.toml"), *chosen)

    # --- what is measured ---

    def version(self, *names: str) -> Iterator[tuple[str, Cost, int, int]]:
        """Step, cost, and the sealed bytes that lay before the tier and behind it."""
        self.cdr("backup", *names)
        self.cdr("send", *names)
        arrived = self._segments("branch")
        received = self.cdr("receive", "branch")
        sent = self.cdr("send", "branch")
        up = self._segments("hq")
        yield "branch", received + sent, arrived, up
        yield "head office", self.cdr("receive", "hq"), up, 0
        self.cdr("send", "branch")
        self.cdr("send", *names)

    def _segments(self, tier: str) -> int:
        return sum(path.stat().st_size for path in (self.work / "tiers" / tier / "inbox").glob("clients/*/*/*"))

    def change(self) -> str:
        path = self.work / "sources" / "c0" / "0" / "0"
        data = bytearray(path.read_bytes())
        data[100:120] = b"twenty bytes changed"
        path.write_bytes(data)
        return "c0"

    def restic(self) -> Cost:
        options = (f"--repo={self.work / 'restic'}", f"--password-file={self.work / 'password'}", "--no-cache")
        self.run("restic", "init", *options)
        return self.run("restic", "backup", str(self.work / "distinct"), *options)

    def judge(self) -> None:
        place = f"--repo={self.work / 'tiers' / 'repository'}"
        self.run("restic", "check", "--read-data", "--no-cache", place, f"--password-file={self.work / 'password'}")


def records(work: Path, kind: str, clients: int, size: int) -> Iterator[dict[str, object]]:
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    world = World(work, clients, kind, size, Runner(work / "log.txt")).make()
    sources = size_of(work / "sources")
    common = {"kind": kind, "clients": clients, "source_bytes": sources}
    peer, distinct = world.restic(), size_of(work / "distinct")
    yield {**common, "step": "restic, distinct files", "version": "first", **_fields(peer, distinct, 0)}
    names = [f"c{at}" for at in range(clients)]
    for version, chosen in (("first", names), ("next", [world.change()])):
        for step, cost, before, behind in world.version(*chosen):
            yield {**common, "step": step, "version": version, **_fields(cost, before, behind)}
    world.judge()
    shutil.rmtree(work)


def _fields(cost: Cost, bytes_in: int, bytes_out: int) -> dict[str, object]:
    return {
        "wall_s": round(cost.wall_s, 3),
        "cpu_s": round(cost.cpu_s, 3),
        "peak_mb": cost.peak_bytes // 1_000_000,
        "bytes_in": bytes_in,
        "bytes_out": bytes_out,
    }


def table(found: list[dict[str, object]]) -> Iterator[str]:
    yield "| files | clients | version | step | MB in | MB out | wall s | CPU s | CPU s per GB of sources | peak MB |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for row in found:
        per_gb = float(str(row["cpu_s"])) / (int(str(row["source_bytes"])) / 1e9)
        sizes = [f"{int(str(row[key])) / 1e6:.2f}" for key in ("bytes_in", "bytes_out")]
        cells = [row["kind"], row["clients"], row["version"], row["step"], *sizes, row["wall_s"], row["cpu_s"]]
        yield "| " + " | ".join(map(str, [*cells, f"{per_gb:.2f}", row["peak_mb"]])) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.tiers", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=200, help="of all clients' data together (200)")
    parser.add_argument("--clients", default="1,10,100", help="numbers of clients (1,10,100)")
    parser.add_argument("--kinds", default="large,small", help="of files (large,small)")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp/cdr-bench"), help="folder on the disk to measure")
    results = Path(__file__).with_name("results")
    parser.add_argument("--output", type=Path, default=results, help="folder of the results")
    args = parser.parse_args()
    found: list[dict[str, object]] = []
    args.output.mkdir(parents=True, exist_ok=True)
    place = args.output / f"{time.strftime('%Y-%m-%dT%H%M%S')}-tiers.jsonl"
    for kind in args.kinds.split(","):
        for clients in map(int, args.clients.split(",")):
            for row in records(args.work / "tiers", kind, clients, args.megabytes * 1_000_000):
                found.append(row)
                with place.open("a") as out:
                    out.write(json.dumps(row) + "\n")
    place.with_suffix(".md").write_text("\n".join(table(found)) + "\n")
    print("\n".join(table(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
