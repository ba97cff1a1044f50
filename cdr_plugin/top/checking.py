"""The scheduled check of one group's repository: what it finds makes versions *verified*, or takes that away.

It reads back some files of each client's newest version, then looks as ``cdr check`` does and reads the part of
the packs whose turn it is. Order of durable steps: the findings and the part are noted in one transaction, then
clients are told; a check that is cut short has not been. Its locks are those that the journal of the repository
knows, so that one that was killed is in nobody's way for longer than until the next pass.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from random import Random

from cdr_plugin.care import CheckOptions, CheckReport
from cdr_plugin.contracts import Event, Repository, RepositoryPass, StoredVersion
from cdr_plugin.errors import IntegrityError, NotFoundError, RemoteError
from cdr_plugin.files import exclusive
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.times import parse_time
from cdr_plugin.reporter import Reporter
from cdr_plugin.top.care_state import CareState, CheckNote, VersionKey
from cdr_plugin.top.check_parts import part_to_read
from cdr_plugin.top.damage_reach import Blob, DamageReach
from cdr_plugin.top.inbox import Inboxes
from cdr_plugin.top.sampling import Sample, read_sample
from cdr_plugin.top.tier import TopTier
from cdr_plugin.top.verified import publish_verified
from cdr_plugin.top.version_tags import VersionTag

MAX_DAMAGED = 100_000
"""Damaged blobs that a check names. Where there may be more, every version counts as hit."""

_TYPES = {type_.name.lower(): type_ for type_ in BlobType}


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of a check. ``verified`` counts versions that it covered without finding damage, ``lost`` those
    that were verified before and reach damage."""

    note: CheckNote
    verified: int
    lost: int
    broken_packs: Sequence[str] = ()

    @property
    def is_clean(self) -> bool:
        return not self.note.errors


def check_group(
    top: TopTier, subset: str, reporter: Reporter, *, source: Random, retry_lock_s: float = 0
) -> Checked:
    """Check the repository of ``top``'s group; ``subset`` as ``store.check.read_data_subset`` has it.

    LockedError while others work on the repository, NotConvenientError while another check of the group does.
    Damage is no error here: the result and the event ``failure`` say it.
    """
    top.require_identity()
    with (
        exclusive(top.state_folder / "care.lock", f"care of {top.name}, group {top.group}"),
        CareState(top.state_folder) as care,
    ):
        only = _OnlyProgress(reporter)
        options = replace(top.options, reporter=only, retry_lock_s=retry_lock_s, reads_all=True)
        checked = _Check(replace(top, options=options), care, subset, source).run()
    tell_verified(top, reporter)
    if not checked.is_clean:
        _emit_failure(top, checked.note, reporter)
    return checked


def tell_verified(top: TopTier, reporter: Reporter) -> None:
    """Tell every client now what is verified. What cannot be told now is told by the next ``cdr receive``."""
    try:
        with (
            exclusive(top.state_folder / "receive.lock", f"receiving of {top.name}"),
            Inboxes(top.plugins, top.inboxes, reporter, top.view) as inboxes,
        ):
            publish_verified(top, inboxes, inboxes.listings(), frozenset())
    except RemoteError as error:  # one of them: another process is receiving
        reporter.note(f"{error}; clients are told what is verified by the next 'cdr receive'")


def _emit_failure(top: TopTier, note: CheckNote, reporter: Reporter) -> None:
    facts = {
        "what": "check",
        "group": top.group,
        "repository": top.repository,
        "errors": note.errors,
        "problem": note.problem,
    }
    for problem in top.plugins.emit(Event("failure", top.name, facts)):
        reporter.note(problem)


class _OnlyProgress(Reporter):
    """What is found is said in one line at the end, not finding by finding."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def progress(self, **fields: int | float | str) -> None:
        self._reporter.progress(**fields)


class _Check:
    """One check. Errors are collected; only a storage that fails altogether ends it."""

    def __init__(self, top: TopTier, care: CareState, subset: str, source: Random) -> None:
        self._top = top
        self._care = care
        self._subset = subset
        self._source = source
        self._problems: list[str] = []
        self._damaged: set[Blob] = set()
        self._sample = Sample()
        self._is_blind = False
        """Not even the versions can be listed."""

    def run(self) -> Checked:
        began_s = time.time()
        last = self._care.last_check()
        part = part_to_read(self._subset, last.rotation if last else None)
        with closing(self._top.open_repository()) as repository:
            versions = self._read_back(repository)
            report = repository.care().check(CheckOptions(subset=str(part) if part else self._subset))
        for finding in report.errors:
            self._problems.append(finding.text)
            self._damaged.update(map(_parse_blob, finding.blobs))
        hit = self._hit(versions) if self._problems else []
        note = CheckNote(
            began_s=began_s,
            ended_s=time.time(),
            errors=len(self._problems),
            problem=self._problems[0] if self._problems else "",
            part=part.number if part else 0,
            parts=part.count if part else 0,
            packs_read=report.packs_read,
            bytes_read=report.bytes_read + self._sample.bytes,
            files_read=self._sample.files,
            versions=len(versions),
        )
        return self._conclude(note, versions, hit, report)

    def _read_back(self, repository: Repository) -> Sequence[StoredVersion]:
        """Restore samples; all versions, from before the check looks, so that it covers them."""
        try:
            with repository.writing() as repo:
                versions = tuple(version for version in repo.versions if version_keys(version))
                self._look_again(repo)
                self._read_samples(repo, versions)
                return versions
        except IntegrityError as error:  # a snapshot or an index that cannot be read
            self._problems.append(str(error))
            self._is_blind = True
            return ()

    def _look_again(self, repo: RepositoryPass) -> None:
        """At what was damaged last time: the part that is read now, or the samples, need not meet it again. What is
        not there any more is missed by the trees, if by anything."""
        for type_, id_ in self._care.damaged():
            if not repo.has(type_, id_):
                continue
            try:
                repo.read(type_, id_)
            except (NotFoundError, IntegrityError) as error:
                self._problems.append(f"{type_.name.lower()} {id_.hex()} is still damaged: {error}")
                self._damaged.add((type_, id_))

    def _read_samples(self, repo: RepositoryPass, versions: Sequence[StoredVersion]) -> None:
        for version in newest_by_client(versions):
            for bad in read_sample(repo, _root(version), self._source, self._sample):
                self._problems.append(f"restoring {bad.path} of version {version.id[:8]}: {bad.reason}")
                self._damaged.add((bad.type, bad.id))

    def _hit(self, versions: Sequence[StoredVersion]) -> Sequence[StoredVersion]:
        """Those that reach damage; all where there is too much of it, or where the index cannot be read. Without a
        lock: one more would have to be waited for, and a prune at the same time only makes us too careful."""
        if len(self._damaged) >= MAX_DAMAGED:
            return versions
        top = replace(self._top, options=replace(self._top.options, no_lock=True))
        try:
            with closing(top.open_repository()) as repository, repository.reading() as reader:
                reach = DamageReach(reader, self._damaged)
                return [version for version in versions if reach.reaches(_root(version))]
        except IntegrityError:
            return versions

    def _conclude(
        self, note: CheckNote, versions: Sequence[StoredVersion], hit: Sequence[StoredVersion], report: CheckReport
    ) -> Checked:
        before = set(self._care.verified())
        covered = {key for version in versions for key in version_keys(version)}
        lost = before if self._is_blind else before & {key for version in hit for key in version_keys(version)}
        verified = set() if self._problems else covered
        gone = set() if self._problems else before - covered  # there are no such versions any more
        self._care.note_check(note, verified, lost | gone, self._damaged)
        return Checked(note, len(verified), len(lost), tuple(report.broken_packs))


def _parse_blob(text: str) -> Blob:
    type_, _, id_ = text.partition(" ")
    return _TYPES[type_], BlobId(bytes.fromhex(id_))


def _root(version: StoredVersion) -> BlobId:
    return BlobId(bytes.fromhex(version.snapshot.tree))


def version_keys(version: StoredVersion) -> list[VersionKey]:
    """What care knows a snapshot by; nothing for one that no client of ours made."""
    tags = filter(None, map(VersionTag.parse, version.snapshot.tags))
    return [(tag.client, tag.number, tag.record_hash) for tag in tags]


def newest_by_client(versions: Iterable[StoredVersion]) -> list[StoredVersion]:
    """The newest version of each client, by number, of a fork the one with the later time."""
    newest: dict[bytes, tuple[tuple[int, tuple[int, int]], StoredVersion]] = {}
    for version in versions:
        for client, number, _ in version_keys(version):
            rank = number, parse_time(version.snapshot.time)
            if client not in newest or rank > newest[client][0]:
                newest[client] = rank, version
    return [version for _, version in newest.values()]
