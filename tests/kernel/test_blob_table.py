"""Blob tables: both kernels keep the promises, and say the same to any history of calls."""

from __future__ import annotations

import gc
import struct
import threading
from array import array
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdr_plugin.kernel import BLOB_RECORD, REPEAT_RECORD, RUN_RECORD, TOTALS_RECORD, reference
from tests.kernel.conftest import load

U31, U32 = 2**31 - 1, 2**32 - 1
# Few different IDs, so that they meet again.
IDS = st.integers(0, 40).map(lambda number: sha256(bytes([number])).digest())
TYPES = st.integers(0, 1)
ROWS = st.tuples(TYPES, IDS, st.integers(0, 5), st.integers(0, U32), st.integers(0, U32), st.sampled_from([0, 7, U32]))


def digest(number: int) -> bytes:
    return sha256(number.to_bytes(8, "big")).digest()


def pack(rows: Sequence[tuple[int, bytes, int, int, int, int]]) -> bytes:
    return b"".join(BLOB_RECORD.pack(*row) for row in rows)


def filled(kernel: ModuleType, count: int, duplicates: bool = False) -> Any:
    """A table of rows of 500 per pack, every third of type 1."""
    table = kernel.BlobTable(duplicates)
    table.add_rows(pack([(n % 3 == 0, digest(n), n // 500, n % 500, 100 + n, n & 1) for n in range(count)]))
    return table


@settings(max_examples=150, deadline=None)
@given(duplicates=st.booleans(), batches=st.lists(st.lists(ROWS, max_size=60), max_size=6), asked=st.lists(IDS))
def test_c_and_python_agree_on_any_history(
    duplicates: bool, batches: list[list[tuple[int, bytes, int, int, int, int]]], asked: list[bytes]
) -> None:
    compiled = load("_kernel")
    tables: list[Any] = [compiled.BlobTable(duplicates), reference.BlobTable(duplicates)]
    numbers = array("I", [3, 0, U31, 2, 1, 9]).tobytes()
    for at, rows in enumerate(batches):
        if at % 3 == 0:
            assert same(tables, lambda table, rows=rows: [table.add(*row) for row in rows])
        else:
            assert same(tables, lambda t, rows=rows, at=at: t.add_rows(pack(rows), numbers if at % 3 == 1 else None))
    ids = b"".join(asked)
    count = len(tables[0])
    for type_ in (0, 1):
        assert same(tables, lambda table, type_=type_: table.find_many(type_, ids))
        assert same(tables, lambda table, type_=type_: [table.find(type_, id_) for id_ in asked])
        assert same(tables, lambda table, type_=type_: table.locate(type_, ids))
    flags = [bytearray(count), bytearray(count)]
    for value in (1, 6):
        missing = [table.mark(value & 1, ids, flag, value) for table, flag in zip(tables, flags, strict=True)]
        assert missing[0] == missing[1] and flags[0] == flags[1]
    some = (count // 3, count - count // 4)
    for start, stop in ((0, count), some):
        for ask in ("records", "runs", "repeats"):
            assert same(tables, lambda table, ask=ask, start=start, stop=stop: getattr(table, ask)(start, stop))
    for mask in (255, 2):
        assert same(tables, lambda t, mask=mask: outcome(lambda: t.totals(flags[0], 10, mask, 37, 41)))
    assert same(tables, lambda table: (len(table), table.keys, table.duplicates, bool(table)))
    assert same(tables, lambda table: [table.get(row) for row in range(count)])


def same(tables: list[Any], ask: Any) -> bool:
    first, second = (ask(table) for table in tables)
    assert first == second
    return True


def outcome(call: Any) -> Any:
    try:
        return call()
    except (ValueError, TypeError, IndexError) as error:
        return type(error), str(error)


@pytest.mark.parametrize("duplicates", [False, True])
def test_every_row_is_found_through_all_growth(kernel: ModuleType, duplicates: bool) -> None:
    table = kernel.BlobTable(duplicates)
    count = 20_000
    for number in range(count):
        assert table.add(number & 1, digest(number), number, 0, 0, 0)
        if number & number + 1 == 0:  # at powers of two
            assert [table.find(n & 1, digest(n)) for n in range(0, number + 1, 97)] == list(range(0, number + 1, 97))
    ids = b"".join(map(digest, range(count)))
    even, odd = (memoryview(table.find_many(type_, ids)).cast("i").tolist() for type_ in (0, 1))
    assert even == [n if n % 2 == 0 else -1 for n in range(count)]
    assert odd == [n if n % 2 else -1 for n in range(count)]
    assert len(table) == table.keys == count


def test_a_key_far_more_often_than_there_are_keys_stays_found(kernel: ModuleType) -> None:
    """The share of a slot that holds the row number must grow with the rows, not with the keys."""
    table = kernel.BlobTable(True)
    late = 0
    for number in range(3000):
        late = number if table.add(0, digest(number // 1000), number, 0, 0, 0) else late
    assert (len(table), table.keys, late) == (3000, 3, 2000)
    assert [table.find(0, digest(n)) for n in range(4)] == [0, 1000, 2000, -1]
    assert list(REPEAT_RECORD.iter_unpack(table.repeats(998, 1003))) == [(998, 0), (999, 0), (1001, 1000), (1002, 1000)]


def test_a_known_key_keeps_its_first_row(kernel: ModuleType) -> None:
    for duplicates in (False, True):
        table = kernel.BlobTable(duplicates)
        assert table.add(0, digest(1), 1, 2, 3, 4)
        assert not table.add(0, digest(1), 5, 6, 7, 8)
        assert table.add(1, digest(1), 9, 9, 9, 9)
        assert table.get(table.find(0, digest(1))) == (0, digest(1), 1, 2, 3, 4)
        assert (len(table), table.keys) == (2 + duplicates, 2)


def test_marks_are_set_in_first_rows_only(kernel: ModuleType) -> None:
    table = kernel.BlobTable(True)
    for number in (1, 1, 2):
        table.add(0, digest(number), 0, 0, 0, 0)
    flags = bytearray([8, 8, 8])
    assert table.mark(0, digest(1) + digest(5) + digest(1) + digest(6), flags) == [digest(5), digest(6)]
    assert table.mark(0, digest(2), flags, 6) == []
    assert table.mark(1, digest(2), flags, 6) == [digest(2)]
    assert list(flags) == [9, 8, 14]


def test_places_come_in_the_order_of_packs_and_once(kernel: ModuleType) -> None:
    table = kernel.BlobTable()
    places = [(3, 50), (1, 900), (3, 10), (1, 900), (0, U32)]
    for number, (where, offset) in enumerate(places):
        table.add(1, digest(number), where, offset, number, 0)
    wanted = b"".join(map(digest, [4, 0, 1, 2, 3, 0, 77, 4]))
    records, missing = table.locate(1, wanted)
    assert [row[4] for row in BLOB_RECORD.iter_unpack(records)] == [4, 1, 3, 2, 0]
    assert missing == [digest(77)]
    assert table.locate(1, b"") == (b"", [])


def test_totals_tell_flagged_rows_from_others(kernel: ModuleType) -> None:
    table = kernel.BlobTable()
    rows = [(0, 0, 100, 0), (0, 0, U32, 5), (1, 2, 1, 0), (1, 2, 2, 9), (0, 2, 4, 9)]
    table.add_rows(pack([(type_, digest(n), p, 0, size, plain) for n, (type_, p, size, plain) in enumerate(rows)]))
    totals = table.totals(bytes([1, 0, 2, 3, 0]), 3, 1, 37, 41)
    assert [TOTALS_RECORD.unpack_from(totals, at * TOTALS_RECORD.size) for at in range(3)] == [
        (1, 137, 1, U32 + 41, 0, 1),
        (0, 0, 0, 0, 0, 0),
        (1, 43, 2, 38 + 45, 2, 1),
    ]
    with pytest.raises(ValueError, match="not below 2"):
        table.totals(bytes(5), 2)
    assert kernel.BlobTable().totals(b"", 0) == b""


def test_runs_are_the_longest_of_one_pack(kernel: ModuleType) -> None:
    table = kernel.BlobTable()
    table.add_rows(pack([(0, digest(n), p, 0, 0, 0) for n, p in enumerate([4, 4, 1, 4, 4, 4])]))
    assert list(RUN_RECORD.iter_unpack(table.runs(0, 6))) == [(4, 0, 2), (1, 2, 1), (4, 3, 3)]
    assert list(RUN_RECORD.iter_unpack(table.runs(1, 4))) == [(4, 1, 1), (1, 2, 1), (4, 3, 1)]
    assert table.runs(3, 3) == b""


ID = bytes(32)
BAD_CALLS: list[tuple[str, tuple[Any, ...], type[Exception], str]] = [
    ("add", (2, ID, 0, 0, 0, 0), ValueError, "type must be between 0 and 1, not 2"),
    ("add", (0, ID[1:], 0, 0, 0, 0), ValueError, "id must have 32 bytes, not 31"),
    ("add", (0, ID, U31 + 1, 0, 0, 0), ValueError, "pack must be between 0 and 2147483647, not 2147483648"),
    ("add", (0, ID, 0, -1, 0, 0), ValueError, "offset must be between 0 and 4294967295, not -1"),
    ("add", (0, ID, 0, 0, U32 + 1, 0), ValueError, "length must be between"),
    ("add", (0, ID, 0, 0, 0, 1 << 70), ValueError, "plain must be between"),
    ("add", (0, ID, 0, 0, 0, 1.0), TypeError, "float"),
    ("add", (0, "x" * 32, 0, 0, 0, 0), TypeError, "str"),
    ("add", (0, ID), TypeError, "argument"),
    ("add_rows", (bytes(50),), ValueError, "records must be a multiple of 49 bytes, not 50"),
    ("add_rows", (bytes([2]) + bytes(48),), ValueError, "type must be between 0 and 1, not 2"),
    ("add_rows", (bytes(33) + b"\xff" * 16,), ValueError, "pack must be between 0 and 2147483647, not 4294967295"),
    ("add_rows", (bytes(49), bytes(3)), ValueError, "numbers must be a multiple of 4 bytes, not 3"),
    ("add_rows", (bytes(49), b""), ValueError, "a record has pack 0 of 0"),
    ("add_rows", (bytes(49), struct.pack("=I", U32)), ValueError, "pack must be between"),
    ("find", (0, b""), ValueError, "id must have 32 bytes, not 0"),
    ("find", (-1, ID), ValueError, "type must be between 0 and 1, not -1"),
    ("get", (1,), IndexError, "row must be below 1, not 1"),
    ("get", (-1,), IndexError, "row must be below 1, not -1"),
    ("find_many", (0, bytes(33)), ValueError, "ids must be a multiple of 32 bytes, not 33"),
    ("find_many", (3, ID), ValueError, "type must be between 0 and 1, not 3"),
    ("mark", (0, ID, bytes(1)), TypeError, "flags must be writable"),
    ("mark", (0, ID, bytearray(2)), ValueError, "flags must have one byte for each of 1 rows, not 2"),
    ("mark", (0, ID, bytearray(0)), ValueError, "flags must have one byte for each of 1 rows, not 0"),
    ("mark", (0, ID, bytearray(1), 256), ValueError, "value must be between 0 and 255, not 256"),
    ("mark", (0, ID[1:], bytearray(1)), ValueError, "ids must be a multiple of 32"),
    ("locate", (0, bytes(31)), ValueError, "ids must be a multiple of 32"),
    ("totals", (b"", 1), ValueError, "flags must have one byte for each of 1 rows, not 0"),
    ("totals", (b"\0", 0), ValueError, "a row has a pack number that is not below 0"),
    ("totals", (b"\0", -1), ValueError, "packs must be between"),
    ("totals", (b"\0", 1, 256), ValueError, "mask must be between"),
    ("records", (0, 2), IndexError, "rows 0 to 2 are not among 1"),
    ("runs", (1, 0), IndexError, "rows 1 to 0 are not among 1"),
    ("repeats", (-1, 1), IndexError, "rows -1 to 1 are not among 1"),
]


@pytest.mark.parametrize(("method", "arguments", "error", "text"), BAD_CALLS)
def test_arguments_that_cannot_be_are_refused_and_change_nothing(
    kernel: ModuleType, method: str, arguments: tuple[Any, ...], error: type[Exception], text: str
) -> None:
    table = kernel.BlobTable()
    table.add(0, digest(0), 0, 1, 2, 3)
    with pytest.raises(error, match=text):
        getattr(table, method)(*arguments)
    assert (len(table), table.get(0)) == (1, (0, digest(0), 0, 1, 2, 3))


def test_a_bad_record_at_the_end_keeps_all_of_them_out(kernel: ModuleType) -> None:
    table = kernel.BlobTable()
    rows = pack([(0, digest(n), 0, 0, 0, 0) for n in range(100)])
    with pytest.raises(ValueError, match="type must be"):
        table.add_rows(rows + b"\2" + bytes(48))
    assert len(table) == 0


def test_flags_cannot_change_size_while_they_are_lent(kernel: ModuleType) -> None:
    table = filled(kernel, 10)
    flags = bytearray(12)
    assert table.mark(1, digest(0), memoryview(flags)[1:11]) == []
    assert list(flags) == [0, 1] + [0] * 10
    flags.append(0)  # the buffer was given back


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("count", [5_000, 20_000, 65_537, 100_000, 250_000])
def test_a_blob_takes_at_most_64_bytes(compiled: ModuleType, count: int) -> None:
    """Without the last chunk of rows, of 196,608 bytes, of which only what is used was ever touched."""
    table = filled(compiled, count)
    assert table.nbytes <= 64 * count + 196_608
    assert table.nbytes >= 52 * count


@pytest.mark.usefixtures("compiled")
def test_tables_give_back_their_memory(compiled: ModuleType) -> None:
    rows = pack([(0, digest(n), 0, 0, 0, 0) for n in range(5000)])
    ids = b"".join(map(digest, range(4000, 6000)))

    def life() -> None:
        table = compiled.BlobTable(True)
        table.add_rows(rows)
        table.add_rows(rows)
        flags = bytearray(len(table))
        table.mark(0, ids, flags)
        table.locate(0, ids)
        table.find_many(0, ids)
        table.totals(flags, 1)
        table.repeats(0, 10_000)
        table.runs(0, 10_000)
        table.records(0, 10_000)
        for _, arguments, error, _ in BAD_CALLS[9:15]:
            with pytest.raises(error):
                table.add_rows(*arguments)

    for _ in range(20):
        life()
    before = resident_bytes()
    for _ in range(200):
        life()
    gc.collect()
    # One table of 10,000 rows is half a megabyte: 200 of them would be seen.
    assert resident_bytes() - before < 20_000_000


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def test_threads_may_ask_while_one_adds(kernel: ModuleType) -> None:
    table = filled(kernel, 3000)
    first = b"".join(map(digest, range(0, 3000, 3)))
    wrong: list[object] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            rows = memoryview(table.find_many(1, first)).cast("i").tolist()
            records, missing = table.locate(1, first)
            if rows != list(range(0, 3000, 3)) or missing or len(records) != 1000 * 49:
                wrong.append(rows)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for start in range(3000, 30_000, 1000):
        table.add_rows(pack([(0, digest(n), n, 0, 0, 0) for n in range(start, start + 1000)]))
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong and len(table) == 30_000
