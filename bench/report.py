"""From records to tables: medians, spreads, and ratios to restic of the same run on the same files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

Record = Mapping[str, Any]

PEER = "restic"

PEER_OPERATION = {"chain": "first"}
"""What an operation is compared with, where it is not restic's of the same name."""

LEAST_FOR_FLOOR = 10_000_000
"""Bytes written below which the disk is not what an operation waits for."""

TITLES = {
    ("restic", "first"): "`restic backup`, first",
    ("cdr", "first"): "`cdr backup` (client alone), first",
    ("cdr", "chain"): "whole chain, first",
    ("cdr", "unchanged"): "`cdr backup`, nothing changed",
    ("restic", "unchanged"): "`restic backup`, nothing changed",
    ("rsync", "first"): "`rsync -aHAX`, first",
    ("rsync", "unchanged"): "`rsync -aHAX`, nothing changed",
}

HEADER = (
    "| | wall s (min to max) | times as fast as restic | CPU s | CPU / restic's "
    "| peak MB | written MB | result MB | wall / disk floor |\n"
    + "| --- " * 9
    + "|"
)


def markdown(records: Sequence[Record]) -> str:
    """The whole report."""
    parts = ["\n".join(machine_lines(records))]
    for dataset in (record for record in records if record["record"] == "dataset"):
        rows = "\n".join(table_rows(records, dataset["name"]))
        parts.append(f"{dataset_heading(dataset)}\n\n{HEADER}\n{rows}")
    return "\n\n".join(parts) + "\n"


def machine_lines(records: Sequence[Record]) -> Iterator[str]:
    """Machine, versions, disk and start-up times, as a list."""
    for record in records:
        if record["record"] == "machine":
            yield "\n".join(f"- {key}: {value}" for key, value in record.items() if key != "record")
        if record["record"] == "startup":
            times = record["wall_s"]
            yield f"- `{record['command']}`: {spread(times, 3)} s, median of {len(times)}"
    rates = [record["bytes_per_s"] / 1e6 for record in records if record["record"] == "disk"]
    if rates:
        yield f"- disk, 512 MiB with fsync: {spread(rates, 0)} MB/s, {len(rates)} times"


def dataset_heading(dataset: Record) -> str:
    return (
        f"### {dataset['name']}: {dataset['files']:,} files, {dataset['size'] / 1e6:,.0f} MB"
        f" ({dataset['copied_files']:,} of them copies, {dataset['copied_size'] / 1e6:,.0f} MB)"
    )


def table_rows(records: Sequence[Record], dataset: str) -> Iterator[str]:
    """One row for each operation of each contestant, in the order in which they were first met."""
    steps = [r for r in records if r["record"] == "operation" and r["set"] == dataset]
    disk = [r for r in records if r["record"] == "disk" and r["set"] == dataset]
    rates = {r["run"]: median(s["bytes_per_s"] for s in disk if s["run"] == r["run"]) for r in disk}
    for contestant, operation in sorted({(s["contestant"], s["operation"]) for s in steps}, key=row_order):
        yield row(steps, rates, contestant, operation)


def row_order(key: tuple[str, str]) -> tuple[int, str]:
    """Operations that compare with each other stand together; single hops come last."""
    versions, care = ["init", "first", "chain", "unchanged", "restore"], ["check --read-data", "snapshots", "ls"]
    order = [*versions, *care, "forget", "prune"]
    contestant, operation = key
    return order.index(operation) if operation in order else len(order), f"{contestant != PEER} {contestant}"


def row(steps: Sequence[Record], rates: Mapping[int, float], contestant: str, operation: str) -> str:
    """Medians over the runs; a ratio is the median of the ratios of each run."""
    mine = of(steps, contestant, operation)
    peers = of(steps, PEER, PEER_OPERATION.get(operation, operation))
    both = sorted(mine.keys() & peers.keys())
    faster = [peers[run]["wall_s"] / mine[run]["wall_s"] for run in both]
    cpu = [mine[run]["cpu_s"] / max(peers[run]["cpu_s"], 1e-3) for run in both]
    floor = [
        r["wall_s"] * rates[run] / r["written_bytes"]
        for run, r in mine.items()
        if r["written_bytes"] >= LEAST_FOR_FLOOR
    ]
    is_peer = contestant == PEER
    cells = [
        TITLES.get((contestant, operation), f"{contestant}: {operation}"),
        spread([r["wall_s"] for r in mine.values()], 2),
        "" if is_peer or not faster else spread(faster, 2),
        f"{median(r['cpu_s'] for r in mine.values()):.2f}",
        "" if is_peer or not cpu else f"{median(cpu):.2f}",
        megabytes(mine.values(), "peak_bytes"),
        megabytes(mine.values(), "written_bytes"),
        megabytes(mine.values(), "output_bytes"),
        f"{median(floor):.2f}" if floor else "",
    ]
    return f"| {' | '.join(cells)} |"


def of(steps: Iterable[Record], contestant: str, operation: str) -> dict[int, Record]:
    """The records of one operation by the number of the run."""
    return {s["run"]: s for s in steps if (s["contestant"], s["operation"]) == (contestant, operation)}


def spread(values: Sequence[float], digits: int) -> str:
    """Median, and the extremes where there is more than one value."""
    middle = f"{median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def megabytes(records: Iterable[Record], key: str) -> str:
    """Median in MB of 10^6 bytes; empty when nothing was counted."""
    value = median(record[key] for record in records)
    return f"{value / 1e6:,.1f}" if value else ""
