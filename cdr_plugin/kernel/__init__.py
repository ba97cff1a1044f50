"""Hot kernels: cut points, folder scans, files in batches, indexes, tables of blobs, block matching; in C or Python.

The environment variable ``CDR_KERNEL`` asks for ``c`` or ``python`` by name; without it the C extension is
used where it was built, otherwise Python with one warning. ``reference`` says what each function promises.
"""

import os
import warnings
from types import ModuleType
from typing import TYPE_CHECKING

from .blob_records import (
    BLOB_RECORD,
    LISTED_RECORD,
    REPEAT_RECORD,
    RUN_RECORD,
    TOTALS_RECORD,
    BlobRow,
)
from .copy_record import COPY_RECORD
from .file_steps import Step
from .records import STAT_RECORD, StatRecord


def _choose(wanted: str) -> tuple[ModuleType, str]:
    """The module that serves this process, and its name for users."""
    if wanted not in ("", "c", "python"):
        raise ValueError(f"CDR_KERNEL must be 'c' or 'python', not {wanted!r}")
    if wanted != "python":
        try:
            from . import _kernel

            return _kernel, "c"
        except ImportError as error:
            _explain(wanted, error)
    from . import reference

    return reference, "python"


def _explain(wanted: str, error: ImportError) -> None:
    """Raise if C was asked for by name, else warn."""
    if wanted == "c":
        raise ImportError(
            f"CDR_KERNEL=c asks for the compiled kernel, which cannot be loaded ({error}). "
            "Reinstall CDR where there is a C compiler, or unset CDR_KERNEL."
        ) from error
    warnings.warn(
        f"the compiled kernel cannot be loaded ({error}): scanning and chunking run in plain Python, correct "
        "but slow. Reinstall CDR where there is a C compiler; CDR_KERNEL=python silences this.",
        RuntimeWarning,
        stacklevel=4,
    )


_chosen, in_use = _choose(os.environ.get("CDR_KERNEL", ""))

if TYPE_CHECKING:
    from ._kernel import (
        BlobTable,
        BlockIndex,
        BlockSample,
        BlockSigner,
        Chunker,
        make_files,
        read_files,
        scan_directory,
        scan_index,
    )
else:
    BlobTable = _chosen.BlobTable
    BlockIndex = _chosen.BlockIndex
    BlockSample = _chosen.BlockSample
    BlockSigner = _chosen.BlockSigner
    Chunker = _chosen.Chunker
    scan_directory = _chosen.scan_directory
    make_files = _chosen.make_files
    read_files = _chosen.read_files
    scan_index = _chosen.scan_index

__all__ = [
    "BLOB_RECORD",
    "COPY_RECORD",
    "LISTED_RECORD",
    "REPEAT_RECORD",
    "RUN_RECORD",
    "STAT_RECORD",
    "TOTALS_RECORD",
    "BlobRow",
    "BlobTable",
    "BlockIndex",
    "BlockSample",
    "BlockSigner",
    "Chunker",
    "StatRecord",
    "Step",
    "in_use",
    "make_files",
    "read_files",
    "scan_directory",
    "scan_index",
]
