"""restic as the judge of the archiver: a repository, and what restic says about the same files."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, tzinfo
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any

from cdr_plugin.archiver import ArchiveOptions, ArchiveResult, ExcludeRules, NewBlob, archive
from cdr_plugin.contracts import Splitter
from cdr_plugin.kernel import Chunker
from cdr_plugin.model.blobs import BlobId, BlobType, Buffer, blob_id
from cdr_plugin.reporter import Reporter
from cdr_restic.keys import Scrypt, decode_key, encode_key

PASSWORD = "archiver"
POLYNOMIAL = 0x3DA3358B4DC173
_SAVED = re.compile(r"snapshot ([0-9a-f]+) saved").search


class ChunkerSplitter(Splitter):
    """restic's cut points."""

    def __init__(self, polynomial: int, min_size: int = 524288, max_size: int = 8388608, bits: int = 20) -> None:
        self.min_size = min_size
        self.max_size = max_size
        self._chunker = Chunker(polynomial, min_size, max_size, bits)

    def reset(self) -> None:
        self._chunker.reset()

    def feed(self, data: Buffer) -> Sequence[int]:
        return self._chunker.feed(data)


class Shelf:
    """A sink that keeps everything and checks what it is given."""

    def __init__(self) -> None:
        self.blobs: dict[tuple[BlobType, BlobId], bytes] = {}
        self.given = 0
        self._lock = Lock()

    def add_many(self, type_: BlobType, blobs: Sequence[NewBlob]) -> None:
        for id_, data, _, _ in blobs:
            assert blob_id(data) == id_
            with self._lock:
                self.given += 1
                self.blobs[type_, id_] = bytes(data)


class Listener(Reporter):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.errors: dict[str, str] = {}
        self.notes: list[str] = []

    def error(self, item: str, during: str, error: Exception | str) -> None:
        assert during == "archival"
        self.errors[item] = str(error)

    def note(self, text: str) -> None:
        self.notes.append(text)


class Machine:
    """Archives like a client: remembers its catalog from run to run."""

    def __init__(self, folder: Path, polynomial: int = POLYNOMIAL, **splitter: int) -> None:
        self.folder = folder
        self.sink = Shelf()
        self.catalog: Path | None = None
        self.listener = Listener()
        self._polynomial = polynomial
        self._splitter = splitter
        self._runs = 0

    def run(
        self,
        *paths: bytes | str | Path,
        zone: tzinfo = UTC,
        exclude: ExcludeRules = ExcludeRules(),  # noqa: B008
        **options: Any,
    ) -> ArchiveResult:
        self._runs += 1
        self.listener = Listener()
        new = self.folder / f"catalog-{self._runs}"
        result = archive(
            ArchiveOptions(paths=paths, zone=zone, exclude=exclude, **options),
            self.sink,
            splitter=lambda: ChunkerSplitter(self._polynomial, **self._splitter),
            old_catalog=self.catalog,
            new_catalog=new,
            reporter=self.listener,
        )
        self.catalog = new
        return result

    def forget(self) -> None:
        """Start from nothing."""
        self.catalog = None


class Restic:
    """A repository of the installed restic."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._call("init")
        self._cheapen_key()
        self.polynomial = int(json.loads(self._call("cat", "config"))["chunker_polynomial"], 16)

    def backup(
        self,
        *arguments: str | bytes,
        cwd: Path | None = None,
        tz: str = "UTC",
        parent: bool = False,
        stdin: bytes = b"",
    ) -> dict[str, Any]:
        """The snapshot that ``restic backup`` makes, with what it printed as ``said``."""
        force = [] if parent else ["--force"]
        said = self._call("backup", *force, *arguments, cwd=cwd, tz=tz, stdin=stdin)
        found = _SAVED(said)
        assert found is not None, said
        snapshot: dict[str, Any] = json.loads(self._call("cat", "snapshot", found[1]))
        return snapshot | {"said": said}

    def refuses(self, *arguments: str, cwd: Path, because: str) -> None:
        """Assert that ``restic backup`` fails and says so."""
        assert because in self._call("backup", *arguments, cwd=cwd, code=1)

    def _cheapen_key(self) -> None:
        """restic spends half a second on the key in every call; one that costs nothing will do."""
        (path,) = (self._folder / "repository" / "keys").iterdir()
        key = encode_key(decode_key(path.read_bytes(), PASSWORD), PASSWORD, Scrypt(2, 8, 1))
        (path.parent / sha256(key).hexdigest()).write_bytes(key)
        path.unlink()

    def _call(
        self,
        command: str,
        *arguments: str | bytes,
        cwd: Path | None = None,
        tz: str = "UTC",
        code: int = 0,
        stdin: bytes = b"",
    ) -> str:
        environment = os.environ | {
            "RESTIC_REPOSITORY": str(self._folder / "repository"),
            "RESTIC_PASSWORD": PASSWORD,
            "RESTIC_CACHE_DIR": str(self._folder / "cache"),
            "TZ": tz,
        }
        environment.pop("PWD", None)
        command_line = ["restic", command, *arguments]
        done = subprocess.run(command_line, cwd=cwd, env=environment, input=stdin, capture_output=True)
        assert done.returncode == code, done.stderr.decode(errors="replace")
        return (done.stderr if code == 1 else done.stdout).decode(errors="replace")


def agree(
    restic: Restic,
    machine: Machine,
    *paths: str | bytes,
    rules: Sequence[str] = (),
    cwd: Path | None = None,
    **options: Any,
) -> ArchiveResult:
    """Assert that restic and the machine make the same of ``paths``.

    The folders above the paths belong to everybody on this computer; when one of them changed
    meanwhile, the machine's runs before and after restic's differ, and the comparison is repeated.
    """
    if cwd is not None:
        options["cwd"] = cwd
    for _ in range(20):
        before = machine.run(*paths, **options)
        expected = restic.backup(*rules, *paths, cwd=cwd)
        after = machine.run(*paths, **options)
        if before.root_tree == after.root_tree:
            break
    assert after.root_tree.hex() == expected["tree"], expected["said"]
    assert after.paths == expected["paths"]
    return after
