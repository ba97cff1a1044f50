"""The archiver: what ``restic backup`` does to files, in the form of restic 0.19.

Walks the targets, splits and hashes what has changed since the last catalog, builds trees, and
hands every new blob to a sink. Root tree IDs equal restic's for the same files.
"""

from cdr_plugin.archiver.archive import archive
from cdr_plugin.archiver.catalog import catalog_blobs
from cdr_plugin.archiver.exclude import ExcludeRules, parse_size
from cdr_plugin.archiver.exclude_file import read_exclude_file
from cdr_plugin.archiver.options import ArchiveOptions, ArchiveResult, BlobSink, Counts
from cdr_plugin.archiver.origin import NewBlob, Origin

__all__ = [
    "ArchiveOptions",
    "ArchiveResult",
    "BlobSink",
    "Counts",
    "ExcludeRules",
    "NewBlob",
    "Origin",
    "archive",
    "catalog_blobs",
    "parse_size",
    "read_exclude_file",
]
