"""When a folder has changed, and when it has come to rest."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from cdr_plugin.agentless.collect import Clock, collect
from cdr_plugin.agentless.look import REST_S, Look, look
from cdr_plugin.archiver import ArchiveOptions
from cdr_plugin.client.backup import BackupOptions, BackupResult
from cdr_plugin.client.states import VersionState
from cdr_plugin.client.tier import ClientTier
from cdr_plugin.errors import NotConvenientError, NotFoundError
from cdr_plugin.reporter import Reporter
from tests.support.chain import ZONE
from tests.support.hierarchy import Hierarchy

OLD_S = 1_600_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    (made / "inner").mkdir(parents=True)
    (made / "inner" / "file").write_text("text")
    (made / "link").symlink_to("/")
    for path in (made / "inner" / "file", made / "inner", made):
        os.utime(path, (OLD_S, OLD_S))
    os.utime(made / "link", (OLD_S, OLD_S), follow_symlinks=False)
    return made


CHANGES: list[Callable[[Path], object]] = [
    lambda folder: (folder / "inner" / "file").write_text("other"),
    lambda folder: (folder / "inner" / "file").chmod(0o600),
    lambda folder: (folder / "inner" / "file").rename(folder / "inner" / "renamed"),
    lambda folder: (folder / "link").unlink(),
    lambda folder: (folder / os.fsdecode(b"\xff")).mkdir(),
    lambda folder: (folder / "inner" / "file").unlink(),
    lambda folder: os.link(folder / "inner" / "file", folder / "second"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_seen_and_nothing_else(folder: Path, change: Callable[[Path], object]) -> None:
    before = look(folder, OLD_S + 1e6)
    (folder / "inner" / "file").read_bytes()
    assert look(folder, OLD_S + 2e6).digest == before.digest
    change(folder)
    assert look(folder, OLD_S + 1e6).digest != before.digest


def test_times_near_now_are_fresh_and_those_of_a_wrong_clock_say_nothing(folder: Path) -> None:
    changed_s = (folder / "inner" / "file").lstat().st_ctime
    assert look(folder, OLD_S + REST_S - 1).fresh
    assert look(folder, OLD_S - REST_S + 1).fresh
    assert not look(folder, OLD_S + REST_S + 1).fresh
    assert not look(folder, OLD_S - REST_S - 1).fresh
    assert look(folder, changed_s + 1).touched
    assert not look(folder, changed_s + REST_S + 5).touched


@pytest.fixture
def client(tmp_path: Path, folder: Path) -> ClientTier:
    return Hierarchy.make(tmp_path / "chain", folder).client()


def run(client: ClientTier, folder: Path, **options: object) -> BackupResult | None:
    archive = ArchiveOptions(paths=[folder], zone=ZoneInfo(ZONE))
    clock = options.pop("clock", Clock(lambda: OLD_S + 1e6, lambda _seconds: None))
    assert isinstance(clock, Clock)
    return collect(client, folder, BackupOptions(archive), Reporter(), clock=clock, **options)  # type: ignore[arg-type]


def test_a_version_is_made_once_for_what_is_there(client: ClientTier, folder: Path) -> None:
    made = run(client, folder)
    assert made is not None
    assert made.version == 1
    assert run(client, folder) is None
    (folder / "new").write_text("new")
    made = run(client, folder)
    assert made is not None
    assert made.version == 2


def test_fresh_files_wait_unless_it_is_to_be_now(client: ClientTier, folder: Path) -> None:
    clock = Clock(lambda: OLD_S + 5.0)
    with pytest.raises(NotConvenientError, match=r"waiting for .* to rest: files in it are less than 60 seconds old"):
        run(client, folder, clock=clock)
    assert run(client, folder, clock=clock, at_once=True) is not None


def test_a_copy_that_sets_old_times_is_seen_to_grow(client: ClientTier, folder: Path) -> None:
    """Programs that copy set the time of the original, some of them with each write."""
    file = folder / "inner" / "file"

    def grow(_seconds: float) -> None:
        with file.open("a") as opened:
            opened.write("more")
        os.utime(file, (OLD_S, OLD_S))

    touched_s = file.lstat().st_ctime + 1
    with pytest.raises(NotConvenientError, match="files in it are being written"):
        run(client, folder, clock=Clock(lambda: touched_s, grow))
    assert run(client, folder, clock=Clock(lambda: touched_s, lambda _seconds: None)) is not None


def test_an_empty_mount_point_is_no_version_and_an_emptied_folder_is_one(
    client: ClientTier, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(client, folder)
    for path in (folder / "inner" / "file", folder / "link"):
        path.unlink()
    (folder / "inner").rmdir()

    def elsewhere(folder: Path, now_s: float) -> Look:
        return replace(look(folder, now_s), device=1)

    with monkeypatch.context() as patch:
        patch.setattr("cdr_plugin.agentless.collect.look", elsewhere)
        with pytest.raises(NotFoundError, match="empty, and on another file system than before; mount it"):
            run(client, folder)
    made = run(client, folder)
    assert made is not None
    assert made.version == 2


def test_a_version_that_was_given_up_above_is_made_anew(client: ClientTier, folder: Path) -> None:
    run(client, folder)
    with client.state._db.transaction() as db:
        db.execute("UPDATE versions SET state=?", (VersionState.INCOMPLETE,))
    made = run(client, folder)
    assert made is not None
    assert made.version == 2


def test_what_could_not_be_read_is_tried_again(client: ClientTier, folder: Path) -> None:
    errors: list[str] = []

    class Listening(Reporter):
        def error(self, item: str, during: str, error: Exception | str) -> None:
            errors.append(item)

    archive = ArchiveOptions(paths=[folder, folder / "missing"], zone=ZoneInfo(ZONE))
    for _ in range(2):
        result = collect(client, folder, BackupOptions(archive), Listening(), clock=Clock(lambda: OLD_S + 1e6))
        assert result is not None
        assert result.archive.incomplete
    assert len(errors) == 2
    assert len(client.state.versions()) == 1  # the same files: no second version
