"""The index in memory: bytes per blob, time to load, time to look up. ``python -m bench.index --blobs 1000000``.

Index files of 50,000 blobs in packs of 500, as restic writes them, are made one at a time and loaded; making them is
not timed. Each size runs in a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cdr_plugin.model.blobs import BlobType
from cdr_restic.index import MemoryIndex

FILE_BLOBS = 50_000
PACK_BLOBS = 500
ASKED = 200_000
SINGLE = 20_000
ROUNDS = 3


def index_file(source: random.Random, blobs: int) -> bytes:
    """An index file of version 2; every eighth pack has trees."""
    packs = [_pack(source, min(PACK_BLOBS, blobs - start)) for start in range(0, blobs, PACK_BLOBS)]
    return ('{"packs":[' + ",".join(packs) + "]}\n").encode()


def _pack(source: random.Random, blobs: int) -> str:
    ids = source.randbytes(32 * (blobs + 1)).hex()
    kind = "tree" if source.randrange(8) == 0 else "data"
    return f'{{"id":"{ids[:64]}","blobs":[{",".join(_blobs(source, ids, kind, blobs))}]}}'


def _blobs(source: random.Random, ids: str, kind: str, blobs: int) -> Iterator[str]:
    offset = 0
    for at in range(64, 64 * (blobs + 1), 64):
        length = 200 + int(source.random() * 60_000)
        yield (
            f'{{"id":"{ids[at : at + 64]}","type":"{kind}","offset":{offset},"length":{length},'
            f'"uncompressed_length":{length * 2}}}'
        )
        offset += length


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def loaded(blobs: int) -> tuple[MemoryIndex, float]:
    """An index of that many blobs, and the seconds that loading took."""
    source = random.Random(1)
    index = MemoryIndex()
    taken_s = 0.0
    for start in range(0, blobs, FILE_BLOBS):
        data = index_file(source, min(FILE_BLOBS, blobs - start))
        begun = time.perf_counter()
        index.load(data, 2)
        taken_s += time.perf_counter() - begun
    return index, taken_s


def best_ns(count: int, act: Callable[[], object]) -> float:
    """Nanoseconds per item in the best of some rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        act()
        best = min(best, time.perf_counter() - begun)
    return best / count * 1e9


def measure(blobs: int) -> dict[str, float]:
    before = resident_bytes()
    index, taken_s = loaded(blobs)
    used = resident_bytes() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    source = random.Random(2)
    entries = [next(index.rows(source.randrange(blobs), 1))[1] for _ in range(ASKED)]
    hits = [entry.id for entry in entries if entry.type is BlobType.DATA]
    misses = [source.randbytes(32) for _ in hits]
    known, unknown = b"".join(hits), b"".join(misses)
    flags = index.new_flags()
    data = BlobType.DATA
    return {
        "blobs": blobs,
        "table bytes per blob": index.nbytes / blobs,
        "resident bytes per blob": used / blobs,
        "peak resident MB": peak / 1e6,
        "entries loaded per second": blobs / taken_s,
        "bulk hit ns": best_ns(len(hits), lambda: index.find_rows(data, known)),
        "bulk miss ns": best_ns(len(hits), lambda: index.find_rows(data, unknown)),
        "locate ns": best_ns(len(hits), lambda: index.locate(data, known)),
        "mark ns": best_ns(len(hits), lambda: index.mark(data, known, flags)),
        "single hit ns": best_ns(SINGLE, lambda: [index.find(data, id_) for id_ in hits[:SINGLE]]),
        "single miss ns": best_ns(SINGLE, lambda: [index.has(data, id_) for id_ in misses[:SINGLE]]),
        "totals ns per blob": best_ns(blobs, lambda: index.totals(flags)),
    }


def report(results: list[dict[str, float]]) -> Iterator[str]:
    for name in results[0]:
        yield f"{name:28}" + "".join(f"{result[name]:>16,.0f}" if result[name] >= 1000 else
                                     f"{result[name]:>16.1f}" for result in results)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.index", description=__doc__)
    parser.add_argument("--blobs", type=int, nargs="+", default=[1_000_000, 10_000_000], metavar="N")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.blobs[0])))
        return
    results = []
    for blobs in arguments.blobs:
        command = [sys.executable, "-m", "bench.index", "--one", "--blobs", str(blobs)]
        results.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    print("\n".join(report(results)))


if __name__ == "__main__":
    main()
