"""docs/wire-format.md tells the truth: its constants are the code's, and it is enough to read by."""

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgpack
import pytest
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cdr_plugin.identity import documents, export_file, keys, succession, ticket, wire
from cdr_plugin.model import blobs
from cdr_plugin.parcel import limits

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "wire-format.md").read_text()
VECTORS: dict[str, Any] = json.loads((ROOT / "tests" / "data" / "wire-v1.json").read_text())
PUBLIC = re.compile(r"[A-Z][A-Z0-9_]+").fullmatch


def constants_of(*modules: Any) -> dict[str, int]:
    return {n: v for m in modules for n, v in vars(m).items() if PUBLIC(n) and type(v) is int}


def test_the_page_has_every_constant_of_the_wire_with_its_value_and_a_reason() -> None:
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \| ([0-9,]+) \| (.+) \|$", PAGE, re.MULTILINE)
    said = {name: int(value.replace(",", "")) for name, value, _ in rows}
    known = constants_of(limits, documents, keys, ticket, succession, export_file, wire, blobs)
    assert len(said) == len(rows) > 40
    assert said == {name: known.get(name) for name in said}
    assert set(constants_of(limits)) - set(said) <= {"KIB", "MIB"}


def test_the_page_has_every_domain_string_of_the_code() -> None:
    sources = [*(ROOT / "cdr_plugin" / "identity").glob("*.py"), *(ROOT / "cdr_plugin" / "parcel").glob("*.py")]
    used = {domain for path in sources for domain in re.findall(r'b"(cdr/1 [a-z ]+)"', path.read_text())}
    local = {"cdr/1 ticket id", "cdr/1 ticket secret"}  # in a register, never on the wire
    assert used - local == set(re.findall(r'"(cdr/1 [a-z ]+)"', PAGE))


# --- a reader of segments written from the page alone


def frame(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def private_key(suite: int, raw: bytes) -> Any:
    if suite == 1:
        return X25519PrivateKey.from_private_bytes(raw)
    mlkem, x25519 = MLKEM768PrivateKey.from_seed_bytes(raw[:64]), X25519PrivateKey.from_private_bytes(raw[64:])
    return hpke.MLKEM768X25519PrivateKey(mlkem, x25519)


def public_bytes(suite: int, raw: bytes) -> bytes:
    x25519 = X25519PrivateKey.from_private_bytes(raw[-32:]).public_key().public_bytes_raw()
    return (
        x25519 if suite == 1 else MLKEM768PrivateKey.from_seed_bytes(raw[:64]).public_key().public_bytes_raw() + x25519
    )


def read_by_the_page(data: bytes, group: str, raw_key: bytes) -> bytes:
    suite = data[2]
    kem = {1: hpke.KEM.X25519, 2: hpke.KEM.MLKEM768_X25519}[suite]
    body = {1: 264, 2: 1352}[suite]
    prefix, parcel_id, index, salt = data[:56], data[4:20], data[20:24], data[24:56]
    group_hash = sha256(frame(b"cdr/1 group", group.encode())).digest()
    info = frame(b"cdr/1 hpke", bytes((suite,)), frame(b"cdr/1 segment header", prefix, group_hash))
    opener = hpke.Suite(kem, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
    header = opener.decrypt(data[56:body], private_key(suite, raw_key), info=info)
    key, sender, said_group, signature = header[:32], header[32:64], header[64:96], header[96:]
    assert len(header) == 160 and said_group == group_hash
    signed = (group_hash, bytes((suite,)), public_bytes(suite, raw_key), parcel_id, sha256(key).digest())
    Ed25519PublicKey.from_public_bytes(sender).verify(signature, frame(b"cdr/1 parcel", *signed))
    segment_key = HKDF(SHA256(), 32, salt=salt, info=frame(b"cdr/1 segment key", parcel_id, index)).derive(key)
    chunks = [data[at : at + (1 << 20) + 16] for at in range(body, len(data), (1 << 20) + 16)]
    return b"".join(
        AESGCM(segment_key).decrypt(
            i.to_bytes(11, "big") + bytes((i == len(chunks) - 1,)), chunk, sha256(data[:body]).digest()
        )
        for i, chunk in enumerate(chunks)
    )


@pytest.mark.parametrize(("label", "raw_key"), [("x25519", b"\x04" * 32), ("mlkem768-x25519", bytes(range(96)))])
def test_a_reader_written_from_the_page_opens_a_segment_and_its_records(label: str, raw_key: bytes) -> None:
    data = bytes.fromhex(VECTORS["segments"][label]["small"])
    plaintext = read_by_the_page(data, "legal", raw_key)
    assert plaintext.hex() == VECTORS["plaintexts"][0]
    unpacker = msgpack.Unpacker()
    unpacker.feed(plaintext)
    records = list(unpacker)
    assert records[0][:3] == [0, 1, 7] and records[1][:2] == [1, 0]
    assert sha256(records[2][5]).digest() == records[2][2]


def test_signatures_of_records_and_documents_verify_by_the_page() -> None:
    for name, domain, key in (("version_record", "version record", b"\x01"), ("attestation", "attestation", b"\x03")):
        body, signature = (bytes.fromhex(VECTORS[name][part]) for part in ("body", "signature"))
        public = keys.SigningKey(key * 32).public.raw
        Ed25519PublicKey.from_public_bytes(public).verify(signature, frame(f"cdr/1 {domain}".encode(), body))
    head = bytes.fromhex(VECTORS["head"])
    Ed25519PublicKey.from_public_bytes(head[2:34]).verify(head[34:98], frame(b"cdr/1 document", head[:34], head[98:]))
    assert list(msgpack.unpackb(head[98:])) == ["kind", "group", "addressee", "serial", "issued_s", "expires_s", "body"]
