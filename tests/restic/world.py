"""What the tests of the restic format share: the real restic, small repositories, faulty storage."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from cdr_plugin.contracts import RepositoryOptions, RepositoryPass
from cdr_plugin.errors import RemoteError
from cdr_plugin.model.blobs import BlobId, BlobType, Buffer, blob_id
from cdr_plugin.model.trees import GO_DIR, Node, encode_tree
from cdr_plugin.model.versions import Snapshot
from cdr_plugin.reporter import Reporter
from cdr_restic.config import load_config
from cdr_restic.creating import create_repository
from cdr_restic.crypto import KeyMaterial
from cdr_restic.keys import OpenedKey, Scrypt, add_key, find_key
from cdr_restic.local import LocalStorage
from cdr_restic.locks import LockTimes
from cdr_restic.recovery import verify_pack
from cdr_restic.repository import ResticRepository
from cdr_restic.storage import FileKind, Storage

PASSWORD = "correct horse"
QUICK = Scrypt(1024, 8, 1)
AT_ONCE = LockTimes(settle_s=0, unreadable_s=())
TIME = "2024-02-03T04:05:06Z"


class Notes(Reporter):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


@dataclass
class Place:
    """A repository folder with its state folder, and restic to judge it."""

    folder: Path
    state: Path
    password: str = PASSWORD
    notes: Notes = field(default_factory=Notes)
    known_key: KeyMaterial | None = None
    """Remembered, since finding it takes longer than most tests."""
    known_key_id: str = ""

    @property
    def key(self) -> KeyMaterial:
        return self.known_key or self._opened().master

    @property
    def key_id(self) -> str:
        return self.known_key_id or self._opened().id

    def _opened(self) -> OpenedKey:
        found = find_key(LocalStorage(str(self.folder)), self.password)
        self.known_key_id, self.known_key = found
        return found

    def options(self, **changes: object) -> RepositoryOptions:
        values: dict[str, object] = {"state": self.state, "pack_size": 16 * 1024, "reporter": self.notes}
        return RepositoryOptions(lambda: self.password, **{**values, **changes})  # type: ignore[arg-type]

    def repository(self, storage: Storage | None = None, times: LockTimes = AT_ONCE) -> ResticRepository:
        """Opened without the checks of options, so that packs may be small."""
        storage = storage or LocalStorage(str(self.folder))
        config = load_config(LocalStorage(str(self.folder)), self.key)
        return ResticRepository(storage, OpenedKey(self.key_id, self.key), config, self.options(), times)

    def restic(self, *arguments: str, fails: bool = False) -> str:
        """Standard output; with ``fails``, all output of a run that must not succeed."""
        environment = {**os.environ, "RESTIC_PASSWORD": self.password, "RESTIC_REPOSITORY": str(self.folder)}
        done = subprocess.run(
            ["restic", "--no-cache", *arguments], env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr if fails else done.stdout

    def check(self) -> None:
        """Not one error, and no hint either."""
        output = self.restic("check", "--read-data")
        assert "no errors were found" in output
        for hint in ("contained in several indexes", "contains a mix", "not referenced in any index"):
            assert hint not in output, output

    def snapshots(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(self.restic("snapshots", "--json"))
        return found

    def copy(self, folder: Path) -> Place:
        shutil.copytree(self.folder, folder / "repository")
        (folder / "state").mkdir()
        return replace(self, folder=folder / "repository", state=folder / "state", notes=Notes(), known_key=self.key)


def make_place(folder: Path, version: int = 2) -> Place:
    place = Place(folder / "repository", folder / "state")
    options = place.options(settings={"version": version}, pack_size=4 * 1024 * 1024)
    made = create_repository(LocalStorage(str(place.folder)), options, {}, QUICK)
    place.known_key, place.known_key_id = made._key, made.key_id
    return place


def made_by_restic(folder: Path) -> Place:
    """An empty repository that restic made, with a key that is cheap to open."""
    folder.mkdir()
    place = Place(folder / "repository", folder / "state")
    place.restic("init")
    storage = LocalStorage(str(place.folder))
    slow = list(storage.list(FileKind.KEYS))
    add_key(storage, place.key, place.password, QUICK)
    for name in slow:
        storage.remove(FileKind.KEYS, name)
    return place


def some_blobs(count: int, seed: int = 1, largest: int = 4000) -> list[bytes]:
    """Half of each compresses; the first is one byte."""
    source = random.Random(seed)
    sizes = [1] + [source.randrange(1, largest) for _ in range(count - 1)]
    return [source.randbytes(size // 2 + 1)[:size] + bytes(size - min(size, size // 2 + 1)) for size in sizes]


def node(name: str, **fields: object) -> Node:
    values: dict[str, object] = {
        "type": "file", "uid": 0, "gid": 0, "content": None, "mode": 0o644,
        "mtime": TIME, "atime": TIME, "ctime": TIME,
    }
    return Node(name=name, **{**values, **fields})  # type: ignore[arg-type]


def add_blob(session: RepositoryPass, type_: BlobType, data: bytes) -> BlobId:
    id_ = blob_id(data)
    session.add(type_, id_, data)
    return id_


def write_version(session: RepositoryPass, blobs: list[bytes], host: str = "h") -> str:
    """A version with one folder of files, each of up to ten blobs; its snapshot ID."""
    ids = [add_blob(session, BlobType.DATA, blob) for blob in blobs]
    files = []
    for start in range(0, len(blobs), 10):
        size = sum(map(len, blobs[start : start + 10]))
        content = [id_.hex() for id_ in ids[start : start + 10]]
        files.append(node(f"file{start:06}", size=size, content=content))
    folder = add_blob(session, BlobType.TREE, encode_tree(files))
    root = encode_tree([node("folder", type="dir", mode=GO_DIR | 0o755, subtree=folder.hex())])
    tree = add_blob(session, BlobType.TREE, root)
    return session.add_version(Snapshot(time=TIME, tree=tree.hex(), paths=["/folder"], hostname=host))


class FaultyStorage(Storage):
    """Passes operations on and counts them; ``fault`` is called at the chosen one, before it
    happens, or after, or halfway: a torn temporary file."""

    def __init__(self, folder: Path, at: int, when: str, fault: Callable[[], None]) -> None:
        self.location = str(folder)
        self._inner = LocalStorage(str(folder))
        self._folder = folder
        self._at = at
        self._when = when
        self._fault = fault
        self.count = 0
        self.fired = False

    def _turn(self) -> bool:
        self.count += 1
        return self.count == self._at

    def _fire(self) -> None:
        self.fired = True
        self._fault()

    def _around(self, act: Callable[[], object]) -> object:
        now = self._turn()
        if now and self._when != "after":
            self._fire()
        result = act()
        if now and self._when == "after":
            self._fire()
        return result

    def make_folders(self) -> None:
        self._around(self._inner.make_folders)

    def save(self, kind: FileKind, name: str, data: Buffer) -> None:
        now = self._turn()
        if now and self._when == "torn":
            folder = self._folder / kind / (name[:2] if kind is FileKind.DATA else "")
            (folder / f"{name}-tmp-123").write_bytes(bytes(data)[: len(data) // 2])
        if now and self._when != "after":
            self._fire()
        self._inner.save(kind, name, data)
        if now and self._when == "after":
            self._fire()

    def load_part(self, kind: FileKind, name: str, offset: int, length: int) -> bytes:
        result = self._around(lambda: self._inner.load_part(kind, name, offset, length))
        assert isinstance(result, bytes)
        return result

    def size(self, kind: FileKind, name: str) -> int:
        result = self._around(lambda: self._inner.size(kind, name))
        assert isinstance(result, int)
        return result

    def list(self, kind: FileKind) -> Iterator[str]:
        found = self._around(lambda: sorted(self._inner.list(kind)))
        assert isinstance(found, list)
        return iter(found)

    def remove(self, kind: FileKind, name: str) -> None:
        self._around(lambda: self._inner.remove(kind, name))


def fail() -> None:
    raise RemoteError("planned fault")


def blob_copies(place: Place) -> list[tuple[str, str]]:
    """Every blob of every pack, (type, ID), as often as it is stored, indexed or not."""
    storage = LocalStorage(str(place.folder))
    found = []
    for name in storage.list(FileKind.DATA):
        found += [(entry.type.name, entry.id.hex()) for entry in verify_pack(storage, place.key, name)]
    return found
