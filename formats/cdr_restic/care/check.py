"""``cdr check``: indexes, packs, snapshots and trees against each other; on request every byte of packs.

Damage stops nothing: what can still be looked at is. At the end the damaged blobs that have no good copy
elsewhere are followed to the files that need them.
"""

from __future__ import annotations

from dataclasses import replace

from cdr_plugin.care import CheckOptions, CheckReport, Finding
from cdr_restic.care.check_index import IndexedPacks, check_packs, load_indexes
from cdr_restic.care.check_packs import Subset, packs_to_read, reading_packs
from cdr_restic.care.check_report import Blob, Findings
from cdr_restic.care.check_trees import TreeCheck, load_snapshots
from cdr_restic.care.damage import Hit, files_hit
from cdr_restic.index import MemoryIndex
from cdr_restic.reading import ResticReader
from cdr_restic.repository import Held

_LISTED_UNUSED = 1_000


def check(held: Held, options: CheckOptions, *, workers: int | None = None) -> CheckReport:
    """What is wrong with the repository. UserError for a subset that makes no sense; RemoteError when the
    storage fails altogether. ``workers``: processes that verify packs, chosen by default.

    Memory: the index with two bytes more per blob, packs by their size, and one batch of trees.
    """
    Subset.parse(options.subset)
    storage, report = held.files.storage, CheckReport()
    findings = Findings(report, held.options.reporter, storage.location)
    held.options.reporter.progress(action="loading indexes")
    index = load_indexes(held.files, findings)
    packs = IndexedPacks(index, storage)
    report.packs, report.blobs = len(packs), index.blobs
    doubtful = check_packs(packs, findings)
    snapshots = load_snapshots(held.files, findings)
    report.versions = len(snapshots)
    reader = ResticReader(storage, held.key, index)
    try:
        chosen = packs_to_read(options, packs, doubtful)
        with reading_packs(storage, held.key, packs, chosen, findings, workers) as judge_packs:
            trees = TreeCheck(index, reader, findings)
            trees.run(snapshots)
            report.trees = trees.trees
            _judge_unused(index, trees.flags, options, findings)
            judge_packs()
        lost = _without_copy(index, findings)
        _name_files(findings, files_hit(index, reader, snapshots, lost))
    finally:
        reader.close()
    findings.finish()
    return report


def _judge_unused(index: MemoryIndex, flags: bytearray, options: CheckOptions, findings: Findings) -> None:
    """Unused blobs are counted, unless damaged trees may hide who uses them."""
    unused = index.blobs - (len(flags) - flags.count(0))
    if not unused or (findings.report.errors and not options.check_unused):
        return
    findings.report.suggest_prune = True
    if not options.check_unused:
        findings.hint(f"{unused} of {index.blobs} blobs are reached by no version; 'cdr prune' removes them")
        return
    repeated = {row for row, _ in index.repeats()}
    row, listed = flags.find(0), 0
    while row >= 0 and listed < _LISTED_UNUSED:
        if row not in repeated:
            [(_, entry)] = index.rows(row, 1)
            findings.error(f"unused blob {entry.type.name.lower()} {entry.id.hex()}")
            listed += 1
        row = flags.find(0, row + 1)
    if unused > listed:
        findings.error(f"{unused - listed} more unused blobs")


def _without_copy(index: MemoryIndex, findings: Findings) -> list[Blob]:
    """Of the damaged blobs those that no pack holds undamaged."""
    damaged = findings.damaged
    safe = {blob for blob, packs in damaged.items() if packs and _pack_of(index, index.row(*blob)) not in packs}
    firsts = {index.row(*blob): blob for blob in damaged if blob not in safe and damaged[blob]}
    for row, first in index.repeats() if firsts else ():
        blob = firsts.get(first)
        if blob is not None and _pack_of(index, row) not in damaged[blob]:
            safe.add(blob)
    return [blob for blob in damaged if blob not in safe]


def _pack_of(index: MemoryIndex, row: int) -> str:
    [(number, _)] = index.rows(row, 1)
    return index.pack_name(number)


def _name_files(findings: Findings, hits: dict[Blob, Hit]) -> None:
    by_name = {f"{type_.name.lower()} {id_.hex()}": hit for (type_, id_), hit in hits.items()}
    listed = findings.report.errors
    for at, finding in enumerate(listed):
        if any(blob in by_name for blob in finding.blobs):
            listed[at] = _with_files(finding, [by_name[blob] for blob in finding.blobs if blob in by_name])
    named = {blob for finding in listed for blob in finding.blobs}
    for name, hit in by_name.items():
        if name not in named:
            # Trees in packs that are broken for another reason.
            findings.add(_with_files(Finding(f"{name} cannot be read", blobs=(name,)), [hit]))


def _with_files(finding: Finding, hits: list[Hit]) -> Finding:
    """The files once each; those of which only the number is known are counted in the text, where a file
    that misses several blobs counts as often."""
    files = tuple(dict.fromkeys(file for hit in hits for file in hit.files))
    more = sum(hit.count - len(hit.files) for hit in hits)
    text = f"{finding.text}; {more} more places are hit than are listed" if more else finding.text
    return replace(finding, text=text, files=files)
