"""CDR and the real restic, in both directions."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import zstandard

from cdr_plugin.contracts import RepositoryOptions
from cdr_plugin.model.blobs import BlobId, BlobType, Payload, blob_id
from cdr_plugin.model.trees import content_ids, decode_tree, subtree_ids
from cdr_plugin.model.versions import encode_snapshot
from cdr_restic.keys import add_key, find_key
from cdr_restic.local import LocalStorage
from cdr_restic.plugin import ResticFormat
from cdr_restic.storage import FileKind
from tests.restic.world import QUICK, TIME, Notes, Place, add_blob, blob_copies, some_blobs, write_version


def test_restic_checks_lists_and_restores_what_cdr_wrote(place: Place, tmp_path: Path) -> None:
    blobs = some_blobs(300)
    with place.repository().writing() as session:
        write_version(session, blobs)
    place.check()
    listed = place.restic("ls", "latest").splitlines()
    assert listed[1:3] == ["/folder", "/folder/file000000"]
    place.restic("restore", "latest", "--target", str(tmp_path / "out"))
    restored = b"".join(file.read_bytes() for file in sorted((tmp_path / "out/folder").iterdir()))
    assert restored == b"".join(blobs)
    assert blob_copies(place) == list(dict.fromkeys(blob_copies(place)))


def test_restic_backs_up_prunes_and_migrates_a_repository_of_cdr(
    place: Place, tmp_path: Path, version: int
) -> None:
    repository = place.repository()
    with repository.writing() as session:
        kept = write_version(session, some_blobs(50))
        dropped = write_version(session, some_blobs(80, seed=2))
    (tmp_path / "source").mkdir()
    (tmp_path / "source/a").write_bytes(os.urandom(100_000))
    place.restic("backup", str(tmp_path / "source"))
    place.restic("forget", dropped, "--prune")
    if version == 1:
        place.restic("migrate", "upgrade_repo_v2")
    place.check()
    with repository.writing() as session:
        assert session.versions[0].id == kept
        assert len(session.versions) == 2
        write_version(session, some_blobs(80, seed=2))
    place.check()
    assert len(place.snapshots()) == 3


@pytest.fixture(scope="module", params=["1", "2"], ids=["v1", "v2"])
def original(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Made by restic alone, with a key of its own making."""
    folder = tmp_path_factory.mktemp("original")
    place = Place(folder / "made", folder / "state", "pässword")
    place.restic("init", "--repository-version", request.param)
    source = folder / "source"
    (source / "sub").mkdir(parents=True)
    (source / "big").write_bytes(os.urandom(3_000_000))
    (source / "zeros").write_bytes(bytes(2_000_000))
    for number in range(50):
        (source / "sub" / f"f{number}").write_bytes(b"x" * number)
    place.restic("backup", "--tag", "a,b", "--exclude", "nothing", str(source))
    place.restic("backup", "--host", "other", str(source))
    return place


@pytest.fixture
def made_by_restic(original: Place, tmp_path: Path) -> Place:
    """A copy of the original whose only key is cheaper to open."""
    place = original.copy(tmp_path)
    storage = LocalStorage(str(place.folder))
    slow = list(storage.list(FileKind.KEYS))
    add_key(storage, find_key(storage, place.password).master, place.password, QUICK)
    for name in slow:
        storage.remove(FileKind.KEYS, name)
    return place


def _walk(place: Place) -> dict[BlobId, bytes]:
    """All data blobs that any snapshot reaches."""
    repository = place.repository()
    with repository.reading() as reader:
        trees = {bytes.fromhex(found.snapshot.tree) for found in repository.versions()}
        data: set[bytes] = set()
        while trees:
            nodes = decode_tree(reader.read(BlobType.TREE, BlobId(trees.pop())))
            trees.update(subtree_ids(nodes))
            data.update(content_ids(nodes))
        ids = [BlobId(id_) for id_ in data]
        blobs = dict(reader.read_many(BlobType.DATA, ids))
        assert list(reader.sizes(BlobType.DATA, ids)) == [len(blobs[id_]) for id_ in ids]
        for id_ in ids[:20]:
            assert reader.read(BlobType.DATA, id_) == blobs[id_]
        assert set(blobs) == data
        return blobs


def test_cdr_reads_every_blob_that_restic_wrote(made_by_restic: Place, tmp_path: Path) -> None:
    blobs = _walk(made_by_restic)
    assert all(blob_id(data) == id_ for id_, data in blobs.items())
    assert bytes(524288) in blobs.values()
    assert b"x" * 49 in blobs.values()


def test_snapshots_equal_those_that_restic_lists(made_by_restic: Place) -> None:
    ours = made_by_restic.repository().versions()
    theirs = made_by_restic.snapshots()
    assert [found.id for found in ours] == [found["id"] for found in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        expected = {key: value for key, value in other.items() if key not in ("id", "short_id")}
        assert json.loads(encode_snapshot(mine.snapshot)) == expected


def test_cdr_writes_beside_restic_and_reuses_its_blobs(made_by_restic: Place) -> None:
    known = _walk(made_by_restic)
    with made_by_restic.repository().writing() as session:
        for id_, data in known.items():
            assert session.has(BlobType.DATA, id_)
            assert not session.add(BlobType.DATA, id_, data)
        write_version(session, some_blobs(100))
    made_by_restic.check()
    assert len(made_by_restic.snapshots()) == 3


def test_keys_that_restic_added_open_the_repository(made_by_restic: Place, tmp_path: Path) -> None:
    for number, password in enumerate((" outer spaces go ", "日本語" * 30)):
        environment = {**os.environ, "RESTIC_PASSWORD": made_by_restic.password}
        # What comes from a file, restic strips.
        subprocess.run(
            ["restic", "-r", str(made_by_restic.folder), "key", "add", "--new-password-file", "/dev/stdin"],
            env=environment, input=password.encode(), check=True, capture_output=True,
        )  # fmt: skip
        options = RepositoryOptions(lambda password=password: password.strip())  # type: ignore[misc]
        opened = ResticFormat().open(str(made_by_restic.folder), options)
        assert opened.id == made_by_restic.repository().id
        assert number + 2 == len(list(LocalStorage(str(made_by_restic.folder)).list(FileKind.KEYS)))


def test_chunker_settings_name_the_polynomial_of_the_config(made_by_restic: Place) -> None:
    config = json.loads(made_by_restic.restic("cat", "config"))
    assert made_by_restic.repository().chunker == {
        "name": "rabin",
        "polynomial": config["chunker_polynomial"],
        "min_size": 524288,
        "max_size": 8388608,
        "average_bits": 20,
    }


def test_a_repository_made_through_the_format_has_modes_folders_and_key_of_restic(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    options = RepositoryOptions(lambda: "pw", tmp_path / "state")
    ResticFormat().create(f"local:{folder}", options, {"polynomial": "3da3358b4dc173"})
    place = Place(folder, tmp_path / "state", "pw")
    assert json.loads(place.restic("cat", "config"))["chunker_polynomial"] == "3da3358b4dc173"
    assert len(list((folder / "data").iterdir())) == 256
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_dir()} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()} == {0o400}
    place.check()


def test_payload_frames_are_stored_as_they_came_and_restic_reads_them(place2: Place) -> None:
    blobs = some_blobs(60, seed=7)
    with place2.repository().writing() as session:
        for blob in blobs:
            frame = zstandard.ZstdCompressor(level=19, write_checksum=True).compress(blob)
            payload = Payload(BlobType.DATA, blob_id(blob), "zstd/1", len(blob), frame)
            assert session.add(BlobType.DATA, blob_id(blob), blob, payload)
            sealed = len(frame) + 32
            # The index in memory knows what was stored.
            assert session._index.find(BlobType.DATA, blob_id(blob)).length == sealed  # type: ignore[attr-defined]
        write_version(session, blobs)
    place2.check()


@pytest.mark.parametrize("mode", ["off", "fastest", "auto", "better", "max"])
def test_every_compression_mode_makes_a_repository_that_restic_reads(place2: Place, mode: str) -> None:
    blobs = [*some_blobs(40), os.urandom(200_000), bytes(300_000)]
    repository = place2.repository()
    repository._options = place2.options(compression=mode)
    with repository.writing() as session:
        write_version(session, blobs)
        plain = add_blob(session, BlobType.DATA, b"")
        session.flush()
        assert session.read(BlobType.DATA, plain) == b""
    place2.check()


def test_a_group_readable_config_makes_group_readable_files(place2: Place) -> None:
    (place2.folder / "config").chmod(0o440)
    with place2.repository().writing() as session:
        write_version(session, some_blobs(3))
    modes = {path.stat().st_mode & 0o777 for path in (place2.folder / "data").rglob("*") if path.is_file()}
    assert modes == {0o440}


def test_many_blobs_are_indexed_in_several_files_and_each_pack_in_one(
    place2: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdr_restic.packing.FULL_INDEX_BLOBS", 100)
    with place2.repository().writing() as session:
        write_version(session, some_blobs(500))
    assert len(list(LocalStorage(str(place2.folder)).list(FileKind.INDEX))) > 2
    place2.check()


def test_a_removed_version_is_gone_for_restic_too(place: Place) -> None:
    notes = Notes()
    with place.repository().writing() as session:
        first = write_version(session, some_blobs(5))
        second = write_version(session, some_blobs(6))
        session.remove_version(first)
        session.remove_version(first)
        assert [found.id for found in session.versions] == [second]
    assert [found["id"] for found in place.snapshots()] == [second]
    assert notes.texts == []
    assert place.snapshots()[0]["time"] == TIME
