"""Passes the kernel's questions on to ``VersionFiles``, by libfuse 2 or 3 through mfusepy.

mfusepy is one Python file that calls the library by ctypes: it needs no compiler, and works with
Debian 12's libfuse3 as well as with libfuse2.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator
from ctypes.util import find_library
from pathlib import Path
from typing import Any

from cdr_plugin.errors import UserError
from cdr_plugin.mount.attributes import Attributes
from cdr_plugin.mount.filesystem import VersionFiles

_DEVICE = Path("/dev/fuse")
_IDLE_THREADS = 10
"""libfuse's own default, which 3.12 and later complain of on standard error when nobody names it."""
_KERNEL_REMEMBERS_S = 60
"""Names and attributes of a version never change; only folders above them do."""


def load_binding() -> Any:
    """mfusepy; UserError that says what is missing here and how to get it."""
    if not _DEVICE.exists():
        raise UserError(
            "this machine has no /dev/fuse, so nothing can be mounted: load the kernel module with "
            "'modprobe fuse', or give the container the device; 'cdr restore' works without"
        )
    if find_library("fuse3"):
        os.environ.setdefault("FUSE_LIBRARY_NAME", "fuse3")
    try:
        import mfusepy
    except ModuleNotFoundError:
        raise UserError("mounting needs the extra 'mount': pip install 'cdr-plugin[mount]'") from None
    except (OSError, AttributeError) as error:
        raise UserError(f"mounting needs libfuse ({error}): install it, on Debian with 'apt install fuse3'") from None
    return mfusepy


class Operations:
    """The methods that mfusepy looks for. Times are in nanoseconds."""

    use_ns = True

    def __init__(self, files: VersionFiles, ready: Callable[[], None]) -> None:
        self._files = files
        self._ready = ready
        self.was_ready = False

    def init(self, path: str) -> None:
        self.was_ready = True
        self._ready()

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        return _as_stat(self._files.lookup(path))

    def readdir(self, path: str, fh: int) -> Iterator[str | tuple[str, dict[str, int], int]]:
        yield "."
        yield ".."
        for name, attributes in self._files.readdir(path):
            yield name, {"st_mode": attributes.mode, "st_ino": attributes.inode}, 0

    def readlink(self, path: str) -> str:
        return self._files.readlink(path).decode("utf-8", "surrogateescape")

    def listxattr(self, path: str) -> list[str]:
        return list(self._files.xattrs(path))

    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        value = self._files.xattrs(path).get(name)
        if value is None:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA), path)
        return value

    def open(self, path: str, flags: int) -> int:
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        return self._files.open(path)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return self._files.read(path, fh, size, offset)

    def release(self, path: str, fh: int) -> int:
        self._files.release(fh)
        return 0


def _as_stat(attributes: Attributes) -> dict[str, int]:
    return {
        "st_mode": attributes.mode,
        "st_ino": attributes.inode,
        "st_nlink": attributes.links,
        "st_uid": attributes.uid,
        "st_gid": attributes.gid,
        "st_rdev": attributes.device,
        "st_size": attributes.size,
        "st_blocks": attributes.blocks,
        "st_mtime": attributes.mtime_ns,
        "st_atime": attributes.atime_ns,
        "st_ctime": attributes.ctime_ns,
    }


def serve(
    binding: Any,
    files: VersionFiles,
    mountpoint: Path,
    ready: Callable[[], None],
    *,
    allow_other: bool = False,
    default_permissions: bool = False,
) -> None:
    """Mount and answer until the mount is gone or SIGINT or SIGTERM comes; in the main thread.

    ``ready`` is called when the kernel has taken the mount. UserError when it does not.
    """
    operations = Operations(files, ready)
    version = binding.fuse_version_major, binding.fuse_version_minor
    threads = {"max_idle_threads": _IDLE_THREADS} if version >= (3, 12) else {}
    # libfuse unmounts at SIGTERM if nobody else handles it; for SIGINT the binding does the same.
    handler = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        binding.FUSE(
            operations,
            str(mountpoint),
            foreground=True,
            ro=True,
            fsname="cdr",
            subtype="cdr",
            use_ino=True,
            kernel_cache=True,
            entry_timeout=_KERNEL_REMEMBERS_S,
            attr_timeout=_KERNEL_REMEMBERS_S,
            allow_other=allow_other,
            default_permissions=default_permissions,
            **threads,
        )
    except RuntimeError as error:
        # libfuse 3 also says so when a signal ended what had begun well.
        if not operations.was_ready:
            raise UserError(
                f"cannot mount at {mountpoint} (libfuse gave up with code {error}, and says why above); "
                "is 'fusermount3' installed, and is the folder yours?"
            ) from None
    finally:
        signal.signal(signal.SIGTERM, handler)
