"""Known blobs are a set of (type, ID), whatever order they come in."""

from __future__ import annotations

import threading
from hashlib import sha256

from hypothesis import given, settings
from hypothesis import strategies as st

from cdr_plugin.client.known_blobs import KnownBlobs
from cdr_plugin.client.state import blob_key
from cdr_plugin.model.blobs import BlobId, BlobType

IDS = st.integers(0, 30).map(lambda number: BlobId(sha256(bytes([number])).digest()))
BLOBS = st.lists(st.tuples(st.sampled_from(BlobType), IDS), max_size=60)


@settings(deadline=None)
@given(first=BLOBS, later=BLOBS)
def test_known_blobs_are_those_that_were_given_and_added(
    first: list[tuple[BlobType, BlobId]], later: list[tuple[BlobType, BlobId]]
) -> None:
    known = KnownBlobs(blob_key(*blob) for blob in first)
    model = set(first)
    for blob in later:
        assert known.add(*blob) is (blob not in model)
        model.add(blob)
    assert len(known) == len(model)
    for _, id_ in [*first, *later]:
        for other in BlobType:
            assert (blob_key(other, id_) in known) is ((other, id_) in model)
    assert b"" not in known and bytes(32) not in known and "x" * 33 not in known


def test_more_blobs_than_one_batch_are_all_known() -> None:
    ids = [BlobId(sha256(number.to_bytes(4, "big")).digest()) for number in range(20_000)]
    keys = [blob_key(BlobType.DATA, id_) for id_ in ids]
    known = KnownBlobs([b"".join(keys[:3]), b"", b"".join(keys[3:])])
    assert len(known) == len(ids) and all(blob_key(BlobType.DATA, id_) in known for id_ in ids[::997])


def test_of_several_threads_one_adds_a_blob() -> None:
    ids = [BlobId(sha256(number.to_bytes(4, "big")).digest()) for number in range(5000)]
    known, added = KnownBlobs(), []

    def add_all() -> None:
        added.append(sum(known.add(BlobType.TREE, id_) for id_ in ids))

    threads = [threading.Thread(target=add_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(added) == len(known) == 5000
