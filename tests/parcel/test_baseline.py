"""Baselines: only what the tier wrote for this client, whole, of one series and within its limits."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
import zstandard

from cdr_plugin.errors import AuthenticationError, FormatError, IntegrityError
from cdr_plugin.model.blobs import BlobType
from cdr_plugin.parcel import baseline as module
from cdr_plugin.parcel.baseline import (
    Baseline,
    read_baseline,
    read_blob_part,
    read_facts_part,
    write_baseline,
    write_blob_part,
    write_facts_part,
)
from cdr_plugin.parcel.limits import MAX_BASELINE_BLOBS, MAX_BASELINE_PART_BYTES, MAX_BASELINE_PARTS
from cdr_plugin.parcel.sealed import Addressee, Author
from tests.parcel.parties import CLIENT, CLIENT_SEALING, GROUP, OTHER_SEALING, STRANGER, TIER

SERIES = b"s" * 16
AUTHOR = Author(TIER, CLIENT.public, CLIENT_SEALING.public, GROUP, 1)
READER = Addressee((CLIENT_SEALING,), TIER.public, CLIENT.public, GROUP, 5)
KEYS = [bytes((type_,)) + bytes((n,)) * 32 for type_ in BlobType for n in range(5)]


def of(parts: Sequence[bytes], blob_parts: int = 1, **change: Any) -> Baseline:
    hashes = [sha256(part).digest() for part in parts]
    made = Baseline(9, SERIES, hashes, blob_parts, "ab" * 32, "2026-11-22T19:00:00Z")
    return replace(made, **change)


def some() -> tuple[Baseline, list[bytes]]:
    parts = [write_blob_part(SERIES, 0, 9, KEYS, AUTHOR), write_facts_part(SERIES, 1, 9, b"facts" * 100, AUTHOR)]
    return of(parts), parts


def test_a_baseline_comes_back_to_its_client() -> None:
    baseline, parts = some()
    assert read_baseline(write_baseline(baseline, AUTHOR), READER) == baseline
    assert [bytes((type_,)) + id_ for type_, id_ in read_blob_part(parts[0], baseline, 0, READER)] == KEYS
    assert read_facts_part(parts[1], baseline, 1, READER) == b"facts" * 100


def test_facts_that_do_not_compress_come_back_too() -> None:
    facts = os.urandom(MAX_BASELINE_PART_BYTES - 1)
    part = write_facts_part(SERIES, 0, 9, facts, AUTHOR)
    assert read_facts_part(part, of([part], 0), 0, READER) == facts


@pytest.mark.parametrize(
    "change",
    [
        {"keys": (OTHER_SEALING,)},
        {"tier": STRANGER.public},
        {"client": STRANGER.public},
        {"group": "sales"},
    ],
)
def test_a_baseline_of_or_for_somebody_else_is_refused(change: dict[str, Any]) -> None:
    baseline, parts = some()
    reader = replace(READER, **change)
    with pytest.raises(AuthenticationError, match="baseline"):
        read_baseline(write_baseline(baseline, AUTHOR), reader)
    with pytest.raises(AuthenticationError, match="baseline part"):
        read_blob_part(parts[0], baseline, 0, reader)


def test_every_flipped_or_missing_byte_is_refused() -> None:
    baseline, parts = some()
    data = write_baseline(baseline, AUTHOR)
    for position in range(len(data)):
        bad = bytearray(data)
        bad[position] ^= 1
        with pytest.raises(IntegrityError):
            read_baseline(bytes(bad), READER)
        with pytest.raises(IntegrityError):
            read_baseline(data[:position], READER)
    for bad_part in (parts[0][:-1], parts[0] + b"\0", parts[1], b""):
        with pytest.raises(AuthenticationError, match="not the one that its manifest names"):
            read_blob_part(bad_part, baseline, 0, READER)


@pytest.mark.parametrize("change", [{"serial": 8}, {"series": b"o" * 16}])
def test_a_part_of_another_series_is_refused_even_when_the_manifest_names_it(change: dict[str, Any]) -> None:
    baseline, parts = some()
    with pytest.raises(AuthenticationError, match="of another series"):
        read_blob_part(parts[0], replace(baseline, **change), 0, READER)
    with pytest.raises(AuthenticationError, match="of another series"):
        read_facts_part(parts[0], of([parts[1], parts[0]]), 1, READER)


def test_what_contradicts_itself_is_refused() -> None:
    _, parts = some()
    for change in ({"blob_parts": 3}, {"number": 3}, {"record": b"r" * 32}):
        with pytest.raises(FormatError, match="baseline"):
            read_baseline(write_baseline(of(parts, **change), AUTHOR), READER)
    for change in ({"record": b"r"}, {"tree": b"t" * 31}, {"parts": [b"h" * 32] * (MAX_BASELINE_PARTS + 1)}):
        with pytest.raises(FormatError, match=r"record|tree|baseline"):
            write_baseline(replace(of(parts), **change), AUTHOR)


def test_the_fullest_manifest_and_the_fullest_part_can_be_written_and_read() -> None:
    most = replace(of([b""]), parts=[b"h" * 32] * MAX_BASELINE_PARTS, blob_parts=MAX_BASELINE_PARTS)
    assert read_baseline(write_baseline(most, AUTHOR), READER) == most
    full = write_blob_part(SERIES, 0, 9, [KEYS[0]] * MAX_BASELINE_BLOBS, AUTHOR)
    assert len(read_blob_part(full, of([full]), 0, READER)) == MAX_BASELINE_BLOBS
    over = write_blob_part(SERIES, 0, 9, [KEYS[0]] * (MAX_BASELINE_BLOBS + 1), AUTHOR)
    with pytest.raises(FormatError, match="no list of at most"):
        read_blob_part(over, of([over]), 0, READER)


@pytest.mark.parametrize(
    "data",
    [
        b"\1" + zstandard.ZstdCompressor().compress(bytes(MAX_BASELINE_PART_BYTES + 1)),
        b"\1" + zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100)),
        b"\1" + zstandard.ZstdCompressor().compress(b"facts") + b"more",
        b"\1no frame",
        b"\2facts",
        b"",
    ],
    ids=["too large", "no size", "more behind it", "no frame", "unknown form", "empty"],
)
def test_facts_that_inflate_too_far_or_are_none_are_refused(data: bytes) -> None:
    part = AUTHOR.seal("baseline part", 9, module._Part(series=SERIES, number=0, data=data))
    with pytest.raises(FormatError, match="part 0 of baseline"):
        read_facts_part(part, of([part], 0), 0, READER)


def test_unknown_blob_types_are_refused() -> None:
    part = write_blob_part(SERIES, 0, 9, [b"\2" + b"x" * 32], AUTHOR)
    with pytest.raises(FormatError, match="unknown blob type"):
        read_blob_part(part, of([part]), 0, READER)
