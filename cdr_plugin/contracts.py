"""The contracts between the framework and its plugins. A plugin author reads this file.

A plugin is a module named by an entry point of group ``cdr``. It implements one or more of the
``cdr_*`` hooks below; each hook registers one object, the object does the work. Importing a
plugin module must be cheap: import heavy libraries where they are first used.

::

    # my_plugin.py                                  # pyproject.toml
    from cdr_plugin.contracts import hookimpl       [project.entry-points.cdr]
                                                    mine = "my_plugin"
    @hookimpl
    def cdr_reduction_methods():
        return [MyMethod()]

Errors: raise the classes of ``cdr_plugin.errors``; translate what your libraries raise.
Threads: objects that a hook returns are shared by threads and hold no mutable state; what their
factory methods return (splitter, encoder, decoder, transport, repository) belongs to one thread,
except where a docstring says otherwise.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Flag, auto
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeAlias

import pluggy

from cdr_plugin.care import RepositoryCare
from cdr_plugin.errors import IntegrityError, NotFoundError, UserError
from cdr_plugin.model.blobs import BlobId, BlobType, Buffer, Payload
from cdr_plugin.model.versions import Snapshot
from cdr_plugin.reporter import Reporter

ENTRY_POINT_GROUP = "cdr"

hookspec = pluggy.HookspecMarker("cdr")
hookimpl = pluggy.HookimplMarker("cdr")

Settings: TypeAlias = Mapping[str, Any]
"""A plugin's own table of the config file, as TOML types; empty when there is none."""

Travelled: TypeAlias = Callable[[int], None]
"""Called with the number of bytes that have just travelled."""

FetchBlob: TypeAlias = Callable[[BlobType, BlobId], bytes]
"""Plaintext of a blob that the asking side holds verified; NotFoundError when it does not."""


# --- reduction methods ------------------------------------------------------------------------


class Splitter(ABC):
    """Finds where the blobs of a stream end. Serves one stream at a time."""

    min_size: int
    """Streams of at most this many bytes are one blob; callers need not ask."""
    max_size: int
    """No blob is longer; callers buffer at most this much."""

    @abstractmethod
    def reset(self) -> None:
        """Start a new stream."""

    @abstractmethod
    def feed(self, data: Buffer) -> Sequence[int]:
        """Offsets in ``data``, ascending, just behind which a blob ends.

        Any division of a stream into buffers must give the same blobs. What follows the last
        offset belongs to the next blob; the end of the stream ends it.
        """


@dataclass(frozen=True, slots=True)
class Base:
    """A blob of an older content, which the receiver holds verified: its plain bytes, what ``Encoder.remember`` gave
    for it (empty when nothing is kept), and whether its plaintext is kept as well."""

    id: BlobId
    length: int
    memory: bytes = b""
    has_data: bool = False


class OldContent(ABC):
    """The older content of a file or folder: its ``count`` blobs in order. May be used by several threads."""

    type: BlobType
    count: int

    @abstractmethod
    def base(self, position: int) -> Base | None:
        """The blob at ``position``, from 0; None where it must not serve as a base, or nothing is known of
        it. Reads its memory: ask seldom, in ascending order where possible."""

    @abstractmethod
    def data(self, position: int) -> bytes | None:
        """Its plaintext, verified; None where it is not kept, or damaged. Reads and decodes it."""


class Differ(ABC):
    """Encodes the blobs of one content against an older one. Several threads may use it at once, and ask
    for blobs about in the order of their offsets. Memory is bounded however long the contents are."""

    @abstractmethod
    def encode(self, blob: Buffer, offset: int) -> Buffer | None:
        """The blob that begins ``offset`` bytes into the new content; None when the bases do not help."""


class Encoder(ABC):
    """Encodes blobs. One per thread."""

    @abstractmethod
    def encode(self, blob: Buffer) -> Buffer | None:
        """The encoded blob, or None when it is better sent without this method."""

    def encode_many(self, blobs: Sequence[Buffer]) -> Sequence[Buffer | None]:
        """``encode`` of each; override to release the GIL once for all."""
        return [self.encode(blob) for blob in blobs]

    def remember(self, blob: Buffer, offset: int) -> bytes:
        """What the client is to keep of a blob that begins ``offset`` bytes into its file, so that a later
        one can be encoded against it; at most 2 % of the blob. Empty (the default): nothing."""
        return b""

    def differ(self, old: OldContent) -> Differ | None:
        """A differ against ``old``; None (the default): this method needs no older content."""
        return None


class Decoder(ABC):
    """Decodes payloads from anywhere: hostile input. One per thread."""

    @abstractmethod
    def decode(self, data: Buffer, length: int, fetch: FetchBlob) -> bytes:
        """The blob of exactly ``length`` bytes, or PayloadError; what ``fetch`` raises passes through.

        Never allocates more than ``length`` plus a constant, whatever ``data`` claims; the
        caller has checked ``length`` against the limits and checks the SHA-256 afterwards.
        """

    def bases(self, data: Buffer) -> Sequence[BlobId]:
        """The blobs that ``decode`` may fetch, of the payload's own type; PayloadError. A tier decodes only
        what copies from blobs that the sender has delivered itself."""
        return ()


class Reducer(ABC):
    """Reduces what a tier passes on of the blobs that it has verified. Serves one pass at a time."""

    @abstractmethod
    def reduce(self, payload: Payload, *, is_known: bool) -> Payload | None:
        """What goes up in place of ``payload``, an encoding of the same blob; None: nothing, and the tier attests
        that its client delivered the blob.

        ``is_known``: the tiers above have the blob, or it is on its way to them. What they do not know travels in
        any case: for None then, as it came. Whoever stores it checks its SHA-256, so that a method which
        gets it wrong costs a resend.
        """


class ReductionMethod(ABC):
    """A way to reduce data. Payloads name it as ``name/version``; both outlive the plugin."""

    name: str
    version: int = 1

    @property
    def label(self) -> str:
        return f"{self.name}/{self.version}"

    def splitter(self, parameters: Settings) -> Splitter | None:
        """A splitter for the group's chunker parameters; None: this method does not split."""
        return None

    def chunker_parameters(self, settings: Settings) -> Settings:
        """What a new group writes into its tickets so that all clients split alike.

        Values are str or int; an empty mapping when the method does not split.
        """
        return {}

    def encoder(self, settings: Settings) -> Encoder | None:
        """An encoder; None: this method does not encode. The settings of a client also have ``key``: 32 secret
        random bytes of this client, the same in every run; where a configuration is only checked, they
        do not."""
        return None

    def decoder(self) -> Decoder | None:
        """A decoder for what ``encoder`` made; None only where that is None too."""
        return None

    def reducer(self, settings: Settings) -> Reducer | None:
        """What an intermediate tier does with blobs on their way up; None: this method does nothing there."""
        return None


# --- transports -------------------------------------------------------------------------------


class Ability(Flag):
    """What a transport can do beyond the least."""

    NONE = 0
    LINK = auto()
    """``put_file`` costs no second copy of the bytes when source and storage share a file system."""
    FREE_SPACE = auto()
    """``free_space`` answers."""
    RESUME = auto()
    """``put_file`` goes on where an earlier one of the same file was cut off."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object: name, size in bytes, and a stamp: another one once it was replaced; empty where nobody can tell."""

    name: str
    size: int
    stamp: str = field(default="", compare=False)


class Transport(ABC):
    """Named objects somewhere. May be used by several threads at once.

    Names are relative, of components ``[A-Za-z0-9._-]+`` joined by ``/``, none starting with a
    dot. All methods raise RemoteError (or a subclass) when the storage fails.
    """

    abilities: Ability = Ability.NONE

    @abstractmethod
    def put(self, name: str, data: Buffer, *, overwrite: bool = False) -> None:
        """Store durably. Readers see the whole object or none, also after a crash.

        Without ``overwrite`` an existing object stays and nothing is raised when its bytes are
        the same; other bytes raise RemoteError. StorageFullError when there is no room.
        """

    def put_file(self, name: str, path: Path, moved: Travelled = lambda _count: None) -> int:
        """``put`` of a file's bytes, without ``overwrite``. The default reads it whole.

        ``moved`` is called with the number of bytes whenever some have travelled, at least every MiB;
        what it raises ends the put, unfinished. A link moves no bytes. Returns the bytes that were there
        already from an unfinished put of the same file, 0 where the transport cannot resume (``Ability.RESUME``).
        """
        data = path.read_bytes()
        moved(len(data))  # before the put, which cannot be left unfinished any more
        self.put(name, data)
        return 0

    @abstractmethod
    def get(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of an object; shorter at its end. NotFoundError when there is none."""

    def get_file(self, name: str, path: Path, moved: Travelled = lambda _count: None) -> None:
        """Copy an object to the new local file ``path``, durably; ``moved`` as for ``put_file``. The
        default reads it whole."""
        data = self.get(name)
        moved(len(data))
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _sync(path.parent)

    @abstractmethod
    def stat(self, name: str) -> ObjectInfo:
        """NotFoundError when there is no such object."""

    @abstractmethod
    def list(self, folder: str = "") -> Iterator[ObjectInfo]:
        """Every object below ``folder`` (its whole subtree), unsorted; full names. Unfinished
        puts and foreign files are not listed. A folder that does not exist is empty."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove; no error when it is gone already. Folders that become empty may vanish."""

    def free_space(self) -> int | None:
        """Free bytes, or None where the storage does not say."""
        return None

    def close(self) -> None:
        """Release connections; the object is not used afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class TransportPlugin(ABC):
    """Opens storages by URL."""

    name: str
    schemes: tuple[str, ...]
    """URL schemes without the colon: ``("file",)``."""

    @abstractmethod
    def open(self, url: str, settings: Settings, *, create: bool = False) -> Transport:
        """The storage at ``url``; NotFoundError when it is not there and ``create`` is false."""

    def local_folder(self, url: str) -> Path | None:
        """The folder of this machine that ``url`` names, for exclusion from backups."""
        return None


# --- policies ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether something is convenient now; ``reason`` reads "waiting for ..." when it is not,
    ``ask_again_s`` is when asking again makes sense, in seconds: when it may begin to be convenient, or
    when it may end to be."""

    convenient: bool
    reason: str = ""
    ask_again_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Occasion:
    """What a condition is asked about: ``now_s`` and ``last_done_s`` in seconds since 1970, the latter None
    when it was never done. Clocks jump: ``last_done_s`` may lie in the future."""

    now_s: float
    last_done_s: float | None = None
    storages: Sequence[str] = ()
    """URLs of the storages that the work needs."""
    answers: Callable[[str], bool] = lambda _url: True
    """Does the storage at this URL answer? Takes as long as the network does, within a limit."""
    busy_above: Callable[[], Verdict | None] = lambda: None
    """Where the tier above says that it is busy: why, and when to ask again. Looks into its storage."""
    is_under_way: bool = False
    """The work has begun and may be interrupted; what it loads itself is no reason to."""


class Condition(ABC):
    """One key of a ``when`` table."""

    name: str

    @abstractmethod
    def check(self, value: Any) -> None:
        """ConfigError when ``value``, as TOML has it, is not what this key takes; the text reads
        "expected ..., not ..."."""

    @abstractmethod
    def ask(self, value: Any, occasion: Occasion) -> Verdict:
        """Is it convenient now? ``value`` has been checked. Changes nothing, since showing a status asks
        too. What this kind of machine does not have (a battery) stands in nobody's way."""

    @property
    def central(self) -> bool:
        """May a central policy set it? Only if no value of it names a command, a path or an address."""
        return False

    def both(self, one: Any, other: Any) -> Any:
        """A value under which it is convenient just when it is under ``one`` and under ``other``, which have been
        checked; ``other`` itself where that says it. ValueError when it would never be. For ``central`` ones."""
        raise ValueError(f"{self.name} cannot be set twice")


# --- repository formats -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A version in a repository: its full ID there (hex) and what it says."""

    id: str
    snapshot: Snapshot


class RepositoryPass(ABC):
    """One writing session: the lock is held and the index is loaded. One thread at a time calls
    it; it may use threads inside. Leaving the ``with`` block flushes, then releases the lock;
    leaving it by an exception drops what was not flushed."""

    @abstractmethod
    def has(self, type_: BlobType, id_: BlobId) -> bool:
        """Is the blob in the index, or added in this pass?"""

    @abstractmethod
    def add(self, type_: BlobType, id_: BlobId, data: bytes, payload: Payload | None = None) -> bool:
        """Store a blob unless it is known; whether it was new.

        ``data`` is the plaintext whose SHA-256 the caller has verified. ``payload``, when given
        and valid in this format, is stored as it came instead of compressing again.
        """

    @abstractmethod
    def flush(self) -> None:
        """Returns when everything added is durable and indexed; refreshes the lock."""

    @abstractmethod
    def add_version(self, snapshot: Snapshot) -> str:
        """Flush, then write the snapshot; its ID. The caller guarantees that all it reaches is
        known. Visible to restic at once."""

    @abstractmethod
    def remove_version(self, id_: str) -> None:
        """Remove a snapshot file; no error when it is gone."""

    @property
    @abstractmethod
    def versions(self) -> Sequence[StoredVersion]:
        """All snapshots, as listed when the pass began, plus and minus this pass's own."""

    @abstractmethod
    def read(self, type_: BlobType, id_: BlobId) -> bytes:
        """Plaintext of a flushed blob, verified; NotFoundError, IntegrityError."""


class Repository(ABC):
    """An open repository."""

    id: str
    """Its own identifier (hex)."""
    location: str

    @property
    @abstractmethod
    def chunker(self) -> Settings:
        """Splitter parameters that make blobs equal those of the format's own programs."""

    @property
    def format_version(self) -> str:
        """The version of its format, for people, such as ``v2``; empty where there is but one."""
        return ""

    @abstractmethod
    def writing(self) -> AbstractContextManager[RepositoryPass]:
        """Take the lock, repair what a crash of ours left, load the index. LockedError."""

    @abstractmethod
    def versions(self) -> Sequence[StoredVersion]:
        """All snapshots, oldest first, without a lock."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[RepositoryReader]:
        """Load the index for reading back; a shared lock where the format has one."""

    def care(self) -> RepositoryCare:
        """Checking, pruning, keys and repairs; UserError where the format offers none of it."""
        raise UserError(f"repository {self.location}: its format offers no care; use its own program")

    def close(self) -> None:
        """Forget keys and close connections."""


class StoredSize(NamedTuple):
    """Bytes that a blob takes in a repository, and would take if it were not compressed."""

    stored: int
    uncompressed: int
    is_compressed: bool


class RepositoryReader(ABC):
    """Reads blobs. May be used by several threads at once."""

    @abstractmethod
    def read(self, type_: BlobType, id_: BlobId) -> bytes:
        """Plaintext of a blob, verified against its SHA-256; NotFoundError, IntegrityError."""

    @abstractmethod
    def read_many(self, type_: BlobType, ids: Sequence[BlobId]) -> Iterator[tuple[BlobId, bytes]]:
        """Each wanted blob once, verified, in the order that is cheapest to read (pack by
        pack, one request per run of neighbours), pipelined over cores, in bounded memory."""

    def sizes(self, type_: BlobType, ids: Sequence[BlobId]) -> Sequence[int | None]:
        """Plaintext bytes of each blob, None where there is none, in the order of ``ids``. The
        default reads them all; a format whose index knows the sizes answers from there."""
        return [self._size(type_, id_) for id_ in ids]

    def stored_sizes(self, type_: BlobType, ids: Sequence[BlobId]) -> Sequence[StoredSize | None]:
        """What each blob takes in the repository, None where there is none, in the order of ``ids``. The
        default knows of no seals and no compression."""
        return [None if size is None else StoredSize(size, size, False) for size in self.sizes(type_, ids)]

    def blobs_of_pack(self, prefix: str) -> Sequence[tuple[BlobType, BlobId]]:
        """What the one pack holds whose ID begins with ``prefix`` (hex); UserError for none and for
        several, and from the default, for formats without packs."""
        raise UserError("this repository's format has no packs to look into")

    def pack_of(self, type_: BlobType, id_: BlobId) -> str | None:
        """The ID (hex) of the pack that holds the blob, None where there is none; UserError from the
        default, for formats without packs."""
        raise UserError("this repository's format has no packs to look into")

    def _size(self, type_: BlobType, id_: BlobId) -> int | None:
        try:
            return len(self.read(type_, id_))
        except (NotFoundError, IntegrityError):
            return None


@dataclass(frozen=True, slots=True)
class RepositoryOptions:
    """How to open a repository. ``password`` is asked for only when needed; ``reads_all``: forget what was known."""

    password: Callable[[], str] = field(repr=False)
    state: Path | None = None
    """Folder for what the format wants to remember between runs (journals, caches)."""
    compression: str = "auto"
    pack_size: int = 16 * 1024 * 1024
    """Bytes of blobs in a pack."""
    settings: Settings = field(default_factory=dict)
    retry_lock_s: float = 0
    """How long to try again while somebody else holds the lock."""
    key_hint: str = ""
    """The start of the ID of the key to try first."""
    no_lock: bool = False
    """Take no lock for reading, as where the storage is read-only."""
    reads_all: bool = False
    reporter: Reporter = field(default_factory=Reporter)
    """Told of what is worth reading but stops nothing."""


class RepositoryFormat(ABC):
    """A backup repository format."""

    name: str

    @abstractmethod
    def open(self, location: str, options: RepositoryOptions) -> Repository:
        """NoRepositoryError, WrongPasswordError."""

    @abstractmethod
    def create(self, location: str, options: RepositoryOptions, chunker: Settings) -> Repository:
        """A new repository; UserError when one is there. ``chunker`` may be empty: the format
        chooses parameters."""

    def local_folder(self, location: str) -> Path | None:
        """The folder of this machine that ``location`` names, for exclusion from backups."""
        return None


# --- events -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: ``version-made``, ``segment-sent``, ``version-stored``,
    ``restore-staged`` or ``failure``; ``facts`` holds JSON types."""

    name: str
    tier: str
    facts: Mapping[str, Any] = field(default_factory=dict)


# --- hooks ------------------------------------------------------------------------------------


class Hooks:
    """The hooks; implement any of them as plain functions of the same names."""

    @hookspec
    def cdr_reduction_methods(self) -> Iterable[ReductionMethod]:
        """Reduction methods of this plugin."""
        raise NotImplementedError

    @hookspec
    def cdr_transports(self) -> Iterable[TransportPlugin]:
        """Transports of this plugin."""
        raise NotImplementedError

    @hookspec
    def cdr_conditions(self) -> Iterable[Condition]:
        """``when`` conditions of this plugin."""
        raise NotImplementedError

    @hookspec
    def cdr_repository_formats(self) -> Iterable[RepositoryFormat]:
        """Repository formats of this plugin."""
        raise NotImplementedError

    @hookspec
    def cdr_event(self, event: Event) -> None:
        """Called after something happened; must not block for long. Exceptions are logged."""
