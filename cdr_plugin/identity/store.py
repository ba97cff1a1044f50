"""An identity on disk: one folder, apart from the state, that only its owner can read.

::

    identity.key           version and suite, then the signing key; from version 2 on a line for each key before it
    sealing-GROUP.keys     sealing keys of one group, oldest first; of one that was dropped, its fingerprint

Old sealing keys stay until nothing sealed to them remains. Files appear whole or not at all.
"""

from __future__ import annotations

import binascii
import fcntl
import os
import stat
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cdr_plugin.errors import ConfigError, FormatError, NotEnrolledError, UserError
from cdr_plugin.identity.codec import encode
from cdr_plugin.identity.keys import DEFAULT_SUITE, KemSuite, SealingKey, SigningKey, VerifyKey
from cdr_plugin.identity.succession import MAX_PREDECESSORS, Predecessor, name_successor
from cdr_plugin.identity.wire import check_group

IDENTITY_FILE = "identity.key"
RECOVERING_FILE = ".recovering"
"""There while a recovery is under way, or was cut off: what lies beside it belongs to no identity yet."""
_FIRST_LINE = "cdr-identity 1 "
_FIRST_LINE_2 = "cdr-identity 2 "
"""Of an identity whose signing key has predecessors: a program of before refuses it, instead of losing them."""
_CUT_OFF = "a recovery was cut off here; run 'cdr identity recover' again"
_PREDECESSOR = "cdr-sign-predecessor "
_DROPPED = "cdr-seal-dropped "
_MAX_KEY_FILE_BYTES = 1024 * 1024


class Identity:
    """The keys of one tier. Used by one thread at a time; several processes may share the folder."""

    def __init__(
        self, folder: Path, suite: KemSuite, signing: SigningKey, predecessors: Sequence[Predecessor] = ()
    ) -> None:
        self.folder = folder
        self.suite = suite
        """The one KEM suite of this identity: it makes and opens no other."""
        self.signing = signing
        self.predecessors = tuple(predecessors)
        """Signing keys of before, oldest first; only their public halves are kept."""

    @property
    def verify_keys(self) -> tuple[VerifyKey, ...]:
        """By which others may know this tier: the present key, and those before it, newest first."""
        return (self.signing.public, *(one.verify_key for one in reversed(self.predecessors)))

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
            if (folder / IDENTITY_FILE).exists():
                raise UserError(f"identity {folder}: there is one already; remove it yourself if it may go")
            if (folder / RECOVERING_FILE).exists():
                raise UserError(f"identity {folder}: {_CUT_OFF}")
            _write_private(folder / IDENTITY_FILE, f"{_FIRST_LINE}{suite.label}\n{signing.to_text()}\n")
        return cls(folder, suite, signing)

    @classmethod
    def parse(cls, folder: Path, text: str) -> Identity:
        """What stands in ``identity.key``; FormatError."""
        first, *lines = text.splitlines()[: MAX_PREDECESSORS + 3] or [""]
        suites = {line + suite.label: suite for suite in KemSuite for line in (_FIRST_LINE, _FIRST_LINE_2)}
        if first not in suites or not lines or (len(lines) > 1) != first.startswith(_FIRST_LINE_2):
            raise FormatError(f"identity {folder}: {IDENTITY_FILE} starts with {first[:40]!r}: not readable here")
        predecessors = [_predecessor(line) for line in lines[1:]]
        return cls(folder, suites[first], SigningKey.from_text(lines[0]), predecessors)

    @classmethod
    def load(cls, folder: Path) -> Identity:
        """NotEnrolledError when there is none, ConfigError when others could read it."""
        text = _read_private(folder / IDENTITY_FILE)
        if text is None:
            step = _CUT_OFF if (folder / RECOVERING_FILE).exists() else "not there; run 'cdr init'"
            raise NotEnrolledError(f"identity {folder}: {step}")
        return cls.parse(folder, text)

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
        return self.parse_sealing_keys(group, "\n".join(self._key_lines(group)))

    def parse_sealing_keys(self, group: str, text: str) -> list[SealingKey]:
        """Those in the text of a group's file, newest first; FormatError."""
        lines = [line for line in text.splitlines() if not line.startswith(_DROPPED)]
        keys = [SealingKey.from_text(line) for line in lines]
        if any(key.suite is not self.suite for key in keys):
            raise FormatError(f"identity {self.folder}: a key of {group} is not of suite {self.suite.label}")
        return keys[::-1]

    def has_rotated(self, group: str) -> bool:
        """Has any key that clients of ``group`` know been replaced, ever?"""
        return bool(self.predecessors) or len(self._key_lines(group)) > 1

    def rotate_sealing_key(self, group: str) -> SealingKey:
        """A new newest key of ``group``; the older ones still open what was sealed to them."""
        return self._add_key(group, only_first=False)

    def drop_old_sealing_keys(self, group: str) -> int:
        """Only the newest key of ``group`` is left, nothing that was sealed to another can be opened any more; how
        many went."""
        with _locked(self.folder):
            *old, newest = self._key_lines(group)
            kept = [line if line.startswith(_DROPPED) else _dropped(line) for line in old]
            dropped = sum(not line.startswith(_DROPPED) for line in old)
            if dropped:
                _write_private(self._group_file(group), "".join(f"{line}\n" for line in (*kept, newest)))
            return dropped

    def rotate_signing_key(self) -> Identity:
        """The same identity with a new signing key, which the one of before has signed and which takes its place in
        one step. UserError after ``MAX_PREDECESSORS`` of them."""
        with _locked(self.folder):
            found = Identity.load(self.folder)
            if len(found.predecessors) == MAX_PREDECESSORS:
                raise UserError(f"identity {self.folder}: {MAX_PREDECESSORS} keys came before; make a new identity")
            signing = SigningKey.generate()
            predecessors = (*found.predecessors, name_successor(found.signing, signing.public))
            lines = [f"{_FIRST_LINE_2}{found.suite.label}", signing.to_text(), *map(_predecessor_line, predecessors)]
            _write_private(self.folder / IDENTITY_FILE, "".join(f"{line}\n" for line in lines))
            return Identity(self.folder, found.suite, signing, predecessors)

    def groups(self) -> list[str]:
        """Groups that this identity has keys for, sorted."""
        return sorted(group_of_file(p.name) or "" for p in self.folder.glob("sealing-*.keys"))

    def files(self) -> dict[str, bytes]:
        """The files of keys and passwords by name, as of one moment; ConfigError when others could read them."""
        with _locked(self.folder):
            names = [IDENTITY_FILE, *(path.name for path in self.folder.iterdir() if is_secret_file(path.name))]
            texts = {name: _read_private(self.folder / name) for name in names}
        return {name: text.encode() for name, text in texts.items() if text is not None}

    def _add_key(self, group: str, *, only_first: bool) -> SealingKey:
        with _locked(self.folder):
            keys = self.sealing_keys(group)
            if keys and only_first:
                return keys[0]
            key = SealingKey.generate(self.suite)
            lines = [*self._key_lines(group), key.to_text()]
            _write_private(self._group_file(group), "".join(f"{line}\n" for line in lines))
            return key

    def _key_lines(self, group: str) -> list[str]:
        """Oldest first, those that stand for dropped keys among them."""
        return (_read_private(self._group_file(group)) or "").splitlines()

    def _group_file(self, group: str) -> Path:
        return self.folder / f"sealing-{check_group(group)}.keys"


def is_secret_file(name: str) -> bool:
    """Is this the name of a group's sealing keys, or of a password that was made for what a tier retains?"""
    return _is_group_file(name) or (name.startswith("retained-") and name.endswith(".pass"))


def group_of_file(name: str) -> str | None:
    """The group whose sealing keys a file of this name holds; None for other files."""
    return name.removeprefix("sealing-").removesuffix(".keys") if _is_group_file(name) else None


def _is_group_file(name: str) -> bool:
    return name.startswith("sealing-") and name.endswith(".keys")


def _predecessor_line(one: Predecessor) -> str:
    return f"{_PREDECESSOR}{b64encode(one.key + one.signature).decode()}"


def _predecessor(line: str) -> Predecessor:
    try:
        if not line.startswith(_PREDECESSOR):
            raise ValueError
        raw = b64decode(line.removeprefix(_PREDECESSOR), validate=True)
    except (binascii.Error, ValueError):
        raise FormatError(f"{IDENTITY_FILE}: a line starting with {_PREDECESSOR!r} is expected or damaged") from None
    found = Predecessor(key=raw[:32], signature=raw[32:])
    encode(found, IDENTITY_FILE)  # which checks the lengths
    return found


def _dropped(line: str) -> str:
    return f"{_DROPPED}{SealingKey.from_text(line).public.fingerprint.hex()}"


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
