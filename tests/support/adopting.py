"""A machine that restic backed up so far, and that moves over: the two halves of an adoption."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from cdr_plugin.client.adoption import Taken, fetch_baseline
from cdr_plugin.client.state import cut_keys
from cdr_plugin.parcel.naming import Answer, answer_name, folder_id, part_name
from cdr_plugin.reporter import Reporter
from cdr_plugin.top.adopt import Adopted, adopt
from cdr_plugin.top.choosing import Wanted
from cdr_plugin.top.receive import receive
from cdr_plugin.top.result import ReceiveResult
from tests.support.hierarchy import Hierarchy

PLAIN = Wanted()


def moving(base: Path, source: Path) -> Hierarchy:
    """A hierarchy whose client alice is enrolled; restic has backed her source up once, as host alice."""
    world = Hierarchy.make(base, source)
    backed_up(world)
    world.send()
    world.receive()
    return world


def backed_up(world: Hierarchy, host: str = "alice", *options: str) -> str:
    """What restic says of a backup of the source."""
    return world.restic("backup", "--host", host, *options, world.source.name)


def grant(world: Hierarchy, wanted: Wanted = PLAIN, client: str = "alice", reporter: Reporter | None = None) -> Adopted:
    with closing(world.chain().top) as top:
        return adopt(top, client, wanted, reporter or Reporter())


def take(world: Hierarchy, reporter: Reporter | None = None) -> Taken | None:
    client = world.client()
    try:
        return fetch_baseline(client, reporter or Reporter())
    finally:
        client.state.close()


def received(world: Hierarchy, reporter: Reporter | None = None) -> ReceiveResult:
    with closing(world.chain().top) as top:
        return receive(top, reporter or Reporter())


def known(world: Hierarchy) -> set[bytes]:
    client = world.client()
    try:
        return {key for keys in client.state.known() for key in cut_keys(keys)}
    finally:
        client.state.close()


def manifest(world: Hierarchy) -> Path:
    return world.chain().inbox / answer_name(_folder(world), Answer.BASELINE)


def part(world: Hierarchy, number: int) -> Path:
    return world.chain().inbox / part_name(_folder(world), Answer.BASELINE, number)


def _folder(world: Hierarchy) -> str:
    client = world.client()
    try:
        return folder_id(client.identity.signing.public, client.ticket.group)
    finally:
        client.state.close()
