"""Bytes on each link, counted, against the ideal: each blob of a group once, as cheap as it came from anybody."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from cdr_plugin.assembly import client_tier
from cdr_plugin.client.send import SendResult
from cdr_plugin.client.spooler import spool_path
from cdr_plugin.client.states import SegmentState
from cdr_plugin.model.blobs import Payload
from cdr_plugin.parcel.records import iter_records
from cdr_plugin.parcel.segment import ParcelSecret, reopen_own_segment
from cdr_plugin.plugins import installed
from tests.reducing.worlds import branch_world, client, reducing, top
from tests.support.tiers import Tiers

MB = 1_000_000


def spooled_payloads(tiers: Tiers, name: str) -> Iterator[Payload]:
    """What waits in a client's spool; small blobs only, which do not span segments."""
    one = client_tier(tiers.tier(name), installed())
    with closing(one.state):
        for row in one.state.segments(SegmentState.SPOOLED):
            secret = ParcelSecret.from_bytes(one.state.secret_of(row.parcel_ord))
            data = spool_path(one.spool, row.parcel_id, row.index).read_bytes()
            for record in iter_records(reopen_own_segment(data, secret, row.index)):
                if isinstance(record, Payload):
                    yield record


def ideal_bytes(tiers: Tiers) -> int:
    cheapest: dict[bytes, int] = {}
    for name in tiers.clients:
        for payload in spooled_payloads(tiers, name):
            cheapest[payload.id] = min(cheapest.get(payload.id, 1 << 62), len(payload.data))
    return sum(cheapest.values())


def test_what_leaves_a_branch_is_within_one_percent_of_the_ideal(tmp_path: Path) -> None:
    """Eight clients share 70 % of their data: 400 kB files, so that each is one blob of one segment."""
    names = [f"c{at}" for at in range(8)]
    for name in names:
        (tmp_path / name).mkdir()
        for at in range(14):
            (tmp_path / name / f"shared-{at}").write_bytes(random.Random(at).randbytes(400_000))
        for at in range(6):
            (tmp_path / name / f"own-{at}").write_bytes(random.Random(f"{name} {at}").randbytes(400_000))
    text = "".join(client(name, "branch") for name in names) + reducing("branch", "region") + reducing("region", "hq")
    tiers = Tiers.make(tmp_path, text + top())
    for name in names:
        tiers.backup(name)
    ideal = ideal_bytes(tiers)
    for name in names:
        tiers.send(name)
    assert tiers.receive("branch").bytes_out <= 1.01 * ideal
    tiers.send("branch")
    assert tiers.receive("region").bytes_out <= 1.01 * ideal
    tiers.deliver(2)
    tiers.assert_settled("hq", {"g": names})


def test_a_delta_of_two_megabytes_is_still_one_on_the_last_link(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    file = tmp_path / "a" / "image"
    content = bytearray(random.Random(1).randbytes(16 * MB))
    file.write_bytes(content)
    text = client("a", "branch") + reducing("branch", "region") + reducing("region", "hq") + top()
    tiers = Tiers.make(tmp_path, text)
    tiers.backup("a")
    tiers.deliver(3)
    for at in range(0, 16 * MB, 8192):  # 2 MB in pages of 1 kB, all over the file
        content[at : at + 1024] = random.Random(at).randbytes(1024)
    file.write_bytes(content)
    spooled = tiers.backup("a").spool.spooled_bytes
    assert spooled < 2.2 * MB
    tiers.send("a")
    assert tiers.receive("branch").bytes_out <= 1.01 * spooled
    tiers.send("branch")
    assert tiers.receive("region").bytes_out <= 1.01 * spooled
    tiers.deliver(3)
    tiers.assert_settled("hq", {"g": ["a"]})


def test_what_the_digest_names_is_not_sent_again(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(random.Random(5).randbytes(3 * MB))
    text = client("a", "north") + client("b", "south") + reducing("north", "hq") + reducing("south", "hq") + top()
    tiers = Tiers.make(tmp_path, text)
    tiers.deliver()
    tiers.backup("a")
    tiers.deliver(2)
    tiers.backup("b")
    tiers.send("b")
    assert tiers.receive("south").bytes_out < 10_000
    tiers.deliver(2)
    tiers.assert_settled("hq", {"g": ["a", "b"]})


def test_what_is_pruned_above_although_the_digest_names_it_is_sent_after_all(tmp_path: Path) -> None:
    """The digest is a hint: what is dropped against it is kept here, and asked for."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(random.Random(5).randbytes(MB))
    text = client("a", "north") + client("b", "south") + reducing("north", "hq") + reducing("south", "hq") + top()
    tiers = Tiers.make(tmp_path, text)
    tiers.deliver()
    tiers.backup("a")
    tiers.deliver(2)
    tiers.restic("hq", "g", "forget", "--prune", *tiers.restic("hq", "g", "list", "snapshots").split())
    tiers.backup("b")
    tiers.deliver(3)
    assert tiers.stored("hq", "g")["b"] == list(tiers.captured("b").values())
    tiers.check("hq", "g")


def test_pruning_above_at_any_moment_loses_no_version_and_starts_nobody_over(tmp_path: Path) -> None:
    tiers = branch_world(tmp_path)
    choose = random.Random(3)
    made = sent = 0
    for at in range(6):
        for name in tiers.clients:
            (tmp_path / name / f"new-{at}").write_bytes(random.Random(f"{name} {at}").randbytes(20_000))
            made += tiers.backup(name).spool.spooled_bytes
        for _, run in tiers.steps():
            done = run()
            sent += done.bytes_sent if isinstance(done, SendResult) else 0
            if choose.random() < 0.3:
                tiers.restic("hq", "g", "forget", "--keep-last", "1", "--group-by", "host", "--prune")
    tiers.deliver(3)
    assert sent < 2.2 * made  # over two links: nothing that was pruned but was not needed is sent again
    for name in tiers.clients:
        versions = tiers.captured(name)
        assert tiers.stored("hq", "g")[name][-1] == versions[max(versions)]
    tiers.check("hq", "g")
