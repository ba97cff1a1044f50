"""From records to tables of what travels for the next version: medians over the versions, and their extremes.

Ratios are those of one version; then come median and extremes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median

from bench.report import Record, machine_lines, of, spread

HEADER = (
    "| | travels, kB (min to max) | rdiff's are 1 | xdelta3's are 1 | times less than restic "
    "| wall s (min to max) | restic's is 1 | CPU s | peak MB | kept, % of the data | first version, s |\n"
    + "| --- " * 11
    + "|"
)

Versions = Mapping[int, Record]
"""The records of one contestant by the number of the run."""


def delta_markdown(records: Sequence[Record]) -> str:
    """The whole report."""
    parts = ["\n".join(machine_lines(records))]
    parts += ["\n".join(f"- {record['text']}" for record in records if record["record"] == "remark")]
    for dataset in (record for record in records if record["record"] == "dataset"):
        rows = "\n".join(_rows([r for r in records if r.get("set") == dataset["name"]]))
        heading = f"### {dataset['name']}: {dataset['files']:,} files, {dataset['size'] / 1e6:,.0f} MB"
        parts.append(f"{heading}\n\n{HEADER}\n{rows}")
    return "\n\n".join(filter(None, parts)) + "\n"


def _rows(records: Sequence[Record]) -> Iterator[str]:
    steps = [record for record in records if record["record"] == "operation"]
    for name in sorted({record["contestant"] for record in steps if record["operation"] == "next"}):
        mine = of(steps, name, "next")
        first = [record["wall_s"] for record in of(steps, name, "first").values()]
        travel = [record["travel_bytes"] / 1e3 for record in mine.values()]
        kept = [record["kept_bytes"] / record["kept_for_bytes"] for record in mine.values() if record["kept_for_bytes"]]
        cells = [
            name,
            spread(travel, 1),
            _ratios(mine, of(steps, "rdiff", "next"), _bytes_to),
            _ratios(mine, of(steps, "xdelta3", "next"), _bytes_to),
            _ratios(mine, of(steps, "restic", "next"), lambda own, its: 1 / _bytes_to(own, its)),
            spread([record["wall_s"] for record in mine.values()], 2),
            _ratios(mine, of(steps, "restic", "next"), lambda own, its: own["wall_s"] / its["wall_s"]),
            f"{median(record['cpu_s'] for record in mine.values()):.2f}",
            f"{median(record['peak_bytes'] for record in mine.values()) / 1e6:,.0f}",
            f"{100 * median(kept):.2f}" if kept else "",
            f"{median(first):.2f}" if first else "",
        ]
        yield f"| {' | '.join(cells)} |"


def _bytes_to(own: Record, its: Record) -> float:
    return float(own["travel_bytes"] / max(its["travel_bytes"], 1))


def _ratios(mine: Versions, peers: Versions, ratio: Callable[[Record, Record], float]) -> str:
    both = sorted(mine.keys() & peers.keys())
    if not both or mine == peers:
        return ""
    return spread([ratio(mine[run], peers[run]) for run in both], 2)
