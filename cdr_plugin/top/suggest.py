"""Which clients belong into one group, by what their data has in common.

Of every client a sketch is made of the blobs that it delivered, all under one random key that is forgotten
afterwards, and only sketches are compared: nothing of one group is read for another. Clusters grow by joining
the two that share most, as long as they share enough.

Two groups cut files by unlike polynomials, so that only what is not cut can be compared across them: a second sketch
is of the blobs below the least size of a piece, and what they have in common stands for the rest.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush, nlargest
from itertools import count, islice

from cdr_plugin.contracts import RepositoryReader, Settings, StoredSize
from cdr_plugin.identity.register import Client
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.parcel.version import chunker_id
from cdr_plugin.top.sketch import Sketch, Sketcher, overlap_bytes, union
from cdr_plugin.top.state import ClientRows

_BATCH_BLOBS = 8192
_NEAREST = 32
"""Others that a client is compared with: those that share most of its sample. All pairs of 1,000 would take minutes."""
LEAST_SHARED = 0.2
"""Of the smaller one of two: below it, a common group saves less than it costs in separation."""


@dataclass(frozen=True, slots=True)
class Data:
    """Samples of what one or several clients delivered: of all blobs, and of those that are no piece of a longer file.
    ``chunkers``: how the others were cut."""

    whole: Sketch
    uncut: Sketch
    chunkers: frozenset[bytes]

    def joined(self, other: Data) -> Data:
        both = union((self.whole, other.whole)), union((self.uncut, other.uncut))
        return Data(*both, self.chunkers | other.chunkers)

    def share(self, other: Data) -> float:
        """The part of the smaller one that they have in common."""
        one, two = sketches_of((self, other))
        return min(overlap_bytes(one, two) / max(min(one.bytes(), two.bytes()), 1), 1.0)


def sketches_of(data: Sequence[Data]) -> list[Sketch]:
    """Those that can be compared with each other."""
    alike = len(frozenset().union(*(one.chunkers for one in data))) == 1
    return [one.whole if alike else one.uncut for one in data]


@dataclass(frozen=True, slots=True)
class Member:
    """A client and samples of what it delivered; ``bytes`` as they are stored, counted and not estimated."""

    group: str
    name: str
    bytes: int
    blobs: int
    data: Data

    @property
    def label(self) -> tuple[str, str]:
        return self.group, self.name


@dataclass(frozen=True, slots=True)
class Pair:
    """What two clients have in common: estimated bytes, and the part that they are of the smaller one."""

    one: Member
    other: Member
    bytes: int
    share: float


@dataclass(frozen=True, slots=True)
class Cluster:
    """Clients that belong together. Estimated bytes: of each stored for itself, of all in the groups in which they are
    now, and of all in one group."""

    members: Sequence[Member]
    bytes_alone: int
    bytes_now: int
    bytes_together: int

    @property
    def bytes_saved(self) -> int:
        return max(self.bytes_now - self.bytes_together, 0)


def measure(client: Client, rows: ClientRows, reader: RepositoryReader, chunker: Settings, key: bytes) -> Member:
    """Streams over what the client possesses; blobs that the repository does not have (any more) do not count.
    ``chunker``: the group's parameters."""
    whole, uncut, total, blobs = Sketcher(key), Sketcher(key), 0, 0
    least = int(chunker.get("min_size", 0))
    possessed = rows.possessed()
    while keys := list(islice(possessed, _BATCH_BLOBS)):
        for blob, size in _sizes(reader, keys):
            whole.add(blob, size.stored)
            if size.uncompressed < least:
                uncut.add(blob, size.stored)
            total += size.stored
            blobs += 1
    data = Data(whole.sketch(), uncut.sketch(), frozenset((chunker_id(chunker),)))
    return Member(client.group, client.name, total, blobs, data)


def _sizes(reader: RepositoryReader, keys: Sequence[bytes]) -> Iterator[tuple[bytes, StoredSize]]:
    for type_ in BlobType:
        mine = [key for key in keys if key[0] == type_]
        sizes = reader.stored_sizes(type_, [BlobId(key[1:]) for key in mine])
        yield from ((key, size) for key, size in zip(mine, sizes, strict=True) if size and size.stored)


def pairs(members: Sequence[Member]) -> list[Pair]:
    """Those that have anything in common, most first; of each client with its nearest."""
    found = [_pair(members[a], members[b]) for a, b in sorted(_candidates([m.data for m in members]))]
    return sorted((pair for pair in found if pair.bytes), key=lambda pair: (-pair.share, -pair.bytes, pair.one.label))


def _pair(one: Member, other: Member) -> Pair:
    share = one.data.share(other.data)
    return Pair(one, other, round(share * min(one.bytes, other.bytes)), share)


def _candidates(data: Sequence[Data]) -> set[tuple[int, int]]:
    """Pairs, the lower number first, that have sampled blobs in common; of each with the nearest only."""
    having: Mapping[int, list[int]] = defaultdict(list)
    for number, one in enumerate(data):
        for hashed in {entry.hash for entry in (*one.whole.entries, *one.uncut.entries)}:
            having[hashed].append(number)
    common: dict[int, Counter[int]] = defaultdict(Counter)
    for numbers in having.values():
        for at, a in enumerate(numbers):
            for b in numbers[at + 1 : at + 1 + _NEAREST]:  # what many have brings each of them near enough
                common[a][b] += 1
                common[b][a] += 1
    nearest = ((a, b) for a, counts in common.items() for b in nlargest(_NEAREST, counts, key=counts.__getitem__))
    return {(min(a, b), max(a, b)) for a, b in nearest}


def clusters(members: Sequence[Member], *, least_shared: float = LEAST_SHARED) -> list[Cluster]:
    """Those of two clients and more, largest saving first."""
    joined = _join(members, least_shared)
    found = [_cluster([members[at] for at in sorted(numbers)]) for numbers in joined if len(numbers) > 1]
    return sorted(found, key=lambda cluster: (-cluster.bytes_saved, -cluster.bytes_alone, cluster.members[0].label))


def _join(members: Sequence[Member], least_shared: float) -> list[list[int]]:
    """Greedy: always the two clusters that share most of the smaller one."""
    data = {at: member.data for at, member in enumerate(members)}
    holds = {at: [at] for at in data}
    near: dict[int, set[int]] = defaultdict(set)
    for a, b in _candidates([member.data for member in members]):
        near[a].add(b)
        near[b].add(a)
    queue = [(-data[a].share(data[b]), a, b) for a in near for b in near[a] if a < b]
    heapify(queue)
    fresh = count(len(members))
    while queue and -queue[0][0] >= least_shared:
        _, a, b = heappop(queue)
        if a not in holds or b not in holds:
            continue  # one of them has become part of another since
        new = next(fresh)
        holds[new], data[new] = holds.pop(a) + holds.pop(b), data.pop(a).joined(data.pop(b))
        near[new] = {c for c in near.pop(a) | near.pop(b) if c in holds}
        for c in near[new]:
            near[c].add(new)
            heappush(queue, (-data[c].share(data[new]), c, new))
    return list(holds.values())


def _cluster(members: Sequence[Member]) -> Cluster:
    by_group: dict[str, list[Member]] = defaultdict(list)
    for member in members:
        by_group[member.group].append(member)
    now = sum(_together(inside) for inside in by_group.values())
    return Cluster(members, sum(member.bytes for member in members), now, _together(members))


def _together(members: Sequence[Member]) -> int:
    """Bytes of all, each blob once."""
    alone = sum(member.bytes for member in members)
    sketches = sketches_of([member.data for member in members])
    part = union(sketches).bytes() / max(sum(sketch.bytes() for sketch in sketches), 1)
    return round(alone * min(part, 1.0)) if len(members) > 1 else alone
