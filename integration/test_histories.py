"""Random histories of one repository, shared by restic and CDR: at the end both find it clean, and
every version that was not forgotten restores with both, as its source was."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cdr_plugin.care import CheckOptions, PruneOptions
from cdr_plugin.copying import copy_versions
from cdr_plugin.model.blobs import BlobId
from cdr_plugin.restore import RestoreOptions, restore
from cdr_restic.repository import ResticRepository
from tests.restic.world import Notes, Place, make_place
from tests.support.changing import change, many_files
from tests.support.compare import Facts, tree_differences, tree_facts
from tests.support.direct import backup_into

LONGEST = 14
"""Operations of one history."""
EXAMPLES = 4
_BEGAN = datetime(2024, 1, 1, tzinfo=UTC)

amounts = st.sampled_from(["0", "5%", "50%", "unlimited"])
seeds = st.integers(0, 2**32)


class History(RuleBasedStateMachine):
    """One repository and one changing folder. ``alive`` maps snapshot IDs to what they must restore."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="history-"))
        self.source = self.folder / "source"
        self.alive: dict[str, dict[bytes, Facts]] = {}
        self.clock = _BEGAN
        self.folders = 0

    @initialize(version=st.sampled_from([1, 2]), seed=seeds)
    def begin(self, version: int, seed: int) -> None:
        self.place = make_place(self.folder, version)
        self.source.mkdir()
        many_files(self.source, random.Random(seed), files=40)

    def teardown(self) -> None:
        try:
            if self.alive:
                self._judge()
        finally:
            shutil.rmtree(self.folder)

    # --- what happens ---------------------------------------------------------------------------

    @rule(seed=seeds)
    def files_change(self, seed: int) -> None:
        change(self.source, random.Random(seed))

    @rule()
    def restic_backs_up(self) -> None:
        self._backed_up(lambda time: self._restic_backup(time))

    @rule()
    def cdr_backs_up(self) -> None:
        self._backed_up(lambda time: backup_into(self._cdr(), self.source, time=f"{time:%Y-%m-%dT%H:%M:%SZ}"))

    @precondition(lambda self: len(self.alive) > 1)
    @rule(data=st.data())
    def restic_forgets(self, data: st.DataObject) -> None:
        self.place.restic("forget", self._drop(data))

    @precondition(lambda self: len(self.alive) > 1)
    @rule(data=st.data())
    def cdr_forgets(self, data: st.DataObject) -> None:
        self._cdr().care().forget([self._drop(data)])

    @precondition(lambda self: self.alive)
    @rule(unused=amounts)
    def restic_prunes(self, unused: str) -> None:
        self.place.restic("prune", "--max-unused", unused)

    @precondition(lambda self: self.alive)
    @rule(unused=amounts, small=st.booleans())
    def cdr_prunes(self, unused: str, small: bool) -> None:
        self._cdr().care().prune(PruneOptions(max_unused=unused, repack_small=small))

    @precondition(lambda self: len(self.alive) > 1)
    @rule(data=st.data(), unused=amounts)
    def cdr_forgets_and_prunes(self, data: st.DataObject, unused: str) -> None:
        self._cdr().care().forget([self._drop(data)], PruneOptions(max_unused=unused))

    @rule()
    def the_password_changes(self) -> None:
        new = f"password {self.clock.timestamp()}"
        self._cdr().care().change_password(new)
        self.place.password = new

    @rule()
    def an_index_is_lost(self) -> None:
        """Whatever no index lists any more is found again."""
        indexes = sorted((self.place.folder / "index").iterdir())
        if indexes:
            indexes[0].unlink()
            self._cdr().care().repair_index()

    @precondition(lambda self: self.alive)
    @rule(version=st.sampled_from([1, 2]), by_restic=st.booleans())
    def everything_moves_to_another_repository(self, version: int, by_restic: bool) -> None:
        old = self.place
        times = {str(found["time"]): str(found["id"]) for found in old.snapshots()}
        self.folders += 1
        self.place = make_place(self.folder / str(self.folders), version)
        if by_restic:
            (self.folder / "password").write_text(old.password)
            source = ("--from-repo", str(old.folder), "--from-password-file", str(self.folder / "password"))
            self.place.restic("copy", *source)
        else:
            with old.repository().reading() as reader, self._cdr().writing() as session:
                copy_versions(reader, session, old.repository().versions(), Notes())
        moved = {times[str(found["time"])]: str(found["id"]) for found in self.place.snapshots()}
        self.alive = {moved[id_]: facts for id_, facts in self.alive.items()}

    @invariant()
    def nothing_is_locked(self) -> None:
        if hasattr(self, "place"):
            assert not list((self.place.folder / "locks").iterdir())

    # --- how ------------------------------------------------------------------------------------

    def _cdr(self) -> ResticRepository:
        return self.place.repository()

    def _restic_backup(self, time: datetime) -> str:
        before = {str(found["id"]) for found in self.place.snapshots() or ()}
        local = f"{time:%Y-%m-%d %H:%M:%S}"
        self.place.restic("backup", "--host", "h", "--time", local, str(self.source))
        (new,) = {str(found["id"]) for found in self.place.snapshots()} - before
        return new

    def _backed_up(self, backup: Callable[[datetime], str]) -> None:
        self.clock += timedelta(hours=7)
        self.alive[backup(self.clock)] = tree_facts(self.source)

    def _drop(self, data: st.DataObject) -> str:
        id_ = data.draw(st.sampled_from(sorted(self.alive)))
        del self.alive[id_]
        return id_

    def _judge(self) -> None:
        self.place.check()
        report = self._cdr().care().check(CheckOptions(read_data=True))
        hints = [hint for hint in report.hints if "reached by no version" not in hint.text]
        assert (report.errors, hints, report.versions) == ([], [], len(self.alive))
        assert {str(found["id"]) for found in self.place.snapshots()} == self.alive.keys()
        for id_, facts in self.alive.items():
            self.place.restic("restore", id_, "--target", str(self.folder / "by-restic" / id_[:8]))
            self._restore(id_, self.folder / "by-cdr" / id_[:8])
            for tool in ("by-restic", "by-cdr"):
                restored = self.folder / tool / id_[:8] / str(self.source).lstrip("/")
                assert tree_facts(restored) == facts, list(tree_differences(self.source, restored))[:5]

    def _restore(self, id_: str, target: Path) -> None:
        repository = self._cdr()
        (version,) = [found for found in repository.versions() if found.id == id_]
        with repository.reading() as reader:
            tree = BlobId(bytes.fromhex(version.snapshot.tree))
            assert restore(reader, tree, RestoreOptions(target=target), Notes()).errors == 0


History.TestCase.settings = settings(
    max_examples=int(os.environ.get("CDR_HISTORIES", EXAMPLES)),
    stateful_step_count=LONGEST,
    deadline=None,
    derandomize=True,  # the same histories everywhere; set CDR_HISTORIES for more
    phases=[Phase.explicit, Phase.generate],  # shrinking a history takes too long to be of use
    suppress_health_check=list(HealthCheck),
)
TestHistories = History.TestCase

__all__ = ["Place", "TestHistories"]
