"""Whatever ``restic check`` finds, ``cdr check`` finds: every kind of file, damaged in every way."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from cdr_plugin.care import CheckOptions
from cdr_plugin.errors import CdrError
from cdr_plugin.model.blobs import BlobType
from cdr_restic.crypto import KeyMaterial, Sealer
from cdr_restic.files import SealedFiles
from cdr_restic.local import LocalStorage
from cdr_restic.lock_files import our_lock
from cdr_restic.packs import load_header
from cdr_restic.recovery import verify_pack
from cdr_restic.repository import open_repository
from cdr_restic.storage import FileKind
from tests.restic.world import AT_ONCE, Place, make_place, some_blobs, write_version

Damage = Callable[[Place, Path], None]
_RESTIC_CRASHED = 2


@pytest.fixture(scope="module", params=[1, 2], ids=["v1", "v2"])
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Two versions, each with a pack of data, one of trees and an index of its own."""
    place = make_place(tmp_path_factory.mktemp("sound"), request.param)
    for seed in (1, 2):
        with place.repository().writing() as session:
            write_version(session, some_blobs(8, seed), host=f"h{seed}")
    return place


def _put(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def _packs(place: Place, type_: BlobType) -> list[Path]:
    storage = LocalStorage(str(place.folder))
    entries = {name: verify_pack(storage, place.key, name) for name in sorted(storage.list(FileKind.DATA))}
    return [place.folder / "data" / name[:2] / name for name, found in entries.items() if found[0].type is type_]


def _files(place: Place, kind: str) -> list[Path]:
    if kind in ("data pack", "tree pack"):
        return _packs(place, BlobType.DATA if kind == "data pack" else BlobType.TREE)
    if kind == "config":
        return [place.folder / "config"]
    return sorted(path for path in (place.folder / kind).iterdir() if path.is_file())


def flip(where: float | int) -> Damage:
    """A bit at a place: a fraction of the file, or an offset, from the end if it is negative."""

    def act(place: Place, path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[int(len(data) * where) if isinstance(where, float) else where] ^= 8
        _put(path, bytes(data))

    return act


def flip_blob_tag(place: Place, path: Path) -> None:
    data = bytearray(path.read_bytes())
    entries = load_header(lambda o, n: bytes(data[o : o + n]), len(data), Sealer(place.key))
    data[entries[0].length - 1] ^= 8
    _put(path, bytes(data))


def truncate(keep: float | int) -> Damage:
    def act(place: Place, path: Path) -> None:
        data = path.read_bytes()
        _put(path, data[: int(len(data) * keep) if isinstance(keep, float) else keep])

    return act


def append(place: Place, path: Path) -> None:
    _put(path, path.read_bytes() + b"garbage")


def remove(place: Place, path: Path) -> None:
    path.unlink()


def swap(place: Place, path: Path) -> None:
    """The bytes of another file of the kind, under this one's name."""
    kind = next(kind for kind in KINDS if path in _files(place, kind))
    _put(path, next(other for other in _files(place, kind) if other != path).read_bytes())


def stray(place: Place, path: Path) -> None:
    """A file more, whose name fits its bytes, which mean nothing."""
    data = b"garbage" * 30
    _put(path.parent / sha256(data).hexdigest(), data)


def stray_name(place: Place, path: Path) -> None:
    _put(path.parent / "README-tmp-1", b"")


def doubled(place: Place, path: Path) -> None:
    """The same content sealed once more, so under another name."""
    kind = FileKind(path.parent.name)
    files = _sealed_files(place)
    files.save(kind, files.load(kind, path.name))


def unindexed(place: Place, path: Path) -> None:
    """A pack of another repository, or a sound one, that no index lists."""
    data = path.read_bytes()[::-1]
    name = sha256(data).hexdigest()
    _put(place.folder / "data" / name[:2] / name, data)


def _sealed_files(place: Place) -> SealedFiles:
    return SealedFiles(LocalStorage(str(place.folder)), place.key, place.repository().files().version)


def foreign_lock(exclusive: bool) -> Damage:
    def act(place: Place, path: Path) -> None:
        _sealed_files(place).save(FileKind.LOCKS, our_lock(exclusive=exclusive))

    return act


def garbage_lock(place: Place, path: Path) -> None:
    data = b"no lock at all" * 9
    _put(place.folder / "locks" / sha256(data).hexdigest(), data)


def foreign_seal(place: Place, path: Path) -> None:
    """Sealed by another key, under the right name for its bytes."""
    sealed = Sealer(KeyMaterial.random()).seal(b'{"packs":[]}')
    _put(path.parent / sha256(sealed).hexdigest(), sealed)


FILE_DAMAGES: dict[str, Damage] = {
    "flipped IV": flip(0),
    "flipped middle": flip(0.5),
    "flipped tag": flip(-1),
    "one byte short": truncate(-1),
    "empty": truncate(0),
    "removed": remove,
    "swapped": swap,
    "longer": append,
}
PACK_DAMAGES: dict[str, Damage] = {
    "flipped tag of a blob": flip_blob_tag,
    "flipped header": flip(-30),
    "flipped header length": flip(-4),
    "huge header length": flip(-1),
    "half": truncate(0.5),
}
KINDS: dict[str, dict[str, Damage]] = {
    "config": {name: damage for name, damage in FILE_DAMAGES.items() if name != "swapped"},
    "keys": {name: damage for name, damage in FILE_DAMAGES.items() if name != "swapped"},
    "index": {**FILE_DAMAGES, "stray": stray, "stray name": stray_name, "doubled": doubled, "foreign": foreign_seal},
    "snapshots": {**FILE_DAMAGES, "stray": stray, "stray name": stray_name, "foreign": foreign_seal},
    "tree pack": {**FILE_DAMAGES, **PACK_DAMAGES},
    "data pack": {**FILE_DAMAGES, **PACK_DAMAGES, "stray name": stray_name, "unindexed": unindexed},
}
CASES = [(kind, name) for kind, damages in KINDS.items() for name in damages]
STRUCTURAL = {"flipped middle", "one byte short", "removed", "swapped", "half", "doubled", "unindexed"}
"""Tried without reading packs, too."""
UNNOTICED = {"stray name", "doubled", "unindexed"}
"""Nothing is lost; and of a snapshot that is gone, nobody knows."""


def _restic(place: Place, *arguments: str) -> int:
    environment = {**os.environ, "RESTIC_PASSWORD": place.password, "RESTIC_REPOSITORY": str(place.folder)}
    command = ["restic", "--no-cache", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, check=False, timeout=120).returncode


def _cdr(place: Place, options: CheckOptions, *, no_lock: bool = True) -> int:
    """The exit code of ``cdr check``; whatever is no CdrError fails the test."""
    opening = place.options(pack_size=4 * 1024 * 1024, no_lock=no_lock)
    try:
        repository = open_repository(LocalStorage(str(place.folder)), opening, AT_ONCE)
        return 1 if repository.care().check(options).errors else 0
    except CdrError as error:
        return error.exit_code


def _copy(place: Place, folder: Path) -> Place:
    shutil.copytree(place.folder, folder / "repository", copy_function=os.link)
    return Place(folder / "repository", folder / "state", known_key=place.key)


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_check_finds_what_restic_finds(sound: Place, tmp_path: Path, kind: str, name: str) -> None:
    place = _copy(sound, tmp_path)
    KINDS[kind][name](place, _files(place, kind)[0])
    ours = _cdr(place, CheckOptions(read_data=True))
    assert (ours == 0) == (name in UNNOTICED or (kind, name) == ("snapshots", "removed"))
    if ours == 0:
        assert _restic(place, "--no-lock", "check", "--read-data") == 0
    if name in STRUCTURAL and _cdr(place, CheckOptions()) == 0:
        assert _restic(place, "--no-lock", "check") == 0


@pytest.mark.parametrize(("kind", "name"), [("index", "foreign"), ("data pack", "flipped middle")])
def test_restic_too_finds_what_we_find(sound: Place, tmp_path: Path, kind: str, name: str) -> None:
    """A few only: where a file is missing, short or has the wrong hash, restic tries again for a minute."""
    place = _copy(sound, tmp_path)
    KINDS[kind][name](place, _files(place, kind)[0])
    assert _restic(place, "--no-lock", "check", "--read-data") == 1


@pytest.mark.parametrize(
    ("damage", "expected"),
    [(foreign_lock(True), 11), (foreign_lock(False), 11), (garbage_lock, 11)],
    ids=["exclusive", "shared", "garbage"],
)
def test_locks_of_others_keep_us_out_unless_no_lock_is_asked_for(
    sound: Place, tmp_path: Path, damage: Damage, expected: int
) -> None:
    place = _copy(sound, tmp_path)
    damage(place, place.folder)
    assert _cdr(place, CheckOptions(), no_lock=False) == expected
    assert _cdr(place, CheckOptions(), no_lock=True) == 0
    if damage is not garbage_lock:  # restic 0.14 passes over those that it cannot read
        assert _restic(place, "check") not in (0, _RESTIC_CRASHED)
