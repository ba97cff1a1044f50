"""Which version of a repository an operator means when a client is to adopt one; see docs/design/adoption.md.

Nothing crosses from one client to another: what carries the mark or the name of another client of
the group is refused, unless the operator says that this client is that one's successor.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cdr_plugin.contracts import StoredVersion
from cdr_plugin.errors import UserError
from cdr_plugin.identity.register import Client
from cdr_plugin.model.times import parse_time
from cdr_plugin.top.pins import is_pin
from cdr_plugin.top.version_tags import VersionTag

LATEST = "latest"
_MIN_VERSION_CHARS = 4
_IS_CLIENT_ID = re.compile(r"[0-9a-f]{16,64}").fullmatch
_TAG_CHARS = 32
"""Of a client's ID, in hex, that stand in the tag of its versions."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the operator asks for. ``former``: the start, at least 16 hex digits, of the ID that the
    same machine had before, or empty."""

    version: str = LATEST
    host: str = ""
    paths: Sequence[str] = ()
    former: str = ""


class Chooser:
    """Judges versions for ``client``; ``others`` are the clients of its group, itself or not."""

    def __init__(self, client: Client, others: Iterable[Client], wanted: Wanted) -> None:
        if wanted.former and _IS_CLIENT_ID(wanted.former) is None:
            raise UserError(f"--from {wanted.former[:80]!r}: give at least 16 hex digits, see 'cdr clients'")
        self._client = client
        self._wanted = wanted
        self._strangers = [
            other
            for other in others
            if other.key != client.key and not (wanted.former and other.fingerprint.hex().startswith(wanted.former))
        ]

    def choose(self, versions: Sequence[StoredVersion]) -> StoredVersion:
        """The version to adopt; UserError that says why there is none."""
        if self._wanted.version == LATEST:
            return self._latest(versions)
        version = self._named(versions)
        objection = self._objection(version) or self._mismatch(version)
        if objection:
            raise UserError(f"version {version.id[:8]} cannot be adopted by client {self._client.name}: {objection}")
        return version

    def _latest(self, versions: Sequence[StoredVersion]) -> StoredVersion:
        hosts = [self._wanted.host] if self._wanted.host else self._default_hosts()
        fitting = [v for v in versions if self._is_meant(v, hosts) and not self._mismatch(v)]
        allowed = [v for v in fitting if not self._objection(v)]
        if allowed:
            return max(allowed, key=lambda v: parse_time(v.snapshot.time))
        refused = [reason for v in fitting if (reason := self._objection(v))]
        reason = refused[-1] if refused else "see 'cdr snapshots', and choose with --host, --path or --snapshot"
        raise UserError(f"client {self._client.name}: no version of host {' or '.join(hosts)} fits; {reason}")

    def _is_meant(self, version: StoredVersion, hosts: Sequence[str]) -> bool:
        if is_pin(version.snapshot):
            return False
        return version.snapshot.hostname in hosts or any(map(self._is_ours, _tags(version)))

    def _default_hosts(self) -> list[str]:
        """The client's names, and the host that it says it is, as long as nobody else is called so or says so."""
        client = self._client
        names = [name for name in (client.name, client.alias) if name]
        host = client.facts.get("host", "")
        claimed = {text for other in self._strangers for text in (other.name, other.alias, other.facts.get("host"))}
        return names if not host or host in names or host in claimed else [*names, host]

    def _named(self, versions: Sequence[StoredVersion]) -> StoredVersion:
        name = self._wanted.version
        found = [version for version in versions if version.id.startswith(name)]
        if len(found) != 1 or len(name) < _MIN_VERSION_CHARS:
            problem = "no version" if not found else "more than one version" if len(found) > 1 else "too short an ID"
            raise UserError(f"{name[:80]!r}: {problem}; see 'cdr snapshots'")
        return found[0]

    def _mismatch(self, version: StoredVersion) -> str:
        """How the version differs from what was asked for besides its ID; empty when it does not."""
        host, snapshot = self._wanted.host, version.snapshot
        if host and snapshot.hostname != host:
            return f"its host is {snapshot.hostname}, not {host}"
        absent = [path for path in self._wanted.paths if path not in snapshot.paths]
        return f"{absent[0]} is not among its paths" if absent else ""

    def _objection(self, version: StoredVersion) -> str:
        """Why this client may not have it; empty when it may."""
        if is_pin(version.snapshot):
            return "it is no backup but a pin of cdr's own"
        tags = list(_tags(version))
        foreign = [tag for tag in tags if not self._is_ours(tag)]
        if foreign:
            id_ = foreign[0].client.hex()
            return (
                f"it is a version of client {id_[:16]}; nothing crosses from one client to another. If this is "
                f"the same machine under a new identity, say so with --from {id_[:16]}"
            )
        owner = next((o for o in self._strangers if version.snapshot.hostname in (o.name, o.alias)), None)
        if not tags and owner is not None:
            return (
                f"its host {version.snapshot.hostname} is client {owner.name} ({owner.fingerprint.hex()[:16]}); "
                f"adopt it for that client, or say --from {owner.fingerprint.hex()[:16]} if this is the same machine"
            )
        return ""

    def _is_ours(self, tag: VersionTag) -> bool:
        former = self._wanted.former[:_TAG_CHARS]
        return tag.client == self._client.fingerprint[:16] or bool(former and tag.client.hex().startswith(former))


def _tags(version: StoredVersion) -> Iterable[VersionTag]:
    return filter(None, map(VersionTag.parse, version.snapshot.tags))
