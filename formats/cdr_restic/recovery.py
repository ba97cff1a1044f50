"""What a crashed pass or prune left: packs in place that no index lists are verified and indexed, or removed."""

from __future__ import annotations

from collections.abc import Callable

from cdr_plugin.errors import FormatError, IntegrityError, NotFoundError
from cdr_plugin.reporter import Reporter
from cdr_restic.crypto import KeyMaterial, Sealer
from cdr_restic.files import SealedFiles
from cdr_restic.index import IndexedPack, MemoryIndex, encode_index
from cdr_restic.journal import Journal
from cdr_restic.packs import PackEntry, load_header
from cdr_restic.storage import FileKind, Storage, storage_error
from cdr_restic.verifying import PackVerifier


def verify_pack(storage: Storage, key: KeyMaterial, name: str) -> list[PackEntry]:
    """The blobs of a pack of which every byte has been checked: name, size, header and each
    blob. IntegrityError, NotFoundError."""
    with storage.opened(FileKind.DATA, name) as descriptor:
        try:
            verdict = PackVerifier(key).verify(descriptor, name)
        except OSError as error:
            raise storage_error(error, f"cannot read {storage.describe(FileKind.DATA, name)}") from None
    if not verdict.good or verdict.header is None:
        damaged = [f"{len(verdict.lost)} blobs are damaged, the first: {verdict.lost[0][1]}"] if verdict.lost else []
        raise IntegrityError("; ".join([*verdict.problems, *damaged]))
    return list(verdict.header)


def _is_copy(storage: Storage, key: KeyMaterial, index: MemoryIndex, name: str) -> bool:
    """Whether all of it is indexed in packs that are there and long enough: what made us crash may have hit those."""
    size = storage.size(FileKind.DATA, name)
    entries = load_header(lambda o, n: storage.load_part(FileKind.DATA, name, o, n), size, Sealer(key))
    ends: dict[int, int] = {}
    for entry in entries:
        place = index.find(entry.type, entry.id)
        if place is None:
            return False
        ends[place.pack] = max(ends.get(place.pack, 0), place.offset + place.length)
    return all(_reaches(storage, index.pack_name(pack), end) for pack, end in ends.items())


def _reaches(storage: Storage, name: str, end: int) -> bool:
    try:
        return storage.size(FileKind.DATA, name) >= end
    except NotFoundError:
        return False


def recover_packs(
    files: SealedFiles, key: KeyMaterial, index: MemoryIndex, journal: Journal, reporter: Reporter,
    confirm: Callable[[], None],
) -> list[str]:  # fmt: skip
    """Index the packs of ``journal`` that are stored but not indexed; names of new index files.

    A pack of blobs that are all indexed elsewhere is a copy that pruning was about to make: it is removed. Nobody
    else indexes it meanwhile, since that takes the exclusive lock; hence ``confirm``, which raises when ours is
    lost, comes before each change. Packs that do not verify stay as they are, and are
    reported: ``restic prune`` removes them.
    """
    found = []
    for name in journal.packs:
        if index.has_pack(name):
            continue
        try:
            if _is_copy(files.storage, key, index, name):
                confirm()
                files.storage.remove(FileKind.DATA, name)
                continue
            entries = verify_pack(files.storage, key, name)
            if files.version < 2 and any(entry.plain for entry in entries):
                raise FormatError("compressed blobs in a repository of version 1")
        except NotFoundError:
            continue
        except IntegrityError as error:
            pack = files.storage.describe(FileKind.DATA, name)
            reporter.note(f"left alone after a crash: pack {pack}: {error}; 'restic prune' removes it")
            continue
        found.append(IndexedPack(name, entries))
    names = []
    if found:
        confirm()
        names.append(files.save(FileKind.INDEX, encode_index(found)))
    for recovered in found:
        index.add_pack(recovered)
    if journal.packs:
        journal.note_indexed()
    return names
