"""A hostile client: enrolled like any other, it builds its parcels by hand."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import zstandard

from cdr_plugin.client.tier import ClientTier
from cdr_plugin.identity.keys import SealingPublicKey, SigningKey
from cdr_plugin.model.blobs import PLAIN, BlobType, Buffer, Payload, blob_id
from cdr_plugin.model.trees import GO_DIR, Node, encode_tree
from cdr_plugin.parcel.head import Head, HeadParcel, write_head
from cdr_plugin.parcel.naming import Answer, answer_name, folder_id, head_name, segment_name
from cdr_plugin.parcel.receipt import Receipt, VersionReceipt, read_receipt
from cdr_plugin.parcel.records import PAYLOAD as PAYLOAD_KIND
from cdr_plugin.parcel.records import PREAMBLE, RECORD_FORMAT, VERSION
from cdr_plugin.parcel.segment import Parcel, ParcelSecret
from cdr_plugin.parcel.version import (
    VERSION_RECORD_FORMAT,
    SignedVersionRecord,
    VersionRecord,
    chunker_id,
    sign_version_record,
)
from cdr_restic.creating import create_repository
from cdr_restic.local import LocalStorage
from tests.restic.world import QUICK
from tests.support.chain import PASSWORD, Chain

EPOCH = "1970-01-01T00:00:00Z"
_RECORD_DOMAIN = b"cdr/1 version record"


def plain(data: bytes, type_: BlobType = BlobType.DATA) -> Payload:
    return Payload(type_, blob_id(data), PLAIN, len(data), data)


def framed(data: bytes, frame: bytes | None = None, *, length: int | None = None) -> Payload:
    """A data blob as the zstd frame given, or a decent one; ``length`` is what it declares."""
    frame = zstandard.ZstdCompressor().compress(data) if frame is None else frame
    frame = bytes(bytearray(frame))  # the library's own keeps the room for what does not compress: 8 MiB each
    return Payload(BlobType.DATA, blob_id(data), "zstd/1", len(data) if length is None else length, frame)


def file_node(name: str, *contents: Buffer, **change: Any) -> Node:
    fields: dict[str, Any] = {
        "name": name, "type": "file", "mode": 0o644, "mtime": EPOCH, "atime": EPOCH, "ctime": EPOCH,
        "uid": 0, "gid": 0, "size": sum(map(len, contents)), "links": 1,
        "content": [blob_id(data).hex() for data in contents],
    }  # fmt: skip
    return Node(**{**fields, **change})


def dir_node(name: str, subtree: bytes, **change: Any) -> Node:
    fields: dict[str, Any] = {
        "name": name, "type": "dir", "mode": GO_DIR | 0o755, "mtime": EPOCH, "atime": EPOCH, "ctime": EPOCH,
        "uid": 0, "gid": 0, "content": None, "subtree": blob_id(subtree).hex(),
    }  # fmt: skip
    return Node(**{**fields, **change})


class Forger:
    """One enrolled client whose every byte the test decides. ``number`` and ``previous`` follow
    the versions that it has made itself."""

    def __init__(self, chain: Chain, name: str = "mallory") -> None:
        self.chain = chain
        self.tier: ClientTier = chain.new_client(name)
        chain.send(self.tier)
        chain.receive()
        self.key: SigningKey = self.tier.identity.signing
        self.group = chain.group
        self.number = 0
        self.previous = b""
        self.parcels: list[HeadParcel] = []
        self.head_serial = 1 << 60  # above what the real client gave its own

    @property
    def folder(self) -> str:
        return folder_id(self.key.public, self.group)

    @property
    def receiver(self) -> SealingPublicKey:
        return self.tier.ticket.sealing

    # --- records and segments ---

    def records(self, *items: Payload | SignedVersionRecord | bytes, **preamble: Any) -> bytes:
        """The plaintext of a segment, without any of the checks that real writers make; ``bytes``
        stand as they are."""
        pack = msgpack.Packer().pack
        first = {
            "format": RECORD_FORMAT, "number": self.number + 1, "client": self.key.public.fingerprint,
            "chunker": chunker_id(self.tier.ticket.chunker), "program": "forger", **preamble,
        }  # fmt: skip
        parts = [pack((PREAMBLE, *first.values()))]
        for item in items:
            if isinstance(item, Payload):
                parts.append(
                    pack((PAYLOAD_KIND, int(item.type), item.id, item.method, item.length, bytes(item.data)))
                )
            elif isinstance(item, SignedVersionRecord):
                parts.append(pack((VERSION, item.body, item.signature)))
            else:
                parts.append(item)
        return b"".join(parts)

    def parcel(
        self, *, id_: bytes | None = None, key: SigningKey | None = None, group: str | None = None
    ) -> Parcel:
        secret = ParcelSecret(id_ or os.urandom(16), os.urandom(32))
        return Parcel(secret, key or self.key, group or self.group, self.receiver)

    def put(self, name: str, data: bytes | bytearray) -> Path:
        """An object in the inbox, by its file."""
        path = self.chain.inbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def put_segments(
        self, plaintexts: Iterable[bytes], *, parcel: Parcel | None = None, folder: str | None = None
    ) -> list[Path]:
        """Seal and store segments 0, 1, ... of one parcel, and name it in the head."""
        parcel = parcel or self.parcel()
        folder = folder or self.folder
        paths = [
            self.put(segment_name(folder, parcel.id, index), parcel.seal(index, plaintext))
            for index, plaintext in enumerate(plaintexts)
        ]
        self.parcels.append(HeadParcel(id=parcel.id, segments=len(paths), closed=True))
        self.put_head()
        return paths

    def put_head(self, *, folder: str | None = None, key: SigningKey | None = None) -> bytes:
        self.head_serial += 1
        head = Head(self.head_serial, self.parcels)
        data = write_head(head, key or self.key, group=self.group, issued_s=int(time.time()))
        self.put(head_name(folder or self.folder), data)
        return data

    # --- versions ---

    def record(self, tree: bytes, **change: Any) -> VersionRecord:
        """The next version's record; ``tree`` is its root's plaintext."""
        record = VersionRecord(
            format=VERSION_RECORD_FORMAT, group=self.group, chunker=chunker_id(self.tier.ticket.chunker),
            client=self.key.public.fingerprint, number=self.number + 1, previous=self.previous,
            tree=blob_id(tree), time="2020-01-01T00:00:00Z", paths=["/forged"], hostname="forged",
            username="root", uid=0, gid=0, excludes=[], tags=[], program_version="forger", summary=None,
        )  # fmt: skip
        record = msgspec.structs.replace(record, time=f"2020-01-01T00:00:00.{self.number + 1:06d}1Z")
        return msgspec.structs.replace(record, **change)

    def sign(self, record: VersionRecord, key: SigningKey | None = None) -> SignedVersionRecord:
        """Signed as it is, whatever it says."""
        if key is None and record.client == self.key.public.fingerprint:
            return sign_version_record(record, self.key)
        body = msgspec.msgpack.encode(record)
        return SignedVersionRecord(body, (key or self.key).sign(_RECORD_DOMAIN, body))

    def follow(self, signed: SignedVersionRecord) -> None:
        """The next record comes behind ``signed``."""
        self.number += 1
        self.previous = signed.hash

    def send_version(
        self, payloads: Sequence[Payload], tree: bytes, *, with_tree: bool = True, **change: Any
    ) -> SignedVersionRecord:
        """One version in one segment; later ones follow it."""
        signed = self.sign(self.record(tree, **change))
        trees = [plain(tree, BlobType.TREE)] if with_tree else []
        self.put_segments([self.records(*payloads, *trees, signed)])
        self.follow(signed)
        return signed

    def send_files(self, **files: bytes) -> SignedVersionRecord:
        """A version of one folder with plain files of one blob each."""
        tree = encode_tree([file_node(name, data) for name, data in sorted(files.items())])
        return self.send_version([plain(data) for data in files.values()], tree)

    # --- answers ---

    def receipt(self) -> Receipt:
        data = (self.chain.inbox / answer_name(self.folder, Answer.RECEIPT)).read_bytes()
        return self.read(data)

    def read(self, data: bytes) -> Receipt:
        return read_receipt(
            data, keys=self.tier.identity.sealing_keys(self.group), tier=self.tier.ticket.issuer,
            client=self.key.public, group=self.group, now_s=time.time(),
        )  # fmt: skip

    def version(self, number: int) -> VersionReceipt:
        return next(v for v in self.receipt().versions if v.number == number)


def quick_chain(base: Path, group: str = "g") -> Chain:
    """A chain whose repository opens without the half second that a key ought to cost."""
    chain = Chain(base, group)
    create_repository(LocalStorage(str(chain.repository)), chain.top.options, {}, QUICK)
    return chain.init()


def change_file(path: Path, change: Callable[[bytearray], object]) -> None:
    """Change a stored object in a fresh file, since the client's spool may share the old one."""
    data = bytearray(path.read_bytes())
    change(data)
    path.unlink()
    path.write_bytes(data)


def flip(at: int) -> Callable[[bytearray], object]:
    def change(data: bytearray) -> None:
        data[at] ^= 1

    return change


def restic(chain: Chain, *arguments: str, check: bool = True) -> str:
    """Stock restic on the chain's repository: what it says."""
    done = subprocess.run(
        ["restic", "--no-cache", "-r", str(chain.repository), *arguments],
        env={**os.environ, "RESTIC_PASSWORD": PASSWORD},
        capture_output=True,
        text=True,
    )
    assert not check or done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def check_repository(chain: Chain) -> None:
    """``restic check --read-data`` finds nothing to complain about."""
    said = restic(chain, "check", "--read-data")
    assert "no errors were found" in said, said
