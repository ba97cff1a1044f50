"""Checks every byte of a pack in one pass: name, header against index, and each blob.

The pack is a local file (``Storage.opened``). It is read once from front to back through a window of 1 MiB, so that
what is hashed is still in the cache when it is decrypted; it grows only for a blob that is larger. The header, at
the end, is looked at before.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from cdr_plugin.errors import FormatError, IntegrityError
from cdr_plugin.model.blobs import Buffer
from cdr_restic.crypto import KeyMaterial
from cdr_restic.opening import MAX_BLOB_BYTES, BlobOpener
from cdr_restic.packs import PackEntry, load_header

_WINDOW_BYTES = 1024 * 1024


@dataclass(slots=True)
class PackVerdict:
    """What is wrong with a pack: ``problems`` in words, ``lost`` blobs by their place in the list
    that was asked about, or in the header when none was. ``size`` in bytes as read."""

    size: int = 0
    problems: list[str] = field(default_factory=list)
    lost: list[tuple[int, str]] = field(default_factory=list)
    header: Sequence[PackEntry] | None = None
    """None when it cannot be read."""

    @property
    def good(self) -> bool:
        return not self.problems and not self.lost


class PackVerifier:
    """One per thread: it owns ciphers, a decompressor and the window."""

    def __init__(self, key: KeyMaterial) -> None:
        self._opener = BlobOpener(key)
        self._buffer = bytearray(_WINDOW_BYTES)

    def verify(self, descriptor: int, name: str, indexed: Sequence[PackEntry] | None = None) -> PackVerdict:
        """``indexed`` is what the index says of the pack, in any order; without it the header is taken as true.

        Damage is in the verdict; OSError when the file cannot be read.
        """
        verdict = PackVerdict(os.fstat(descriptor).st_size)
        self._check_header(descriptor, verdict, indexed)
        entries = indexed if indexed is not None else verdict.header or ()
        window = _Window(descriptor, self._buffer, verdict.size)
        try:
            # By offset: the window moves forward only.
            for number, entry in sorted(enumerate(entries), key=lambda item: item[1][2]):
                problem = self._problem(window, entry)
                if problem:
                    verdict.lost.append((number, problem))
            if window.finish() != name:
                verdict.problems.append("its SHA-256 differs from its name")
        finally:
            self._buffer = window.release()
        return verdict

    def _check_header(self, descriptor: int, verdict: PackVerdict, indexed: Sequence[PackEntry] | None) -> None:
        try:
            header = load_header(
                lambda offset, length: os.pread(descriptor, length, offset), verdict.size, self._opener.sealer
            )
        except IntegrityError as error:
            verdict.problems.append(f"its header cannot be read: {error}")
            return
        verdict.header = header
        if indexed is not None and header != indexed and sorted(header) != sorted(indexed):
            extra, missing = len(set(header) - set(indexed)), len(set(indexed) - set(header))
            verdict.problems.append(
                f"header and index disagree: {extra} blobs only in the header, {missing} only in the index"
                if extra or missing
                else "header and index disagree: one lists a blob twice"
            )

    def _problem(self, window: _Window, entry: PackEntry) -> str:
        """Why the blob is lost, or nothing."""
        type_, id_, offset, length, plain = entry
        try:
            if length > MAX_BLOB_BYTES[type_]:
                return f"{length} bytes are more than such a blob may have"
            self._opener.open(type_, id_, window.part(offset, length), plain)
        except IntegrityError as error:
            return str(error)
        return ""


class _Window:
    """A file read front to back, hashed on the way; ``part`` shows some of it."""

    def __init__(self, descriptor: int, buffer: bytearray, size: int) -> None:
        self._descriptor = descriptor
        self._buffer = buffer
        self._view = memoryview(buffer)
        self._size = size
        self._begin = self._end = 0
        self._digest = sha256()

    def part(self, offset: int, length: int) -> Buffer:
        """Those bytes, valid until the next call; FormatError where the file ends before."""
        if offset + length > self._size:
            raise FormatError("the pack ends before it")
        if offset < self._begin:  # an index with overlaps
            return self._read_again(offset, length)
        while self._end < offset + length:
            self._advance(offset, length)
        begin = offset - self._begin
        return self._view[begin : begin + length]

    def _advance(self, offset: int, length: int) -> None:
        """One read more, keeping what is there from ``offset`` on."""
        kept = max(self._end - offset, 0)
        self._make_room(kept, min(offset, self._end) + length - self._end)
        self._read()

    def _make_room(self, kept: int, wanted: int) -> None:
        """Move the last ``kept`` bytes to the front, with room for at least a few more behind."""
        used = self._end - self._begin
        if kept + wanted > len(self._buffer):
            grown = bytearray(kept + wanted)
            grown[:kept] = self._view[used - kept : used]
            self._view.release()
            self._buffer, self._view = grown, memoryview(grown)
        else:
            self._view[:kept] = bytes(self._view[used - kept : used])
        self._begin = self._end - kept

    def _read(self) -> None:
        used = self._end - self._begin
        room = self._view[used : used + min(len(self._buffer) - used, self._size - self._end)]
        count = os.preadv(self._descriptor, [room], self._end)
        if not count:
            raise FormatError("the pack became shorter while it was read")
        self._digest.update(room[:count])
        self._end += count

    def _read_again(self, offset: int, length: int) -> bytes:
        data = os.pread(self._descriptor, length, offset)
        if len(data) != length:
            raise FormatError("the pack became shorter while it was read")
        return data

    def finish(self) -> str:
        """Read the rest; the SHA-256 of the whole file in hex."""
        try:
            while self._end < self._size:
                self._make_room(0, 1)
                self._read()
        except FormatError:
            return ""
        return self._digest.hexdigest()

    def release(self) -> bytearray:
        """The buffer, for the next file, unless it grew beyond what packs usually need."""
        self._view.release()
        return self._buffer if len(self._buffer) <= 4 * _WINDOW_BYTES else bytearray(_WINDOW_BYTES)
