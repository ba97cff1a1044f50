"""Which packs pruning keeps, repacks and removes: restic's thresholds and order, from numbers alone."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cdr_plugin.care import PruneOptions, PruneReport
from cdr_plugin.errors import UserError

SMALL_PACKS = 10
"""Small packs are repacked only when there are at least so many."""
_SMALL = 1 / 25
_SMALL_IF_ASKED = 0.8
"""Of the pack size: below it a pack is small, without and with ``repack_small``."""
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_MAX_UNUSED = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?:(?P<percent>%)|(?P<unit>[bkmgt]?))", re.ASCII | re.IGNORECASE)


@dataclass(slots=True)
class PackUse:
    """A pack that the index lists, and what of it is kept. Bytes are of sealed blobs with their
    header entries; those of the header's frame count as kept where any blob is."""

    number: int
    """In the index in memory."""
    kept: int = 0
    duplicate: int = 0
    unused: int = 0
    kept_bytes: int = 0
    duplicate_bytes: int = 0
    unused_bytes: int = 0
    has_data: bool = False
    has_trees: bool = False
    must_compress: bool = False

    @property
    def blobs(self) -> int:
        return self.kept + self.duplicate + self.unused

    @property
    def bytes(self) -> int:
        """What the pack's file must have."""
        return self.kept_bytes + self.duplicate_bytes + self.unused_bytes

    @property
    def waste_bytes(self) -> int:
        return self.duplicate_bytes + self.unused_bytes

    @property
    def is_pure_data(self) -> bool:
        return not self.has_trees


@dataclass(slots=True)
class PrunePlan:
    """Packs by number in the index; ``unindexed`` by name. ``missing`` are listed, needed by
    nobody, and not there."""

    report: PruneReport
    unindexed: list[str] = field(default_factory=list)
    repacked: list[int] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)

    @property
    def gone(self) -> set[int]:
        """Packs that no index may list afterwards."""
        return {*self.repacked, *self.removed, *self.missing}


def unused_limit(text: str, used_bytes: int) -> float:
    """Bytes that may stay unused beside ``used_bytes``, for ``--max-unused``; UserError."""
    if text == "unlimited":
        return math.inf
    match = _MAX_UNUSED.fullmatch(text)
    if match is None or (match["percent"] and float(match["number"]) >= 100):
        raise UserError(f"max-unused {text!r}: give a percentage below 100 (5%), a size (500M) or 'unlimited'")
    if match["percent"]:
        share = float(match["number"])
        return share / (100 - share) * used_bytes
    return float(match["number"]) * _UNITS[match["unit"].lower()]


def check_options(options: PruneOptions) -> None:
    """UserError."""
    unused_limit(options.max_unused, 0)
    sizes = {"max-repack-size": options.max_repack_size, "repack-smaller-than": options.repack_smaller_than}
    for name, size in sizes.items():
        if size is not None and size < 0:
            raise UserError(f"{name} {size}: must not be negative")


def plan_prune(
    packs: Iterable[PackUse], stored: Mapping[int, int], unindexed: Mapping[str, int],
    options: PruneOptions, pack_size: int,
) -> PrunePlan:
    """``stored`` has the sizes of the packs in ``packs`` that exist, by number; ``unindexed`` those
    of all others, by name; ``pack_size`` is the size that new packs aim at, in bytes.
    ``require_packs`` has been asked before."""
    plan = PrunePlan(PruneReport(), list(unindexed))
    report = plan.report
    report.packs_unreferenced = len(unindexed)
    report.bytes_unreferenced = report.bytes_removed = sum(unindexed.values())
    small_bytes = _small_bytes(options, pack_size)
    candidates: list[PackUse] = []
    small: list[PackUse] = []
    for pack in packs:
        _count(report, pack)
        if not pack.kept:
            (plan.removed if pack.number in stored else plan.missing).append(pack.number)
            _count_removed(report, pack)
        elif options.repack_cacheable_only and pack.is_pure_data:
            report.packs_kept += 1
        elif pack.waste_bytes or pack.must_compress or (pack.has_data and pack.has_trees):
            candidates.append(pack)
        elif pack.bytes < small_bytes:
            small.append(pack)
        else:
            report.packs_kept += 1
    if len(small) >= SMALL_PACKS:
        candidates += small
    else:
        report.packs_kept += len(small)
    report.packs_removed = len(plan.removed)
    _choose(plan, candidates, options, small_bytes)
    report.bytes_left_unused = report.bytes_unused + report.bytes_duplicate - _indexed_removed(report)
    report.blobs_left = report.blobs_used + report.blobs_duplicate + report.blobs_unused - report.blobs_removed
    return plan


def require_packs(packs: Iterable[PackUse], stored: Mapping[int, int]) -> tuple[list[int], list[int]]:
    """Numbers of needed packs that are missing, and of those with another size than their
    entries add up to."""
    missing, wrong = [], []
    for pack in packs:
        if pack.kept and pack.number not in stored:
            missing.append(pack.number)
        elif pack.kept and stored[pack.number] != pack.bytes:
            wrong.append(pack.number)
    return missing, wrong


def _choose(plan: PrunePlan, candidates: list[PackUse], options: PruneOptions, small_bytes: float) -> None:
    """Which candidates to repack, most rewarding first, until what stays unused is little enough."""
    report = plan.report
    allowed = unused_limit(options.max_unused, report.bytes_used)
    waste = report.bytes_unused + report.bytes_duplicate
    for pack in sorted(candidates, key=lambda pack: _order(pack, small_bytes)):
        beyond = (
            options.max_repack_size is not None
            and report.bytes_repacked + pack.bytes >= options.max_repack_size
        )
        must = not pack.is_pure_data or pack.must_compress or pack.bytes < small_bytes
        if beyond or not (must or waste - _indexed_removed(report) >= allowed):
            report.packs_kept += 1
            continue
        plan.repacked.append(pack.number)
        report.packs_repacked += 1
        report.blobs_repacked += pack.blobs
        report.bytes_repacked += pack.bytes
        report.blobs_removed += pack.duplicate + pack.unused
        report.bytes_removed += pack.waste_bytes


def _order(pack: PackUse, small_bytes: float) -> tuple[bool, bool, float, int]:
    return pack.is_pure_data, pack.bytes >= small_bytes, -pack.waste_bytes / pack.kept_bytes, pack.number


def _small_bytes(options: PruneOptions, pack_size: int) -> float:
    if options.repack_smaller_than is not None:
        return options.repack_smaller_than
    return pack_size * (_SMALL_IF_ASKED if options.repack_small else _SMALL)


def _count(report: PruneReport, pack: PackUse) -> None:
    report.blobs_used += pack.kept
    report.bytes_used += pack.kept_bytes
    report.blobs_duplicate += pack.duplicate
    report.bytes_duplicate += pack.duplicate_bytes
    report.blobs_unused += pack.unused
    report.bytes_unused += pack.unused_bytes


def _count_removed(report: PruneReport, pack: PackUse) -> None:
    report.blobs_removed += pack.blobs
    report.bytes_removed += pack.bytes


def _indexed_removed(report: PruneReport) -> int:
    """Bytes that go and were indexed."""
    return report.bytes_removed - report.bytes_unreferenced
