"""A mount above a repository of restic's, to which restic adds while it is mounted."""

from __future__ import annotations

from pathlib import Path

from cdr_plugin.mount.filesystem import VersionFiles
from cdr_plugin.mount.source import Source
from tests.mount.world import Clock, Listener
from tests.restic.world import make_place


def test_a_version_that_restic_adds_meanwhile_can_be_read_and_never_without_a_lock(tmp_path: Path) -> None:
    place, clock, listener = make_place(tmp_path), Clock(), Listener()
    locks = place.folder / "locks"
    file = tmp_path / "file"
    file.write_bytes(b"first")
    place.restic("backup", "-q", str(file), "--host", "a")
    repository = place.repository()
    with Source(repository, lambda version: True, listener, clock) as source:
        files = VersionFiles(source, listener)

        def content(host: str) -> bytes:
            path = f"/hosts/{host}/{files.readlink(f'/hosts/{host}/latest').decode()}{file}"
            handle = files.open(path)
            data = files.read(path, handle, 100, 0)
            files.release(handle)
            return data

        assert content("a") == b"first"
        (old,) = locks.iterdir()
        file.write_bytes(b"second, longer")
        place.restic("backup", "-q", str(file), "--host", "b")
        assert [name for name, _ in files.readdir("/hosts")] == ["a"]
        clock.now_s += 60
        assert [name for name, _ in files.readdir("/hosts")] == ["a", "b"]
        assert (content("a"), content("b")) == (b"first", b"second, longer")
        (new,) = locks.iterdir()
        assert new != old
        assert "locked" in place.restic("prune", fails=True)
        files.close()
    assert not list(locks.iterdir())
    assert not listener.errors
