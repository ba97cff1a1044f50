"""Reading packs: which ones, and what is wrong with them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from cdr_plugin.care import CheckOptions
from cdr_plugin.errors import UserError
from cdr_restic.care.check_index import IndexedPacks
from cdr_restic.care.check_pool import verifying_packs, worker_count
from cdr_restic.care.check_report import Findings
from cdr_restic.crypto import KeyMaterial
from cdr_restic.storage import Storage
from cdr_restic.verify_worker import Answer, Request

_WORTH_A_PROCESS_BYTES = 32 * 1024 * 1024
"""Starting one takes 0.1 s, in which this much is verified."""
_MAX_BUCKETS = 256
_PART = re.compile(r"(\d+)/(\d+)").fullmatch
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)%").fullmatch
_SIZE = re.compile(r"(\d+)([kKmMgGtT]?)").fullmatch
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


@dataclass(frozen=True, slots=True)
class Subset:
    """Which packs to read: bucket ``n`` of ``t``, or a share of them all (0 to 1), or some bytes."""

    bucket: tuple[int, int] | None = None
    share: float = 1.0
    size: int | None = None

    @classmethod
    def parse(cls, text: str) -> Subset:
        """restic's three forms, and nothing for all; UserError."""
        if not text:
            return cls()
        if (part := _PART(text)) and 1 <= int(part[1]) <= int(part[2]) <= _MAX_BUCKETS:
            return cls(bucket=(int(part[1]), int(part[2])))
        if (percent := _PERCENT(text)) and 0 < float(percent[1]) <= 100:
            return cls(share=float(percent[1]) / 100)
        if (size := _SIZE(text)) and int(size[1]):
            return cls(size=int(size[1]) * _UNITS[size[2].lower()])
        raise UserError(
            f"subset {text!r} is neither n/t with 1 <= n <= t <= {_MAX_BUCKETS}, nor a percentage up to 100% "
            "like 2.5%, nor a size like 500M"
        )

    def choose(self, packs: IndexedPacks, source: random.Random) -> list[int]:
        """Numbers of packs that are there, in their order; at random except for a bucket."""
        present = packs.present()
        if self.bucket is not None:
            n, t = self.bucket
            return [number for number in present if int(packs.index.pack_name(number)[:2], 16) % t == n - 1]
        share = self.share
        if self.size is not None:
            share = min(self.size / max(sum(packs.sizes[number] for number in present), 1), 1.0)
        count = min(max(int(share * len(present)), 1), len(present))
        return sorted(source.sample(present, count))


def packs_to_read(options: CheckOptions, packs: IndexedPacks, doubtful: Sequence[int]) -> list[int]:
    """Those that the options choose, and in any case those in doubt: what they have lost is to be named."""
    chosen: list[int] = []
    if options.read_data or options.subset:
        chosen = Subset.parse(options.subset).choose(packs, random.SystemRandom())
    return sorted({*chosen, *doubtful})


@contextmanager
def reading_packs(
    storage: Storage,
    key: KeyMaterial,
    packs: IndexedPacks,
    numbers: Sequence[int],
    findings: Findings,
    workers: int | None = None,
) -> Iterator[Callable[[], None]]:
    """Packs are verified in the background from now on; what is yielded waits for them and makes findings of those that
    are broken. ``workers``: processes, as many as it is worth by default."""
    total = sum(packs.sizes[number] for number in numbers)
    if workers is None:
        workers = min(worker_count(), len(numbers), total // _WORTH_A_PROCESS_BYTES)
    report = findings.report
    with verifying_packs(storage, key, _requests(packs, numbers), workers) as answers:

        def judge() -> None:
            for request, answer in answers:
                report.packs_read += 1
                report.bytes_read += answer.size
                findings.reporter.progress(
                    action="reading packs", bytes_done=report.bytes_read, total_bytes=total, packs=report.packs_read
                )
                _judge(request, answer, packs, findings)

        yield judge


def _requests(packs: IndexedPacks, numbers: Sequence[int]) -> Iterator[Request]:
    return (Request(packs.index.pack_name(number), packs.entries(number)) for number in numbers)


def _judge(request: Request, answer: Answer, packs: IndexedPacks, findings: Findings) -> None:
    """One finding for a broken pack, that says all."""
    number = packs.index.pack_number(request.name)
    assert number is not None
    problems = list(answer.problems)
    expected = packs.expected_size(number)
    if packs.sizes[number] != expected:
        problems.insert(0, f"it has {packs.sizes[number]} bytes instead of {expected}, says the index")
    damaged = [request.entries[at] for at, _ in answer.lost]
    if damaged:
        problems.append(f"{len(damaged)} of {len(request.entries)} blobs are damaged, the first: {answer.lost[0][1]}")
    elif answer.problems and not answer.size:
        damaged = request.entries
    if problems:
        blobs = [(entry.type, entry.id) for entry in damaged]
        findings.break_pack(f"pack {request.name}: {'; '.join(problems)}", request.name, blobs)
