"""A process that verifies packs for ``care.check_pool``. It lies outside ``care`` because it imports little: with the
contracts it would take 70 ms and 5 MB more.

Requests and answers go through the socket that is its standard input, each a u32 length and that many
bytes of MessagePack; with the length of a request comes the pack's descriptor. Before the first one
comes the master key (64 bytes), which so appears in no argument and no environment. It ends with the
socket, so it never outlives its parent by more than one pack.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import NamedTuple

import msgspec

from cdr_restic.crypto import KeyMaterial
from cdr_restic.packs import PackEntry
from cdr_restic.verifying import PackVerdict, PackVerifier

LENGTH = struct.Struct("<I")


class Request(NamedTuple):
    """``entries`` is what the index says of the pack ``name``."""

    name: str
    entries: list[PackEntry]


class Answer(NamedTuple):
    """``PackVerdict`` without the header."""

    size: int
    problems: list[str]
    lost: list[tuple[int, str]]


_decoder = msgspec.msgpack.Decoder(Request)


def answer(verifier: PackVerifier, request: Request, descriptor: int) -> Answer:
    """A file that cannot be read is a broken pack, and no reason to stop."""
    try:
        verdict = verifier.verify(descriptor, request.name, request.entries)
    except OSError as error:
        verdict = PackVerdict(problems=[f"it cannot be read: {error.strerror}"])
    return Answer(verdict.size, verdict.problems, verdict.lost)


def receive(channel: socket.socket, size: int) -> bytes:
    """Exactly that many bytes; EOFError when the other side has closed."""
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        count = channel.recv_into(view[done:])
        if not count:
            raise EOFError
        done += count
    return bytes(data)


def serve(channel: socket.socket) -> None:
    """Answer until the other side closes."""
    secret = receive(channel, 64)
    verifier = PackVerifier(KeyMaterial(secret[:32], secret[32:48], secret[48:]))
    while True:
        head, descriptors, _, _ = socket.recv_fds(channel, LENGTH.size, 1)
        if not head:
            return
        head += receive(channel, LENGTH.size - len(head))
        [descriptor] = descriptors
        try:
            request = _decoder.decode(receive(channel, LENGTH.unpack(head)[0]))
            body = msgspec.msgpack.encode(answer(verifier, request, descriptor))
        finally:
            os.close(descriptor)
        channel.sendall(LENGTH.pack(len(body)) + body)


def main() -> None:
    with socket.socket(fileno=0) as channel:
        try:
            serve(channel)
        except (EOFError, ConnectionError):
            return
