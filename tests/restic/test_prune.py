"""Pruning, judged by restic: what it removes, what it keeps, and in the order of which thresholds."""

from __future__ import annotations

import random
import re
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from cdr_plugin.care import PruneOptions, PruneReport
from cdr_plugin.errors import IntegrityError, NotFoundError, UserError
from cdr_plugin.model.blobs import BlobType, blob_id
from cdr_restic.crypto import Sealer
from cdr_restic.files import SealedFiles
from cdr_restic.index import IndexedPack, encode_index
from cdr_restic.local import LocalStorage
from cdr_restic.packs import PackBuilder
from cdr_restic.storage import FileKind
from tests.restic.sound import assert_sound, unindexed
from tests.restic.world import Place, blob_copies, make_place, some_blobs, write_version
from tests.support.changing import change, many_files
from tests.support.compare import assert_same_tree

THOROUGH = PruneOptions(max_unused="0")
NOTHING_UNUSED = {"blobs_duplicate": 0, "blobs_unused": 0, "packs_unreferenced": 0}


def prune(place: Place, **changes: object) -> PruneReport:
    return place.repository().care().prune(replace(THOROUGH, **changes))  # type: ignore[arg-type]


def assert_nothing_unused(place: Place) -> None:
    report = prune(place, dry_run=True)
    assert {name: getattr(report, name) for name in NOTHING_UNUSED} == NOTHING_UNUSED


def test_what_restic_wrote_stays_whole_while_cdr_forgets_and_prunes(
    place: Place, version: int, tmp_path: Path
) -> None:
    """Thirty snapshots of a changing tree (twelve in version 1); random ones go until few are left."""
    snapshots = 30 if version == 2 else 12
    source = random.Random(7)
    (tmp_path / "source").mkdir()
    many_files(tmp_path / "source", source, 60)
    kept_copies = {}
    for number in range(snapshots):
        change(tmp_path / "source", source)
        place.restic("backup", "-q", "--host", f"h{number}", str(tmp_path / "source"))
        if number % 9 == 4:
            shutil.copytree(tmp_path / "source", tmp_path / f"copy{number}", symlinks=True)
            kept_copies[f"h{number}"] = tmp_path / f"copy{number}"
    contents = assert_sound(place)
    assert len(contents) == snapshots
    hosts = {str(snapshot["id"]): str(snapshot["hostname"]) for snapshot in place.snapshots()}
    going = [id_ for id_, host in hosts.items() if host not in kept_copies]
    source.shuffle(going)
    share = len(going) // 3
    for options in (PruneOptions(), PruneOptions(max_unused="200K"), THOROUGH):
        gone, going = going[:share], going[share:]
        report = place.repository().care().forget(gone, options)
        assert report is not None and report.blobs_removed > 0
        contents = {id_: blobs for id_, blobs in contents.items() if id_ not in gone}
        assert assert_sound(place) == contents
        place.check()
    assert_nothing_unused(place)
    for id_ in contents:
        copy = kept_copies.get(hosts[id_])
        if copy is not None:
            target = tmp_path / f"out-{hosts[id_]}"
            place.restic("restore", id_, "--target", str(target))
            assert_same_tree(copy, f"{target}{tmp_path / 'source'}", _link_times)


def _link_times(path: bytes, field: str, facts: dict[str, object]) -> bool:
    return path == b"." or field in ("atime_ns", "ctime_ns")


def test_what_cdr_wrote_stays_whole_while_both_prune_in_turn(place: Place) -> None:
    blobs = some_blobs(300, seed=8)
    source = random.Random(8)
    with place.repository().writing() as session:
        for number in range(30):
            begin = source.randrange(200)
            write_version(session, blobs[begin : begin + 60 + number], f"h{number}")
    contents = assert_sound(place)
    left = sorted(contents)
    source.shuffle(left)
    for turn in range(4):
        gone, left = left[:6], left[6:]
        if turn % 2:
            place.restic("forget", "--prune", "--max-unused", "0", *gone)
        else:
            place.repository().care().forget(gone, THOROUGH)
        assert assert_sound(place) == {id_: contents[id_] for id_ in left}
    place.check()
    with place.repository().writing() as session:
        write_version(session, blobs)
    place.check()


@pytest.fixture(scope="module")
def wasteful(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Packs of every degree of use, in sizes around restic's threshold for small ones; all figures are in its
    default pack size."""
    place = make_place(tmp_path_factory.mktemp("wasteful"))
    source = random.Random(11)
    blobs = [source.randbytes(source.randrange(20_000, 200_000)) for _ in range(160)]
    repository = place.repository()
    for begin in range(0, 160, 8):
        repository._options = place.options(pack_size=source.choice([100_000, 700_000, 900_000]))
        with repository.writing() as session:
            removed = write_version(session, blobs[begin : begin + 8])
            session.remove_version(removed)
    with repository.writing() as session:
        write_version(session, [blob for number, blob in enumerate(blobs) if source.random() * 160 > number])
    return place


@pytest.mark.parametrize(
    "arguments",
    [(), ("--max-unused", "0"), ("--max-unused", "20%"), ("--max-unused", "1M"),
     ("--max-unused", "unlimited"), ("--repack-cacheable-only",), ("--repack-small", "--max-unused", "2%")],
    ids=" ".join,
)  # fmt: skip
def test_a_plan_has_the_figures_of_restic(wasteful: Place, arguments: tuple[str, ...]) -> None:
    """By blobs and packs: of headers restic counts some here and some there."""
    said = wasteful.restic("prune", "--dry-run", "-v", "--no-lock", *arguments)
    options = PruneOptions(
        max_unused=arguments[-1] if "--max-unused" in arguments else "5%",
        repack_cacheable_only="--repack-cacheable-only" in arguments,
        repack_small="--repack-small" in arguments,
        dry_run=True,
    )
    repository = wasteful.repository()
    repository._options = wasteful.options(pack_size=16 * 1024 * 1024)
    ours = repository.care().prune(options)
    figures = {
        "used": ours.blobs_used,
        "unused": ours.blobs_unused,
        "to repack": ours.blobs_repacked,
        "total prune": ours.blobs_removed,
        "remaining": ours.blobs_left,
    }
    assert {name: _figure(said, name, "blobs") for name in figures} == figures
    packs = {
        "to keep": ours.packs_kept,
        "to repack": ours.packs_repacked,
        "to delete": ours.packs_removed + ours.packs_unreferenced,
    }
    assert {name: _figure(said, name, "packs") for name in packs} == packs


def _figure(said: str, name: str, unit: str) -> int:
    found = re.search(rf"^{name}: +(\d+) {unit}", said, re.MULTILINE)
    assert found is not None, said
    return int(found[1])


def test_unreferenced_packs_go_first_and_are_counted(place: Place) -> None:
    with place.repository().writing() as session:
        write_version(session, some_blobs(20))
    name, entries = _save_pack(place, [(BlobType.DATA, blob) for blob in some_blobs(3, seed=5)])
    report = prune(place)
    assert report.packs_unreferenced == 1 and report.bytes_unreferenced == report.bytes_removed > sum(
        entry.length for entry in entries
    )
    assert name not in LocalStorage(str(place.folder)).list(FileKind.DATA)
    place.check()


def test_mixed_packs_are_repacked_into_pure_ones(place: Place) -> None:
    blobs = some_blobs(12)
    with place.repository().writing() as session:
        version = write_version(session, blobs)
    contents = assert_sound(place)
    _rebuild_as_one_pack(place)
    assert "contains a mix of" in place.restic("check", "--read-data")
    report = prune(place, max_unused="unlimited")
    assert report.packs_repacked == 1 and report.blobs_removed == 0
    assert assert_sound(place) == contents == {version: {blob_id(blob) for blob in blobs}}
    place.check()


def _rebuild_as_one_pack(place: Place) -> None:
    """All blobs of all packs together in one."""
    storage, files = LocalStorage(str(place.folder)), _files(place)
    repository = place.repository()
    with repository.reading() as reader:
        found = [(BlobType[name], bytes.fromhex(id_)) for name, id_ in blob_copies(place)]
        blobs = [(type_, reader.read(type_, id_)) for type_, id_ in found]  # type: ignore[arg-type]
    old = [(kind, name) for kind in (FileKind.DATA, FileKind.INDEX) for name in storage.list(kind)]
    pack = _save_pack(place, blobs)
    files.save(FileKind.INDEX, encode_index([pack]))
    for kind, name in old:
        storage.remove(kind, name)


def _save_pack(place: Place, blobs: list[tuple[BlobType, bytes]]) -> IndexedPack:
    """A pack of uncompressed blobs that no index lists."""
    builder = PackBuilder(bytearray(), 1 << 20, Sealer(place.key), 0)
    for type_, blob in blobs:
        builder.append(type_, blob_id(blob), blob, 0)
    data = bytes(builder.finish())
    name = sha256(data).hexdigest()
    LocalStorage(str(place.folder)).save(FileKind.DATA, name, data)
    return IndexedPack(name, builder.entries)


def _files(place: Place) -> SealedFiles:
    return place.repository().files()


def test_of_duplicates_one_copy_stays(place: Place) -> None:
    """Two writers that do not know of each other, and an interrupted repacking."""
    blobs = some_blobs(60, seed=4)
    with place.repository().writing() as session:
        write_version(session, blobs)
    contents = assert_sound(place)
    copies = [_save_pack(place, [(BlobType.DATA, blob) for blob in blobs[begin:][:20]]) for begin in (0, 20, 35)]
    copies.append(_save_pack(place, [(BlobType.DATA, blob) for blob in (*blobs[50:], b"unused", *blobs[55:])]))
    _files(place).save(FileKind.INDEX, encode_index(copies))
    place.restic("check", "--read-data")
    report = prune(place)
    # 20 + 20 + 20 from the three packs, the fourth holds 10 and 5 of them once more.
    assert (report.blobs_duplicate, report.blobs_unused) == (75, 1)
    assert assert_sound(place) == contents
    stored = blob_copies(place)
    assert len(stored) == len(set(stored))
    assert_nothing_unused(place)
    place.check()


def test_a_pack_in_several_index_files_is_counted_once_and_listed_once_afterwards(place: Place) -> None:
    with place.repository().writing() as session:
        write_version(session, some_blobs(50))
    contents = assert_sound(place)
    repository = place.repository()
    with repository.reading() as reader:
        index = reader._index  # type: ignore[attr-defined]
        again = [IndexedPack(run.name, index.entries(run.number)) for run in index.packs()]
    _files(place).save(FileKind.INDEX, encode_index(again[::2]))
    assert "several indexes" in place.restic("check", "--read-data")
    report = prune(place)
    assert (report.blobs_duplicate, report.blobs_unused, report.packs_repacked) == (0, 0, 0)
    assert assert_sound(place) == contents
    place.check()


def test_uncompressed_trees_are_compressed_and_data_when_asked(tmp_path: Path) -> None:
    place = make_place(tmp_path, version=1)
    with place.repository().writing() as session:
        write_version(session, [bytes([number]) * 4000 for number in range(40)])
    contents = assert_sound(place)
    place.restic("migrate", "upgrade_repo_v2")
    report = prune(place, max_unused="unlimited")
    assert report.packs_repacked == 1, "the pack of trees"
    report = prune(place, max_unused="unlimited", repack_uncompressed=True)
    assert report.packs_repacked == report.packs_kept + report.packs_repacked - 1 > 1
    assert assert_sound(place) == contents
    assert sum(file.stat().st_size for file in (place.folder / "data").rglob("*") if file.is_file()) < 8000
    assert prune(place, repack_uncompressed=True).packs_repacked == 0
    place.check()


def test_small_packs_are_joined_when_there_are_ten(place2: Place) -> None:
    repository = place2.repository()
    for number in range(5):
        assert prune(place2).packs_repacked == 0
        with repository.writing() as session:
            write_version(session, [bytes([number])])
    storage = LocalStorage(str(place2.folder))
    assert len(list(storage.list(FileKind.DATA))) == 10
    assert len(list(storage.list(FileKind.INDEX))) == 5
    report = prune(place2, max_unused="unlimited")
    assert report.packs_repacked == 10 and report.blobs_removed == 0
    assert len(list(storage.list(FileKind.DATA))) == 2
    assert len(list(storage.list(FileKind.INDEX))) == 1
    place2.check()


def _untouched(place: Place) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in place.folder.rglob("*") if path.is_file()}


def _break(place: Place, kind: str) -> None:
    """Damage something that the only version needs."""
    packs = {p.name: p for p in (place.folder / "data").rglob("*") if p.is_file()}
    with place.repository().reading() as reader:
        index = reader._index  # type: ignore[attr-defined]
        root = bytes.fromhex(place.repository().versions()[0].snapshot.tree)
        tree, blob = index.find(BlobType.TREE, root), index.find(BlobType.DATA, blob_id(some_blobs(40)[3]))
        data_pack = index.pack_name(blob.pack)
    path = packs[index.pack_name(tree.pack) if kind == "damaged tree" else data_pack]
    path.chmod(0o600)
    if kind == "missing pack":
        path.unlink()
    elif kind == "longer pack":
        path.write_bytes(path.read_bytes() + b"x")
    elif kind == "damaged tree":
        data = bytearray(path.read_bytes())
        data[tree.offset + 20] ^= 1
        path.write_bytes(data)
    elif kind == "blob in no index":
        storage = LocalStorage(str(place.folder))
        runs = [IndexedPack(r.name, index.entries(r.number)) for r in index.packs()]
        changed = [IndexedPack(p.name, p.entries[1:]) if p.name == data_pack else p for p in runs]
        old = list(storage.list(FileKind.INDEX))
        _files(place).save(FileKind.INDEX, encode_index(changed))
        for name in old:
            storage.remove(FileKind.INDEX, name)


@pytest.mark.parametrize(
    ("kind", "text"),
    [("missing pack", "packs that versions need are missing"), ("longer pack", "of another size"),
     ("damaged tree", "is damaged"), ("blob in no index", "are in no index: data ")],
)  # fmt: skip
def test_damage_stops_a_prune_before_anything_is_changed(place2: Place, kind: str, text: str) -> None:
    with place2.repository().writing() as session:
        write_version(session, some_blobs(40))
        session.remove_version(write_version(session, some_blobs(60, seed=2)))
    _save_pack(place2, [(BlobType.DATA, b"unindexed")])
    _break(place2, kind)
    before = _untouched(place2)
    with pytest.raises(IntegrityError) as caught:
        prune(place2)
    assert text in str(caught.value) and "nothing was changed" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert _untouched(place2) == before


def test_a_damaged_blob_is_not_copied_and_no_pack_goes(place2: Place) -> None:
    blobs = some_blobs(40)
    with place2.repository().writing() as session:
        removed = write_version(session, blobs)
        write_version(session, blobs[::2])
        session.remove_version(removed)
    storage = LocalStorage(str(place2.folder))
    before = set(storage.list(FileKind.DATA))
    with place2.repository().reading() as reader:
        place = reader._index.find(BlobType.DATA, blob_id(blobs[2]))  # type: ignore[attr-defined]
        path = place2.folder / "data" / (name := reader._index.pack_name(place.pack))[:2] / name  # type: ignore[attr-defined]
    data = bytearray(path.read_bytes())
    data[place.offset + 20] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    with pytest.raises(IntegrityError) as caught:
        prune(place2)
    assert blob_id(blobs[2]).hex()[:10] in str(caught.value) and name[:10] in str(caught.value)
    assert "no needed blob was removed" in str(caught.value)
    assert before <= set(storage.list(FileKind.DATA))
    assert storage.list(FileKind.LOCKS) and not list(storage.list(FileKind.LOCKS))


def test_a_missing_pack_that_nobody_needs_is_dropped_from_the_index(place2: Place) -> None:
    with place2.repository().writing() as session:
        write_version(session, some_blobs(20))
    contents = assert_sound(place2)
    pack = _save_pack(place2, [(BlobType.DATA, b"gone")])
    _files(place2).save(FileKind.INDEX, encode_index([pack]))
    LocalStorage(str(place2.folder)).remove(FileKind.DATA, pack.name)
    prune(place2)
    assert assert_sound(place2) == contents
    place2.check()


def test_a_dry_run_changes_nothing_and_may_count_versions_as_removed(place2: Place) -> None:
    with place2.repository().writing() as session:
        first = write_version(session, some_blobs(20))
        write_version(session, some_blobs(30, seed=2))
    before = _untouched(place2)
    care = place2.repository().care()
    assert care.prune(replace(THOROUGH, dry_run=True)).blobs_removed == 0
    planned = care.prune(replace(THOROUGH, dry_run=True), without=[first])
    assert planned.blobs_removed == 22
    assert _untouched(place2) == before
    with pytest.raises(UserError, match="still exists"):
        care.prune(THOROUGH, without=[first])
    assert _untouched(place2) == before
    assert care.forget([first], THOROUGH) == planned
    place2.check()


def test_versions_are_replaced_by_writing_first_and_only_where_they_exist(place2: Place) -> None:
    repository = place2.repository()
    with repository.writing() as session:
        id_ = write_version(session, some_blobs(5))
    [version] = repository.versions()
    changed = msgspec.structs.replace(version.snapshot, tags=["kept"])
    new = repository.care().replace_versions({id_: changed})
    assert [snapshot["id"] for snapshot in place2.snapshots()] == [new[id_]]
    assert place2.snapshots()[0]["tags"] == ["kept"]
    with pytest.raises(NotFoundError, match=id_[:8]):
        repository.care().replace_versions({id_: changed})
    with pytest.raises(UserError, match="full ID"):
        repository.care().forget(["../../keys"])
    assert len(place2.snapshots()) == 1


def test_options_that_cannot_be_are_refused(place: Place, version: int) -> None:
    care = place.repository().care()
    for text in ("100%", "-1", "5 %", "lots", "5%5", "1Q", ""):
        with pytest.raises(UserError, match="max-unused"):
            care.prune(PruneOptions(max_unused=text))
    with pytest.raises(UserError, match="max-repack-size"):
        care.prune(PruneOptions(max_repack_size=-1))
    if version == 1:
        with pytest.raises(UserError, match="version 2"):
            care.prune(PruneOptions(repack_uncompressed=True))
    assert unindexed(place) == []
