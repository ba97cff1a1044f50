"""The snapshots of a repository as one pass asks for them: by the client whose version, or whose pin, each is.

Made once, behind the listing under the lock. What the pass writes and removes goes through here, so that it stays
what ``RepositoryPass.versions`` says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from cdr_plugin.contracts import RepositoryPass, StoredVersion
from cdr_plugin.model.versions import Snapshot
from cdr_plugin.top.pins import is_pin
from cdr_plugin.top.version_tags import VersionTag, owner_of


class Snapshots:
    """One thread. Costs a look at each tag once, and then what is asked for."""

    def __init__(self, repo: RepositoryPass) -> None:
        self._repo = repo
        self._tagged: defaultdict[str, list[tuple[str, StoredVersion]]] = defaultdict(list)
        self._pins: defaultdict[str, list[StoredVersion]] = defaultdict(list)
        for version in repo.versions:
            self._note(version)

    def _note(self, version: StoredVersion) -> None:
        if is_pin(version.snapshot):
            for path in version.snapshot.paths:
                self._pins[path].append(version)
        for text in version.snapshot.tags:
            owner = owner_of(text)
            if owner:
                self._tagged[owner].append((text, version))

    def add(self, snapshot: Snapshot) -> str:
        """Flush, and write it; its ID."""
        id_ = self._repo.add_version(snapshot)
        self._note(StoredVersion(id_, snapshot))
        return id_

    def remove(self, version: StoredVersion) -> None:
        """No error when it is gone."""
        self._repo.remove_version(version.id)
        for path in version.snapshot.paths:
            self._pins[path] = [one for one in self._pins[path] if one.id != version.id]
        for owner in map(owner_of, version.snapshot.tags):
            self._tagged[owner] = [one for one in self._tagged[owner] if one[1].id != version.id]

    def tagged(self, client: bytes) -> Sequence[tuple[str, StoredVersion]]:
        """What carries a version tag of the client (its fingerprint), each with that tag, oldest first."""
        return self._tagged.get(VersionTag.owner(client), ())

    def of_client(self, client: bytes) -> list[tuple[VersionTag, StoredVersion]]:
        """The versions of the client, oldest first."""
        found = ((VersionTag.parse(text), version) for text, version in self.tagged(client))
        return [(tag, version) for tag, version in found if tag is not None]

    def find(self, tag: VersionTag) -> StoredVersion | None:
        """The snapshot of this very version."""
        return next((version for text, version in self.tagged(tag.client) if text == str(tag)), None)

    def pins(self, path: str) -> list[StoredVersion]:
        """The pins of this path alone."""
        return [version for version in self._pins.get(path, ()) if version.snapshot.paths == [path]]
