"""What one small version costs among many clients: ``python -m bench.growth``.

One client sends through a branch that reduces to a head office; all others are registered at both, with versions in
state and repository and a head in the inbox, and send nothing. All that is written directly, through the program's own
classes; what is to be told of them is told by real passes, before anything is measured. Then the CPU time of each
step is to be that of one small version, however many clients there are.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from bench.measure import Cost, Runner
from bench.tiers import World
from cdr_plugin.assembly import receiving_tiers
from cdr_plugin.config import load_config
from cdr_plugin.contracts import RepositoryPass
from cdr_plugin.identity.keys import SealingKey, SigningKey
from cdr_plugin.identity.register import Client, ClientState
from cdr_plugin.model.blobs import BlobId, BlobType, blob_id
from cdr_plugin.model.versions import Snapshot
from cdr_plugin.parcel.head import Head, write_head
from cdr_plugin.parcel.naming import folder_id, head_name
from cdr_plugin.plugins import installed
from cdr_plugin.reducing.tier import ReducingTier
from cdr_plugin.reporter import Reporter
from cdr_plugin.top.state import VersionRow, VersionState
from cdr_plugin.top.tier import TopTier, news_fact
from cdr_plugin.top.version_tags import VersionTag

_TREE = b'{"nodes":[]}\n'
_BYTES = 1_000_000
"""Of the one client that sends."""


def populate(work: Path, clients: int, versions: int) -> None:
    """Register clients at the branch and the head office, with so many committed versions each."""
    keys = [SigningKey.generate() for _ in range(clients)]
    others = [_client(at, key) for at, key in enumerate(keys)]
    for client, key in zip(others, keys, strict=True):
        path = work / "tiers/branch/inbox" / head_name(folder_id(client.key, client.group))
        path.parent.mkdir(parents=True)
        path.write_bytes(write_head(Head(1, []), key, group=client.group, issued_s=int(time.time())))
    config = load_config(work / "cdr.toml")
    via = b""
    for name in ("branch", "hq"):
        (tier,) = receiving_tiers(config, config.tier(name), installed(), Reporter())
        with closing(tier):
            if name == "hq":
                via = next(client.fingerprint for client in tier.register.clients("g"))
            _register(tier, others, via)
            _store(tier, others, versions)


def _client(at: int, key: SigningKey) -> Client:
    name, sealing = f"other{at}", SealingKey.generate().public
    return Client("g", name, "", key.public, sealing, {"host": name}, ClientState.APPROVED, int(time.time()))


def _register(tier: TopTier, others: Sequence[Client], via: bytes) -> None:
    for client in others:
        tier.register.introduce(replace(client, via=via))
    if isinstance(tier, ReducingTier):
        for uplink in tier.uplinks:
            uplink.state.introduced(client.fingerprint for client in others)


def _store(tier: TopTier, others: Sequence[Client], versions: int) -> None:
    with closing(tier.open_repository()) as repository, repository.writing() as repo:
        tree = blob_id(_TREE)
        repo.add(BlobType.TREE, tree, _TREE)
        repo.flush()
        for client in others:
            rows = tier.state.client(client.fingerprint)
            rows.reach([bytes((BlobType.TREE,)) + tree])
            previous = b""
            for number in range(1, versions + 1):
                row = VersionRow(
                    number, b"", b"signed", secrets.token_bytes(32), previous, VersionState.COMMITTED,
                    f"2026-01-01T00:{number // 60:02}:{number % 60:02}Z",
                )  # fmt: skip
                rows.settle(row, VersionState.COMMITTED, snapshot=_add(repo, client, row, tree))
                previous = row.hash
            rows.checkpoint()
    tier.state.put({news_fact(client): "1" for client in others})


def _add(repo: RepositoryPass, client: Client, row: VersionRow, tree: BlobId) -> str:
    tag = str(VersionTag.of(client.fingerprint, row.number, row.hash))
    return repo.add_version(
        Snapshot(time=row.time, tree=tree.hex(), paths=["/data"], hostname=client.name, tags=[tag])
    )


def record(work: Path, clients: int, versions: int) -> dict[str, object]:
    """CPU seconds of each step."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    world = World(work, 1, "small", _BYTES, Runner(work / "log.txt")).make()
    _settle(world)
    populate(work, clients - 1, versions)
    _settle(world)
    world.change()
    costs = dict(_version(world))
    world.judge()
    shutil.rmtree(work)
    return {"clients": clients, "versions": versions, **{step: round(cost.cpu_s, 2) for step, cost in costs.items()}}


def _settle(world: World) -> None:
    """Rounds until everybody has been told everything, and it has been looked at once more."""
    for _ in range(2):
        world.cdr("backup", "c0")
        world.cdr("send", "c0")
        for command, tier in (("receive", "branch"), ("send", "branch"), ("receive", "hq"), ("send", "branch")):
            world.cdr(command, tier)
        world.cdr("receive", "branch")


def _version(world: World) -> Iterator[tuple[str, Cost]]:
    world.cdr("backup", "c0")
    world.cdr("send", "c0")
    yield "branch receives", world.cdr("receive", "branch")
    yield "branch sends", world.cdr("send", "branch")
    yield "head office receives", world.cdr("receive", "hq")
    yield "branch hears of it", world.cdr("send", "branch")
    yield "branch, nothing new", world.cdr("receive", "branch")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--clients", default="10,100,1000", help="numbers of registered clients (10,100,1000)")
    parser.add_argument("--versions", type=int, default=10, help="of each (10)")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp/cdr-bench"), help="folder to work in")
    results = Path(__file__).with_name("results")
    parser.add_argument("--output", type=Path, default=results, help="folder of the results")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    place = args.output / f"{time.strftime('%Y-%m-%dT%H%M%S')}-growth.jsonl"
    for clients in map(int, args.clients.split(",")):
        row = json.dumps(record(args.work / "growth", clients, args.versions))
        print(row, flush=True)
        with place.open("a") as out:
            out.write(row + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
