"""Constants of the wire and the reason for each limit. ``docs/wire-format.md`` repeats this table
and a test compares the two."""

from __future__ import annotations

from cdr_plugin.model.blobs import MAX_DATA_BLOB_BYTES, MAX_TREE_BLOB_BYTES, BlobType

KIB = 1024
MIB = 1024 * 1024

# --- segments ---------------------------------------------------------------------------------

PARCEL_ID_BYTES = 16
"""Random: two parcels of a million clients meet with probability below 2^-64."""
PARCEL_KEY_BYTES = 32
SALT_BYTES = 32
"""Fresh per write, so no two writes ever share a segment key, whatever else repeats."""
SEGMENT_PREFIX_BYTES = 56
HEADER_BYTES = 160
"""Key, sender, group hash and signature; fixed, so its sealed length tells nothing."""
CHUNK_BYTES = 1 * MIB
"""Big enough that a tag and a call cost nothing (16 of 1,048,576 bytes), small enough for a cache."""
TAG_BYTES = 16
DEFAULT_SEGMENT_BYTES = 8 * MIB
"""The unit of retry: 32 s at 2 Mbit/s."""
MIN_SEGMENT_BYTES = 4 * KIB
"""Target for tests and very thin links; below it the sealed header would dominate."""
MAX_TARGET_BYTES = 12 * MIB
"""With a quarter of overshoot and a version record it stays below the hard limit."""
MAX_SEGMENT_PLAINTEXT_BYTES = 20 * MIB
"""What a reader allocates at most for one segment."""
MAX_SEGMENT_OBJECT_BYTES = MAX_SEGMENT_PLAINTEXT_BYTES + 64 * KIB
"""Check an object's size against it before reading."""
MAX_INDEX = (1 << 32) - 1

# --- records ----------------------------------------------------------------------------------

MAX_RECORD_FIELDS = 8
"""Records are flat arrays; the longest has seven fields."""
MAX_METHOD_CHARS = 64
PAYLOAD_SLACK_BYTES = 64
"""An encoding has at most plaintext + plaintext/256 + this many bytes: restic's own bound on frames."""
PART_OVERHEAD_BYTES = 256
"""The most that the fields around a part's data take."""
MAX_PARTS = 1 << 20
"""1 GiB in parts of the smallest segments."""
MEMORY_PART_BYTES = 64 * MIB
"""Longer payloads are assembled in a temporary file."""
MAX_VERSION_RECORD_BYTES = 4 * MIB
"""100,000 paths or patterns of 40 bytes; a segment holds it whole behind a full target."""
MAX_ATTESTATION_BYTES = 4 * MIB
MAX_ATTESTED_BLOBS = 65536
"""2.1 MiB; what is more goes into further attestations."""
MAX_INTRODUCTION_BYTES = 64 * KIB
"""Two keys (1.3 KB), a name, and what a client may say of itself (64 facts)."""
BLOB_REF_BYTES = 33
"""Type and ID of a blob."""

# --- version records --------------------------------------------------------------------------

MAX_PATHS = 100_000
MAX_PATH_CHARS = 16 * KIB
"""PATH_MAX is 4,096 bytes; quoting may take four characters for one."""
MAX_TAGS = 1024
MAX_TEXT_CHARS = 255

# --- documents --------------------------------------------------------------------------------

MAX_HEAD_PARCELS = 10_000
MAX_RECEIPT_PARCELS = 10_000
MAX_RECEIPT_INDEXES = 1024
"""Rejected or missing segments named per parcel; the rest is named by a later receipt."""
MAX_RECEIPT_VERSIONS = 10_000
MAX_RECEIPT_BLOBS = 65536
"""Missing blobs named in one receipt (2.1 MiB); the rest is named once these have come."""
MAX_REASON_CHARS = 500
STANDING_VERSION_BYTES = 40
"""Number and record hash of a version."""
MAX_STANDING_VERSIONS = 1000
"""Versions named by a standing, the newest (40 KB); it is read at every contact."""
MAX_STATUS_BYTES = 4096
"""A tier's word about itself has about 300."""
MAX_ROOM_BYTES = 4096
"""A note about the room in an inbox has about 250."""
VERIFIED_VERSION_BYTES = 48
"""Number and record hash of a version, and when a check covered it."""
MAX_VERIFIED_VERSIONS = 1000
"""Versions that a client is told to be verified, the newest, as in a standing (48 KB)."""
MAX_DIGEST_PARTS = 4096
"""128 KiB of hashes in one manifest, which is read at every contact; 1.2 billion blobs."""
MAX_DIGEST_HASHES = 300_000
"""In one part: 3.6 MB."""
DIGEST_HASH_BYTES = 12
"""Two of 10 million blobs meet with probability 2^-50, and that costs a question, never wrong bytes."""
MAX_BASELINE_PARTS = 65536
"""Named by one manifest, 2 MiB of hashes: 6.5 billion blobs."""
MAX_BASELINE_BLOBS = 100_000
"""Blobs named by one part of a baseline (3.3 MB)."""
MAX_BASELINE_PART_BYTES = 4 * MIB
"""Of what a part of a baseline holds, and of what its facts inflate to: read and held at once."""
MAX_POLICY_CHARS = 64 * KIB
"""Of a policy's text: a thousand patterns and more; read at every contact."""


def max_encoded_bytes(length: int) -> int:
    """The most bytes that a payload of a blob of ``length`` bytes may have."""
    return length + length // 256 + PAYLOAD_SLACK_BYTES


def max_blob_bytes(type_: BlobType, max_data_bytes: int = MAX_DATA_BLOB_BYTES) -> int:
    """The longest blob of a type; ``max_data_bytes`` is what the group's chunker says."""
    return MAX_TREE_BLOB_BYTES if type_ is BlobType.TREE else max_data_bytes
