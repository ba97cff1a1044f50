"""What a check has found so far, reported at once and kept within bounds."""

from __future__ import annotations

from collections.abc import Iterable

from cdr_plugin.care import CheckReport, Finding
from cdr_plugin.model.blobs import BlobType
from cdr_plugin.reporter import Reporter

LISTED_ERRORS = 10_000
LISTED_HINTS = 1_000
LISTED_DAMAGED = 100_000
"""How many are named; more are counted. A damaged blob takes about a kilobyte with the files that it hits."""


Blob = tuple[BlobType, bytes]


class Findings:
    """Collects for ``report``; ``damaged`` are blobs that cannot be read, with the names of the packs
    in which they cannot (none: they are in no index)."""

    def __init__(self, report: CheckReport, reporter: Reporter, location: str) -> None:
        self.report = report
        self.reporter = reporter
        self.damaged: dict[Blob, tuple[str, ...]] = {}
        self._location = location
        self._more_errors = self._more_hints = self._more_damaged = 0

    def error(self, text: str, *, pack: str = "", blobs: Iterable[Blob] = ()) -> None:
        """``blobs`` cannot be read from ``pack``."""
        named = [f"{type_.name.lower()} {id_.hex()}" for type_, id_ in blobs if self.damage(type_, id_, pack)]
        self.add(Finding(text, pack, tuple(named)))

    def add(self, finding: Finding) -> None:
        if len(self.report.errors) >= LISTED_ERRORS:
            self._more_errors += 1
            return
        self.reporter.error(self._location, "check", finding.text)
        self.report.errors.append(finding)

    def damage(self, type_: BlobType, id_: bytes, pack: str = "") -> bool:
        """Remember; False if there are too many already."""
        blob = (type_, id_)
        packs = self.damaged.get(blob)
        if packs is None and len(self.damaged) >= LISTED_DAMAGED:
            self._more_damaged += 1
            return False
        self.damaged[blob] = tuple({*(packs or ()), *filter(None, [pack])})
        return True

    def break_pack(self, text: str, pack: str, blobs: Iterable[Blob] = ()) -> None:
        """``error`` for a pack that is to be salvaged or given up."""
        self.report.broken_packs.append(pack)
        self.error(text, pack=pack, blobs=blobs)

    def hint(self, text: str, *, pack: str = "") -> None:
        if len(self.report.hints) >= LISTED_HINTS:
            self._more_hints += 1
            return
        self.reporter.note(text)
        self.report.hints.append(Finding(text, pack))

    def finish(self) -> None:
        """Say how much is not listed."""
        for count, what, listed in (
            (self._more_errors, "errors", self.report.errors),
            (self._more_damaged, "damaged blobs", self.report.errors),
            (self._more_hints, "hints", self.report.hints),
        ):
            if count:
                listed.append(Finding(f"{count} more {what} are not listed"))
