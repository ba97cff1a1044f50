"""The baseline gives back what was kept of a blob, or nothing: never another blob's, never damage."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdr_plugin.archiver.catalog import CatalogWriter, Facts, make_record
from cdr_plugin.baseline import Baseline, KnownContent
from cdr_plugin.baseline import sorting as sorting_module
from cdr_plugin.baseline.merging import merge_count
from cdr_plugin.baseline.new_table import NewTable
from cdr_plugin.baseline.sorting import RecordSorter
from cdr_plugin.contracts import Decoder
from cdr_plugin.errors import PluginError
from cdr_plugin.model.blobs import PLAIN, BlobType, Payload, blob_id
from cdr_zstd.plugin import ZstdMethod

DATA, TREE = BlobType.DATA, BlobType.TREE
LABELS = ("delta/1", "other/1", "zstd/1", PLAIN)


def decoder(label: str) -> Decoder:
    if label != "zstd/1":
        raise PluginError(f"no method {label}")
    return ZstdMethod().decoder()


def payload(data: bytes, type_: BlobType = DATA, method: str = PLAIN) -> Payload:
    encoded = data if method == PLAIN else ZstdMethod().encoder({}).encode(data)
    assert encoded is not None
    return Payload(type_, blob_id(data), method, len(data), encoded)


def remembered(folder: Path, *write: Callable[[NewTable], None]) -> Baseline:
    """A baseline after a run for each of ``write``."""
    for one in write:
        baseline = Baseline(folder, decoder)
        table = baseline.new_table(LABELS)
        one(table)
        table.finish()
        baseline.close()
    return Baseline(folder, decoder)


def memories(count: int, start: int = 0) -> Callable[[NewTable], None]:
    def write(table: NewTable) -> None:
        for number in range(start, start + count):
            table.remember(payload(b"%d" % number), "delta/1", b"memory %d" % number)

    return write


def memory_of(baseline: Baseline, number: int) -> bytes | None:
    base = baseline.base(DATA, blob_id(b"%d" % number), "delta/1")
    return base and base.memory


def catalog(path: Path, data: Sequence[bytes] = (), trees: Sequence[bytes] = ()) -> Path:
    """One that names these blobs, a folder for each tree."""
    with CatalogWriter(path, Facts("")) as writer:
        for tree in trees or [b"root"]:
            ids = b"".join(map(blob_id, data))
            writer.add(
                make_record(
                    key=b"",
                    names=[b"f"],
                    stats=b"\x00\x80" + bytes(70),
                    tree=blob_id(tree),
                    subtrees=b"",
                    counts=[len(data)],
                    content=ids,
                    file_bytes=0,
                    dirty=False,
                )
            )
        writer.finish()
    return path


# --- what is kept is found


@pytest.mark.parametrize("spill_bytes", [120, 4 << 20])
def test_what_runs_kept_is_found_by_type_id_and_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spill_bytes: int
) -> None:
    monkeypatch.setattr(sorting_module, "_SPILL_BYTES", spill_bytes)

    def trees(table: NewTable) -> None:
        table.keep(payload(b"tree" * 100, TREE, "zstd/1"))
        table.keep(payload(b"plain tree", TREE))
        table.remember(payload(b"0", TREE), "delta/1", b"of a tree")

    baseline = remembered(tmp_path / "b", memories(2000), trees)
    assert all(memory_of(baseline, number) == b"memory %d" % number for number in range(2000))
    assert memory_of(baseline, 2000) is None
    base = baseline.base(DATA, blob_id(b"17"), "delta/1")
    assert base is not None and (base.id, base.length, base.has_data) == (blob_id(b"17"), 2, False)
    assert baseline.base(DATA, blob_id(b"17"), "other/1") is None
    of_tree = baseline.base(TREE, blob_id(b"0"), "delta/1")
    assert of_tree is not None and of_tree.memory == b"of a tree"
    assert baseline.get(TREE, blob_id(b"tree" * 100)) == b"tree" * 100
    assert baseline.get(TREE, blob_id(b"plain tree")) == b"plain tree"
    assert baseline.get(DATA, blob_id(b"plain tree")) is None and baseline.get(DATA, blob_id(b"17")) is None
    kept = baseline.base(TREE, blob_id(b"plain tree"), "delta/1")
    assert kept is not None and kept.has_data and kept.memory == b""
    baseline.close()


def test_memory_and_bytes_of_one_blob_come_together_and_the_newest_table_wins(tmp_path: Path) -> None:
    def both(table: NewTable) -> None:
        table.remember(payload(b"x" * 50), "delta/1", b"old")
        table.keep(payload(b"x" * 50, DATA, "zstd/1"))

    baseline = remembered(tmp_path, both)
    base = baseline.base(DATA, blob_id(b"x" * 50), "delta/1")
    assert base is not None and (base.memory, base.has_data) == (b"old", True)
    assert baseline.get(DATA, base.id) == b"x" * 50
    baseline.close()
    baseline = remembered(tmp_path, lambda table: table.remember(payload(b"x" * 50), "delta/1", b"new"))
    base = baseline.base(DATA, blob_id(b"x" * 50), "delta/1")
    assert base is not None and base.memory == b"new"
    baseline.close()


def test_a_run_without_new_blobs_leaves_no_table(tmp_path: Path) -> None:
    remembered(tmp_path / "b", lambda table: None).close()
    assert list((tmp_path / "b").iterdir()) == []


def test_an_entry_costs_less_than_forty_bytes(tmp_path: Path) -> None:
    baseline = remembered(tmp_path, memories(1000))
    kept = sum(len(b"memory %d" % number) for number in range(1000))
    assert (baseline.size - kept) / 1000 < 40
    baseline.close()


def test_only_admitted_blobs_are_bases(tmp_path: Path) -> None:
    baseline = remembered(tmp_path, memories(3))
    ids = [blob_id(b"%d" % number) for number in (0, 1, 2, 7)]
    content = KnownContent(baseline, lambda type_, id_: id_ != ids[1], "delta/1", DATA, b"".join(ids))
    found = [content.base(position) for position in range(content.count)]
    assert [base and base.memory for base in found] == [b"memory 0", None, b"memory 2", None]
    baseline.close()


@settings(max_examples=30, deadline=None)
@given(records=st.lists(st.binary(min_size=12, max_size=12), max_size=400))
def test_records_come_back_sorted(tmp_path_factory: pytest.TempPathFactory, records: list[bytes]) -> None:
    with pytest.MonkeyPatch.context() as patch, RecordSorter(12, tmp_path_factory.getbasetemp()) as sorter:
        patch.setattr(sorting_module, "_SPILL_BYTES", 600)
        for record in records:
            sorter.add(record)
        assert b"".join(sorter.sorted()) == b"".join(sorted(records))


# --- torn, foreign, old, unfinished


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_a_damaged_table_never_gives_anything_else(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    folder = tmp_path / str(seed)
    remembered(folder, memories(40)).close()
    path = folder / "table-00000001"
    data = bytearray(path.read_bytes())
    if chance.random() < 0.3:
        data = data[: chance.randrange(len(data))]
    else:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    baseline = Baseline(folder, decoder)
    for number in range(40):
        assert memory_of(baseline, number) in (None, b"memory %d" % number)
    baseline.new_table(LABELS)
    baseline.merge([catalog(tmp_path / "catalog", [b"%d" % number for number in range(40)])])
    baseline.close()


@pytest.mark.parametrize("content", [b"", b"CDRbase\x02" + bytes(100), b"CDRbase\x01", b"\0" * 4096])
def test_what_is_no_table_is_not_used_and_goes_with_the_next_run(tmp_path: Path, content: bytes) -> None:
    remembered(tmp_path, memories(2)).close()
    (tmp_path / "table-00000002").write_bytes(content)
    (tmp_path / "note").write_text("of somebody")
    baseline = remembered(tmp_path, memories(2, 2))
    assert all(memory_of(baseline, number) == b"memory %d" % number for number in range(4))
    assert {path.name for path in tmp_path.iterdir()} == {"table-00000001", "table-00000002", "note"}
    baseline.close()


def test_bytes_that_are_not_the_blobs_are_not_given_out(tmp_path: Path) -> None:
    wrong = Payload(TREE, blob_id(b"right"), PLAIN, 5, b"wrong")
    undecodable = Payload(TREE, blob_id(b"other"), "gone/1", 5, b"?????")

    def write(table: NewTable) -> None:
        table.keep(wrong)
        table.keep(undecodable)

    baseline = Baseline(tmp_path, decoder)
    table = baseline.new_table([*LABELS, "gone/1"])
    write(table)
    table.finish()
    baseline.close()
    baseline = Baseline(tmp_path, decoder)
    assert baseline.get(TREE, blob_id(b"right")) is None and baseline.get(TREE, blob_id(b"other")) is None
    baseline.close()


@pytest.mark.parametrize("torn", [0, 1, 30])
def test_what_a_killed_run_had_written_is_remembered(tmp_path: Path, torn: int) -> None:
    big = bytes(100_000)
    if (child := os.fork()) == 0:
        table = Baseline(tmp_path, decoder).new_table(LABELS)
        for number in range(30):
            table.remember(payload(b"%d" % number), "delta/1", b"%d" % number + big)
        os._exit(0)
    os.waitpid(child, 0)
    (part,) = tmp_path.iterdir()
    assert part.name == "table-00000001.part"
    data = part.read_bytes()
    part.write_bytes(data[: len(data) - torn])
    baseline = remembered(tmp_path, memories(1, 30))
    found = [memory_of(baseline, number) for number in range(31)]
    whole = found.index(None)
    assert 20 <= whole < 30 and found[30] == b"memory 30"
    assert found[:30] == [b"%d" % number + big for number in range(whole)] + [None] * (30 - whole)
    baseline.close()


def test_a_full_disk_costs_only_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    baseline = Baseline(tmp_path, decoder)
    table = baseline.new_table(LABELS)
    memories(1)(table)
    monkeypatch.setattr("cdr_plugin.baseline.table.TableWriter.add", full)
    memories(5)(table)
    table.finish()
    baseline.close()
    assert table.failure is not None and table.failure.errno == 28
    assert list(tmp_path.iterdir()) == []


# --- merging


def test_merged_tables_keep_what_catalogs_name(tmp_path: Path) -> None:
    def trees(table: NewTable) -> None:
        table.keep(payload(b"live tree", TREE))
        table.keep(payload(b"dead tree", TREE))
        table.remember(payload(b"3"), "delta/1", b"newer")

    folder = tmp_path / "b"
    baseline = remembered(folder, *[memories(10, 10 * run) for run in range(8)], trees)
    catalogs = [
        catalog(tmp_path / "one", [b"%d" % number for number in range(0, 80, 3)], [b"live tree"]),
        catalog(tmp_path / "two", [b"1", b"2"]),
    ]
    assert baseline.merge(catalogs) == 1
    live = {*range(0, 80, 3), 1, 2}
    for number in range(80):
        expected = b"newer" if number == 3 else b"memory %d" % number
        assert memory_of(baseline, number) == (expected if number in live else None)
    assert baseline.get(TREE, blob_id(b"live tree")) and not baseline.get(TREE, blob_id(b"dead tree"))
    assert [path.name for path in folder.iterdir()] == ["table-00000010"]
    baseline.close()


def test_tables_of_which_nothing_is_live_vanish(tmp_path: Path) -> None:
    baseline = remembered(tmp_path / "b", *[memories(2, 2 * run) for run in range(9)])
    assert baseline.merge([catalog(tmp_path / "c", [b"none"])]) == 0
    assert list((tmp_path / "b").iterdir()) == []
    baseline.close()


@pytest.mark.parametrize("step", ["finish", "rename", "unlink"])
def test_a_merge_that_is_cut_short_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    folder = tmp_path / "b"
    baseline = remembered(folder, *[memories(10, 10 * run) for run in range(9)])
    names = catalog(tmp_path / "c", [b"%d" % number for number in range(90)])

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        where = "cdr_plugin.baseline.table.TableWriter" if step == "finish" else "pathlib.Path"
        patch.setattr(f"{where}.{step}", cut)
        baseline.merge([names])
    baseline.close()
    baseline = remembered(folder, memories(10, 90))
    assert all(memory_of(baseline, number) for number in range(100))
    assert not (folder / "merge").exists()
    baseline.close()


def test_another_process_reads_on_while_tables_are_merged(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    writer = remembered(folder, *[memories(10, 10 * run) for run in range(9)])
    reader = Baseline(folder, decoder)
    writer.merge([catalog(tmp_path / "c", [b"%d" % number for number in range(90)])])
    assert all(memory_of(reader, number) for number in range(90))
    reader.close()
    writer.close()


@pytest.mark.parametrize(
    ("sizes", "count"),
    [
        ([], 0),
        ([5], 0),
        ([1000, 5], 0),
        ([5, 1000], 0),
        ([2 << 20, 100 << 20], 0),
        ([4 << 20, 6 << 20], 2),
        ([4 << 20, 12 << 20], 2),
        ([4 << 20, 13 << 20], 0),
        ([5] * 9, 9),
        ([5] * 8 + [1000], 8),
        ([5] * 8 + [100], 9),
        ([5, 1000, *[5000] * 10], 12),
    ],
)
def test_tables_are_merged_when_there_are_many_or_much_is_new(sizes: list[int], count: int) -> None:
    assert merge_count(sizes) == count


def test_tables_stay_few_and_are_not_rewritten_all_the_time() -> None:
    """A thousand runs: the sizes as the rule leaves them, and the bytes that merging has written."""
    chance = random.Random(1)
    sizes: list[int] = [100 << 20]
    written = added = 100 << 20
    for _ in range(1000):
        new = chance.choice([0, 10_000, 1 << 20, 8 << 20])
        added += new
        sizes = ([new] if new else []) + sizes
        count = merge_count(sizes)
        if count:
            merged = sum(sizes[:count])
            written += merged
            sizes = [merged, *sizes[count:]]
        assert len(sizes) <= 8
    assert written < 8 * added
