"""The real thing: ``cdr mount`` through the kernel, wherever this machine can."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes.util import find_library
from importlib.util import find_spec
from pathlib import Path

import pytest

from cdr_plugin.errors import UserError
from cdr_plugin.mount import fuse
from tests.restic.world import PASSWORD, Place, make_place
from tests.support.compare import Facts, assert_same_tree
from tests.support.odd_tree import make_odd_tree

CDR = Path(sys.executable).with_name("cdr")
_SYS_ADMIN = 1 << 21


def _missing() -> str:
    """What keeps this machine from mounting; empty when nothing does."""
    if not Path("/dev/fuse").exists():
        return "there is no /dev/fuse"
    if not (find_library("fuse3") or find_library("fuse")):
        return "libfuse is not installed"
    if find_spec("mfusepy") is None:
        return "mfusepy is not installed (extra 'mount')"
    if not shutil.which("fusermount3") and not shutil.which("fusermount"):
        return "fusermount3 is not installed (package fuse3)"
    status = Path("/proc/self/status").read_text()
    capabilities = int(next(line for line in status.splitlines() if line.startswith("CapEff:")).split()[1], 16)
    if os.geteuid() != 0 or not capabilities & _SYS_ADMIN:
        return "odd trees need root, and mounting as root needs CAP_SYS_ADMIN, which containers seldom have"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"/dev/fuse cannot be opened: {error.strerror}"
    return ""


needs_fuse = pytest.mark.skipif(bool(_missing()), reason=_missing() or "FUSE works here")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("mounted")
    place = make_place(folder)
    make_odd_tree(folder / "odd")
    place.restic("backup", "-q", str(folder / "odd"), "--tag", "t", "--time", "2024-05-31 14:30:00")
    return place


@contextmanager
def _mounted(place: Place, at: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Inside the block the kernel has taken the mount; afterwards nothing is left of it."""
    at.mkdir()
    variables = {**os.environ, "RESTIC_PASSWORD": PASSWORD, "RESTIC_REPOSITORY": str(place.folder), "TZ": "UTC"}
    command = [CDR, "mount", at, "--json", *options]
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            assert line, process.stderr.read() if process.stderr else ""
            assert json.loads(line) == {"message_type": "mounted", "mountpoint": str(at)}
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.communicate(timeout=60)
            if os.path.ismount(at):
                subprocess.run(["umount", "--lazy", at], check=False)


def _not_for_restic_014(path: bytes, field: str, facts: Facts) -> bool:
    """What restic 0.14 does not store: attributes of links, and targets that are not UTF-8."""
    return path in (b"symlinks/raw", b"symlinks/attributed") and field in ("target", "xattrs")


@needs_fuse
def test_a_mounted_version_is_the_tree_that_was_backed_up(place: Place, tmp_path: Path) -> None:
    odd = place.folder.parent / "odd"
    at = tmp_path / "at"
    with _mounted(place, at):
        assert sorted(os.listdir(at)) == ["hosts", "ids", "snapshots", "tags"]
        assert sorted(os.listdir(at / "snapshots")) == ["2024-05-31T14:30:00Z", "latest"]
        assert os.readlink(at / "tags/t/latest") == "2024-05-31T14:30:00Z"
        assert_same_tree(odd, str(at / "snapshots/latest") + str(odd), _not_for_restic_014)
        with pytest.raises(OSError, match="Read-only"):
            (at / "ids/file").write_text("x")
        with pytest.raises(FileNotFoundError):
            os.stat(at / "ids/nothing")


ENDS: dict[str, Callable[[subprocess.Popen[str], Path], object]] = {
    "Ctrl-C": lambda process, at: process.send_signal(signal.SIGINT),
    "SIGTERM": lambda process, at: process.terminate(),
    "fusermount": lambda process, at: subprocess.run(
        [shutil.which("fusermount3") or "fusermount", "-u", at], check=True
    ),
}


@needs_fuse
@pytest.mark.parametrize("how", ENDS)
def test_it_ends_cleanly_and_holds_a_lock_until_then(place: Place, tmp_path: Path, how: str) -> None:
    at = tmp_path / "at"
    with _mounted(place, at, "--owner-root") as process:
        assert len(list((place.folder / "locks").iterdir())) == 1
        (version,) = (at / "ids").iterdir()
        owned = str(version) + str(place.folder.parent / "odd/owners/f1")
        assert (os.stat(owned).st_uid, os.stat(owned).st_gid) == (0, 0)
        ENDS[how](process, at)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, "")
        assert "cdr" not in err and "Traceback" not in err
        assert not os.path.ismount(at)
        assert list((place.folder / "locks").iterdir()) == []


@needs_fuse
def test_what_does_not_fit_the_filters_is_not_shown(place: Place, tmp_path: Path) -> None:
    with _mounted(place, tmp_path / "at", "--tag", "other"):
        assert os.listdir(tmp_path / "at/ids") == []


def test_a_machine_without_the_device_is_told_so_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fuse, "_DEVICE", tmp_path / "nothing")
    with pytest.raises(UserError, match=r"no /dev/fuse.*modprobe fuse.*'cdr restore' works without"):
        fuse.load_binding()


def test_a_machine_without_the_binding_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fuse, "_DEVICE", tmp_path)
    monkeypatch.setitem(sys.modules, "mfusepy", None)
    with pytest.raises(UserError, match=r"pip install 'cdr-plugin\[mount\]'"):
        fuse.load_binding()


@pytest.mark.skipif(find_spec("mfusepy") is None, reason="mfusepy is not installed (extra 'mount')")
def test_a_machine_without_the_library_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fuse, "_DEVICE", tmp_path)
    monkeypatch.setenv("FUSE_LIBRARY_NAME", "no-such-library")
    monkeypatch.delitem(sys.modules, "mfusepy", raising=False)
    with pytest.raises(UserError, match="apt install fuse3"):
        fuse.load_binding()
