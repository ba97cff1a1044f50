"""Names of objects in shared storage. They tell a pseudonym of the client and nothing else.

::

    clients/FOLDER/head                 what there is to fetch, replaced in place
    clients/FOLDER/enrol-16 HEX         a request to be known
    clients/FOLDER/PARCEL/INDEX         a segment: 32 and 8 hex digits
    answers/FOLDER/receipt              for the client, each replaced in place
    answers/FOLDER/standing
    answers/FOLDER/verified
    answers/FOLDER/enrolment
    answers/FOLDER/policy
    answers/FOLDER/notice               one line for the client's user
    answers/FOLDER/keys                 the keys of the tier that answers, after it changed one
    answers/FOLDER/top-keys             those of the top tier, for a client that seals to another
    answers/FOLDER/baseline             manifest of what an adoption gives the client
    answers/FOLDER/baseline-NUMBER      its parts: 8 hex digits
    answers/FOLDER/digest               manifest of what the tiers above know, for a tier that reduces
    answers/FOLDER/digest-NUMBER        its parts: 8 hex digits
    groups/GROUP/FOLDER/...             what is below clients/FOLDER, where the layout is per group
    shared/PARCEL/INDEX                 segments, where the layout is shared
    notes/layout                        which layout the inbox has; without it per client
    notes/room                          how much the inbox may hold, by a tier without keys
    notes/GROUP/room                    the same, signed, for the senders of one group: 32 hex digits
    notes/GROUP/status                  whether the tier is ready or busy, signed, for the senders of one group

FOLDER is 32 hex digits: the same client has unlike folders in two groups.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import TypeAlias

from cdr_plugin.errors import FormatError
from cdr_plugin.identity.keys import VerifyKey
from cdr_plugin.identity.wire import frame, group_hash

CLIENTS = "clients"
ANSWERS = "answers"
NOTES = "notes"
GROUPS = "groups"
SHARED = "shared"
PUT = (CLIENTS, GROUPS, SHARED)
"""Where lower tiers put things; they read ``ANSWERS`` and ``NOTES``."""

_NAME = re.compile(
    r"(?:clients|groups/(?P<group>[0-9a-f]{32}))/(?P<client>[0-9a-f]{32})/"
    r"(?:(?P<head>head)|enrol-(?P<tag>[0-9a-f]{16})|(?P<parcel>[0-9a-f]{32})/(?P<index>[0-9a-f]{8}))"
    r"|shared/(?P<shared>[0-9a-f]{32})/(?P<at>[0-9a-f]{8})"
    r"|answers/(?P<answered>[0-9a-f]{32})/"
    r"(?P<answer>receipt|standing|verified|enrolment|policy|notice|baseline|keys|top-keys|digest)"
    r"|answers/(?P<given>[0-9a-f]{32})/(?P<whole>baseline|digest)-(?P<part>[0-9a-f]{8})",
    re.ASCII,
).fullmatch
_STATUS = re.compile(rf"{NOTES}/[0-9a-f]{{32}}/status", re.ASCII).fullmatch


class Answer(StrEnum):
    """What a receiving tier leaves for a client."""

    RECEIPT = "receipt"
    STANDING = "standing"
    VERIFIED = "verified"
    ENROLMENT = "enrolment"
    POLICY = "policy"
    NOTICE = "notice"
    BASELINE = "baseline"
    KEYS = "keys"
    TOP_KEYS = "top-keys"
    DIGEST = "digest"


@dataclass(frozen=True, slots=True)
class HeadName:
    """The head of a client."""

    folder: str


@dataclass(frozen=True, slots=True)
class EnrolmentName:
    """A request to be known; ``tag`` is taken from the object's own hash."""

    folder: str
    tag: str


@dataclass(frozen=True, slots=True)
class SegmentName:
    """A segment of a parcel; ``folder`` is empty in a shared folder: its header tells whose it is."""

    folder: str
    parcel_id: bytes
    index: int


@dataclass(frozen=True, slots=True)
class AnswerName:
    """An answer for a client."""

    folder: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class PartName:
    """A part of an answer that has parts: a baseline or a digest."""

    folder: str
    whole: Answer
    number: int


ObjectName: TypeAlias = HeadName | EnrolmentName | SegmentName | AnswerName | PartName


def folder_id(client: VerifyKey, group: str) -> str:
    """The client's pseudonym in shared storage."""
    return folder_of(client, group_hash(group))


def folder_of(client: VerifyKey, group: bytes) -> str:
    """``folder_id`` for who knows only the group's hash."""
    return sha256(frame(b"cdr/1 folder", client.raw, group)).hexdigest()[:32]


def head_name(folder: str) -> str:
    return f"{CLIENTS}/{folder}/head"


def enrolment_name(folder: str, data: bytes) -> str:
    """The name for the request ``data``; another request gets another name."""
    return f"{CLIENTS}/{folder}/enrol-{sha256(data).hexdigest()[:16]}"


def parcel_folder(folder: str, parcel_id: bytes) -> str:
    return f"{CLIENTS}/{folder}/{parcel_id.hex()}"


def segment_name(folder: str, parcel_id: bytes, index: int) -> str:
    return f"{CLIENTS}/{folder}/{parcel_id.hex()}/{index:08x}"


def answer_name(folder: str, answer: Answer) -> str:
    return f"{ANSWERS}/{folder}/{answer.value}"


def answers_folder(folder: str) -> str:
    return f"{ANSWERS}/{folder}"


def part_name(folder: str, whole: Answer, number: int) -> str:
    return f"{ANSWERS}/{folder}/{whole.value}-{number:08x}"


def plain_room_name() -> str:
    return f"{NOTES}/room"


def status_name(group: str) -> str:
    return f"{NOTES}/{group_id(group)}/status"


def is_status_name(name: str) -> bool:
    """Is it ``status_name`` of some group?"""
    return _STATUS(name) is not None


def room_name(group: str) -> str:
    return f"{NOTES}/{group_id(group)}/room"


def layout_name() -> str:
    return f"{NOTES}/layout"


def group_id(group: str) -> str:
    """The group's pseudonym in shared storage. It tells the group only to who knows its name, as heads do."""
    return sha256(frame(b"cdr/1 notes", group_hash(group))).hexdigest()[:32]


def parse_name(name: str) -> ObjectName:
    """What an object in shared storage is; FormatError for names that CDR does not make."""
    match = _NAME(name)
    if match is None:
        raise FormatError(f"{name[:120]!r}: not a name that cdr gives")
    if match["answered"]:
        return AnswerName(match["answered"], Answer(match["answer"]))
    if match["given"]:
        return PartName(match["given"], Answer(match["whole"]), int(match["part"], 16))
    if match["shared"]:
        return SegmentName("", bytes.fromhex(match["shared"]), int(match["at"], 16))
    if match["head"]:
        return HeadName(match["client"])
    if match["tag"]:
        return EnrolmentName(match["client"], match["tag"])
    return SegmentName(match["client"], bytes.fromhex(match["parcel"]), int(match["index"], 16))
