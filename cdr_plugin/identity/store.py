"""An identity on disk: one folder, apart from the state, that only its owner can read.

::

    identity.key           version and suite, then the signing key
    sealing-GROUP.keys     sealing keys of one group, oldest first

Old sealing keys stay until nothing sealed to them remains. Files appear whole or not at all.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cdr_plugin.errors import ConfigError, FormatError, NotEnrolledError, UserError
from cdr_plugin.identity.keys import DEFAULT_SUITE, KemSuite, SealingKey, SigningKey
from cdr_plugin.identity.wire import check_group

_IDENTITY = "identity.key"
_FIRST_LINE = "cdr-identity 1 "
_MAX_KEY_FILE_BYTES = 1024 * 1024


class Identity:
    """The keys of one tier. Used by one thread at a time; several processes may share the folder."""

    def __init__(self, folder: Path, suite: KemSuite, signing: SigningKey) -> None:
        self.folder = folder
        self.suite = suite
        """The one KEM suite of this identity: it makes and opens no other."""
        self.signing = signing

    @classmethod
    def create(cls, folder: Path, suite: KemSuite = DEFAULT_SUITE) -> Identity:
        """A new identity in ``folder``, durable on return; UserError when one is there already."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
        except OSError as error:
            raise ConfigError(f"identity {folder}: cannot make the folder: {error.strerror}") from None
        signing = SigningKey.generate()
        with _locked(folder):
            if (folder / _IDENTITY).exists():
                raise UserError(f"identity {folder}: there is one already; remove it yourself if it may go")
            _write_private(folder / _IDENTITY, f"{_FIRST_LINE}{suite.label}\n{signing.to_text()}\n")
        return cls(folder, suite, signing)

    @classmethod
    def load(cls, folder: Path) -> Identity:
        """NotEnrolledError when there is none, ConfigError when others could read it."""
        text = _read_private(folder / _IDENTITY)
        if text is None:
            raise NotEnrolledError(f"identity {folder}: not there; run 'cdr init'")
        first, _, signing = text.partition("\n")
        suites = {_FIRST_LINE + suite.label: suite for suite in KemSuite}
        if first not in suites:
            raise FormatError(f"identity {folder}: {_IDENTITY} starts with {first[:40]!r}: not readable here")
        return cls(folder, suites[first], SigningKey.from_text(signing))

    def sealing_key(self, group: str, *, create: bool = False) -> SealingKey:
        """The newest key of ``group``; without one a new one if ``create``, else NotEnrolledError."""
        keys = self.sealing_keys(group)
        if keys:
            return keys[0]
        if not create:
            raise NotEnrolledError(f"identity {self.folder}: no key for group {group}; run 'cdr init' here")
        return self._add_key(group, only_first=True)

    def sealing_keys(self, group: str) -> list[SealingKey]:
        """All keys of ``group``, newest first; empty when there are none."""
        text = _read_private(self._group_file(group))
        if text is None:
            return []
        keys = [SealingKey.from_text(line) for line in text.splitlines()]
        if any(key.suite is not self.suite for key in keys):
            raise FormatError(f"identity {self.folder}: a key of {group} is not of suite {self.suite.label}")
        return keys[::-1]

    def rotate_sealing_key(self, group: str) -> SealingKey:
        """A new newest key of ``group``; the older ones still open what was sealed to them."""
        return self._add_key(group, only_first=False)

    def groups(self) -> list[str]:
        """Groups that this identity has keys for, sorted."""
        return sorted(p.name[len("sealing-") : -len(".keys")] for p in self.folder.glob("sealing-*.keys"))

    def _add_key(self, group: str, *, only_first: bool) -> SealingKey:
        with _locked(self.folder):
            keys = self.sealing_keys(group)
            if keys and only_first:
                return keys[0]
            keys.insert(0, SealingKey.generate(self.suite))
            _write_private(self._group_file(group), "".join(key.to_text() + "\n" for key in reversed(keys)))
            return keys[0]

    def _group_file(self, group: str) -> Path:
        return self.folder / f"sealing-{check_group(group)}.keys"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One writer of the folder at a time; the kernel frees the lock of a process that died."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read_private(path: Path) -> str | None:
    """Text of a key file, None when there is none; ConfigError unless it is ours alone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"private key file {path}: {error.strerror}") from None
    try:
        _check_private(path, os.fstat(descriptor))
        content = os.read(descriptor, _MAX_KEY_FILE_BYTES)
    finally:
        os.close(descriptor)
    try:
        return content.decode("ascii")
    except UnicodeDecodeError:
        raise FormatError(f"private key file {path}: damaged, not text") from None


def _check_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"private key file {path}: not a plain file")
    if status.st_uid not in (os.geteuid(), 0):
        raise ConfigError(f"private key file {path}: belongs to user {status.st_uid}; run 'chown' on it")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise ConfigError(f"private key file {path}: mode {mode:04o} lets others in; run 'chmod 600 {path}'")


def _write_private(path: Path, text: str) -> None:
    """Replace a file durably: its bytes before its name, then the folder. The folder is locked."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        temporary.rename(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise ConfigError(f"private key file {path}: cannot be written: {error.strerror}") from None
