"""Every error that CDR raises on purpose.

::

    CdrError                        one line for the user, an exit code
    +-- UserError                   the user's to mend; not retried                      1
    |   +-- ConfigError             a config file: file, line, key, suggestion           1
    |   |   +-- ConfigProblems      several of them at once; its line is that of the first
    |   +-- NoRepositoryError       nothing there that is a repository                  10
    |   +-- WrongPasswordError      no key of the repository opens with it              12
    |   +-- NotEnrolledError        a tier lacks a ticket, a key or an approval          1
    +-- RemoteError                 storage, network or another tier; may be retried
    |   +-- NotFoundError           a named object is not there (any more)               1
    |   +-- StorageFullError        back-pressure, nothing lost                         75
    |   +-- NotConvenientError      nothing wrong, but not now; work is waiting         75
    |   +-- LockedError             somebody else holds the repository                  11
    |   +-- LockLostError           our own lock vanished: stop writing                  1
    +-- IntegrityError              bytes are not what they claim to be; never swallowed 1
    |   +-- FormatError             bytes that do not parse as what they should be
    |   |   +-- UnknownVersionError a newer major version: left where it is
    |   +-- AuthenticationError     a seal, signature or sender that does not verify
    |   +-- PayloadError            a payload that does not decode to its blob
    +-- PluginError                 a plugin is missing, broken or doubled               1

Three questions choose the class: whose fault is it, may it be tried again, is integrity in
doubt. Plugins translate library exceptions at their edge. The text says what happened, to
which object, and what to do next; secrets never appear in it.
"""

from __future__ import annotations

from collections.abc import Sequence


class CdrError(Exception):
    """Base of all; ``str()`` is the one line that the user sees."""

    exit_code = 1


class UserError(CdrError):
    """Something that the user asked for cannot be done as asked."""


class ConfigError(UserError):
    """A configuration that does not hold together; names file, line and key."""


class ConfigProblems(ConfigError):
    """All that was found wrong with one configuration, in the order of finding."""

    def __init__(self, problems: Sequence[ConfigError]) -> None:
        super().__init__(str(problems[0]))
        self.problems = tuple(problems)


class NoRepositoryError(UserError):
    """There is no repository at the location."""

    exit_code = 10


class WrongPasswordError(UserError):
    """The password opens no key of the repository."""

    exit_code = 12


class NotEnrolledError(UserError):
    """The tier has no ticket, key or approval for what it was asked to do."""


class RemoteError(CdrError):
    """Storage, network or another tier failed; trying again later is sensible."""


class NotFoundError(RemoteError):
    """A named object does not exist."""


class StorageFullError(RemoteError):
    """No space left at the destination; nothing was lost, sending can go on later."""

    exit_code = 75


class NotConvenientError(RemoteError):
    """Nothing is wrong, but a policy or another process says: not now."""

    exit_code = 75


class LockedError(RemoteError):
    """Another process holds the repository."""

    exit_code = 11


class LockLostError(RemoteError):
    """Our lock on the repository is gone; whoever holds this must stop writing."""


class IntegrityError(CdrError):
    """Bytes are not what they claim to be."""


class FormatError(IntegrityError):
    """Bytes do not parse as the structure that they should be, or exceed its limits."""


class UnknownVersionError(FormatError):
    """A structure of a major version that this program does not know; left where it is."""


class AuthenticationError(IntegrityError):
    """A seal, a signature or a sender does not verify."""


class PayloadError(IntegrityError):
    """A payload does not decode to the blob that it names."""


class PluginError(CdrError):
    """A plugin is missing, broken, or registered twice."""
