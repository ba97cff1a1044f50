"""Counts what a restore does, and tells the reporter: progress, items, errors."""

from __future__ import annotations

import errno
import time

from cdr_plugin.errors import StorageFullError
from cdr_plugin.reporter import Reporter
from cdr_plugin.restore.folders import Folder
from cdr_plugin.restore.metadata import Applied
from cdr_plugin.restore.options import RestoreSummary

_EVERY = 64
"""Items between two progress messages; one message per item would cost a tenth of the whole."""


def display(folder: Folder, name: bytes) -> str:
    """The path of an item in the version, for people: what is not UTF-8 as ``\\xNN``."""
    return (folder.path() + name).decode("utf-8", "backslashreplace")


class Tally:
    """The summary of a restore in the making. With ``items`` the reporter hears of every item."""

    def __init__(self, reporter: Reporter, *, items: bool = False) -> None:
        self.summary = RestoreSummary()
        self._reporter = reporter
        self._items = items
        self._started = time.monotonic()
        self._since_report = 0
        self._without_attributes = 0

    def found(self, size: int) -> None:
        """One more item is to be restored, of ``size`` content bytes."""
        self.summary.total_files += 1
        self.summary.total_bytes += size

    def wrote(self, size: int) -> None:
        """Content bytes reached their file."""
        self.summary.bytes_restored += size

    def restored(self, folder: Folder, name: bytes, size: int = 0, *, existed: bool = False) -> None:
        """One item is complete under its final name; it took the place of another if that ``existed``."""
        self.summary.files_restored += 1
        if self._items:
            self._reporter.item("updated" if existed else "restored", display(folder, name), size)
        self._since_report += 1
        if self._since_report >= _EVERY:
            self.report()

    def skipped(self, folder: Folder, name: bytes, size: int) -> None:
        """One item exists already and stays."""
        self.summary.files_skipped += 1
        self.summary.bytes_skipped += size
        if self._items:
            self._reporter.item("unchanged", display(folder, name), size)

    def deleted(self, folder: Folder, name: bytes) -> None:
        """One entry of the target, which the version does not hold, is gone."""
        self.summary.files_deleted += 1
        if self._items:
            self._reporter.item("deleted", display(folder, name), 0)

    def failed(self, folder: Folder, name: bytes, error: Exception | str) -> None:
        """One item is not, or not wholly, restored; the work goes on. StorageFullError when it
        cannot, since every other item would fail alike."""
        self.summary.errors += 1
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFullError(
                f"the target is full ({self.summary.files_restored} items are restored): make room, "
                "then run again with --overwrite if-changed"
            ) from None
        if isinstance(error, OSError) and error.strerror:
            error = error.strerror
        self._reporter.error(display(folder, name), "restore", error)

    def note(self, folder: Folder, name: bytes, text: str) -> None:
        self._reporter.note(f"{display(folder, name)}: {text}")

    def applied(self, folder: Folder, name: bytes, applied: Applied) -> None:
        """How much of the metadata an item got that is in place."""
        self._without_attributes += not applied.attributes
        if applied.error is not None:
            # Also where the reason is a lack of space: ext4 says that of one attribute too many.
            reason = applied.error.strerror or applied.error
            self.failed(folder, name, f"is in place, but some of its owner, mode, times or attributes is not: {reason}")

    def report(self) -> None:
        self._since_report = 0
        summary = self.summary
        counted = {
            "seconds_elapsed": int(time.monotonic() - self._started),
            "files_skipped": summary.files_skipped,
            "files_deleted": summary.files_deleted,
            "bytes_skipped": summary.bytes_skipped,
        }
        done = summary.bytes_restored + summary.bytes_skipped
        self._reporter.progress(
            percent_done=done / summary.total_bytes if summary.total_bytes else 0.0,
            total_files=summary.total_files,
            files_restored=summary.files_restored,
            total_bytes=summary.total_bytes,
            bytes_restored=summary.bytes_restored,
            **{field: value for field, value in counted.items() if value},
        )

    def finish(self) -> RestoreSummary:
        self.report()
        if self._without_attributes:
            self._reporter.note(
                f"{self._without_attributes} items have extended attributes or ACLs that the file system "
                "of the target cannot store; they were left out"
            )
        self.summary.seconds_elapsed = time.monotonic() - self._started
        return self.summary
