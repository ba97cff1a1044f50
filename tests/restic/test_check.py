"""``check`` finds no fault with what is sound, names what is damaged, and whom it hits."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdr_plugin.care import CheckOptions, CheckReport
from cdr_plugin.cli.main import main
from cdr_plugin.errors import RemoteError, UserError
from cdr_plugin.model.blobs import BlobType, Buffer, blob_id
from cdr_plugin.model.trees import GO_DIR, encode_tree
from cdr_plugin.model.versions import Snapshot
from cdr_restic.care import check_pool
from cdr_restic.care.check import check
from cdr_restic.care.check_packs import Subset
from cdr_restic.care.check_pool import verifying_packs
from cdr_restic.index import IndexedPack, encode_index
from cdr_restic.local import LocalStorage
from cdr_restic.packs import PackEntry
from cdr_restic.recovery import verify_pack
from cdr_restic.repository import ResticRepository
from cdr_restic.storage import FileKind, Storage
from cdr_restic.verify_worker import Answer, Request
from tests.restic.world import TIME, Place, add_blob, node, some_blobs, write_version

ALL = CheckOptions(read_data=True)


def _check(place: Place, options: CheckOptions = ALL, *, workers: int | None = None) -> CheckReport:
    with place.repository().exclusive(only_looks=True, with_versions=False) as held:
        return check(held, options, workers=workers)


def _storage(place: Place) -> LocalStorage:
    return LocalStorage(str(place.folder))


def _packs(place: Place) -> dict[str, list[PackEntry]]:
    storage = _storage(place)
    return {name: verify_pack(storage, place.key, name) for name in sorted(storage.list(FileKind.DATA))}


def _path(place: Place, pack: str) -> Path:
    return place.folder / "data" / pack[:2] / pack


def _spoil(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.unlink()
    path.write_bytes(data)


# --- sound repositories ---


@pytest.mark.parametrize("workers", [0, 2])
def test_what_cdr_wrote_is_clean_to_both(place: Place, workers: int) -> None:
    for seed in (1, 2, 3):
        with place.repository().writing() as session:
            write_version(session, some_blobs(40, seed))
    report = _check(place, workers=workers)
    assert (report.errors, report.hints) == ([], [])
    assert (report.versions, report.trees) == (3, 6)
    assert report.packs_read == report.packs == len(_packs(place))
    assert report.bytes_read == sum(size for _, size in _storage(place).list_sizes(FileKind.DATA))
    if workers:
        place.check()


def test_what_restic_wrote_is_clean_to_us(place: Place, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    for number, data in enumerate(some_blobs(30)):
        (source / "sub" / f"f{number}").write_bytes(data)
    (source / "empty").write_bytes(b"")
    (source / 'odd "na\\me\n').symlink_to("nowhere")
    place.restic("backup", str(source))
    (source / "sub" / "f1").write_bytes(b"changed")
    place.restic("backup", str(source))
    report = _check(place)
    assert (report.errors, report.hints) == ([], [])
    assert report.versions == 2


def test_an_empty_repository_is_clean(place2: Place) -> None:
    report = _check(place2)
    assert (report.errors, report.hints, report.packs) == ([], [], 0)


# --- damage is named ---


def _two_versions(place: Place) -> tuple[str, str]:
    """Both hold the same folder; their IDs."""
    with place.repository().writing() as session:
        first = write_version(session, some_blobs(25), host="one")
        second = write_version(session, some_blobs(25), host="two")
    return first, second


def test_damage_names_the_pack_the_blob_and_the_files_of_every_version(place: Place) -> None:
    first, second = _two_versions(place)
    place.repository()
    pack, entries = next((name, found) for name, found in _packs(place).items() if found[0].type is BlobType.DATA)
    _spoil(_path(place, pack), entries[3].offset + 20)
    report = _check(place)
    assert report.broken_packs == [pack]
    [finding] = report.errors
    assert finding.pack == pack
    assert finding.blobs == (f"data {entries[3].id.hex()}",)
    assert finding.text.startswith(f"pack {pack}: its SHA-256 differs from its name; 1 of {len(entries)} blobs are")
    number = next(at for at, blob in enumerate(some_blobs(25)) if blob_id(blob) == entries[3].id)
    file = f"/folder/file{number // 10 * 10:06}"
    assert sorted(finding.files) == sorted([f"{first[:8]}:{file}", f"{second[:8]}:{file}"])
    assert not _check(place, CheckOptions()).errors


def test_a_lost_tree_hits_the_folder_that_it_lists(place: Place) -> None:
    first, second = _two_versions(place)
    pack = next(name for name, found in _packs(place).items() if found[0].type is BlobType.TREE)
    trees = len(_packs(place)[pack])
    _path(place, pack).unlink()
    report = _check(place)
    missing = next(finding for finding in report.errors if "is missing" in finding.text)
    assert missing.text == f"pack {pack} is missing, and with it {trees} blobs"
    assert set(missing.files) == {f"{first[:8]}:/", f"{second[:8]}:/"}
    assert report.suggest_repair_index
    assert not report.suggest_prune


def test_a_short_pack_is_read_to_name_what_it_lost_even_without_reading_all(place: Place) -> None:
    _two_versions(place)
    pack, entries = next((name, found) for name, found in _packs(place).items() if found[0].type is BlobType.DATA)
    path = _path(place, pack)
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[: entries[-1].offset + 5])
    report = _check(place, CheckOptions())
    [finding] = report.errors
    assert f"bytes instead of {len(data)}, says the index" in finding.text
    assert finding.blobs == (f"data {entries[-1].id.hex()}",)
    assert finding.files


def test_a_damaged_blob_with_a_sound_copy_hits_no_file(place2: Place, tmp_path: Path) -> None:
    beside = Place(place2.folder, tmp_path / "state2", known_key=place2.key)
    with place2.repository().writing() as one, beside.repository().writing() as two:
        write_version(one, some_blobs(12))
        write_version(two, some_blobs(12), host="other")
    assert not _check(place2).errors
    pack, entries = next((name, found) for name, found in _packs(place2).items() if found[0].type is BlobType.DATA)
    _spoil(_path(place2, pack), entries[2].offset)
    [finding] = _check(place2).errors
    assert finding.blobs == (f"data {entries[2].id.hex()}",)
    assert finding.files == ()


def test_files_beyond_the_first_ten_are_counted(place2: Place) -> None:
    with place2.repository().writing() as session:
        blob = add_blob(session, BlobType.DATA, b"shared").hex()
        files = [node(f"f{number:03}", size=6, content=[blob]) for number in range(40)]
        inner = add_blob(session, BlobType.TREE, encode_tree(files))
        tree = inner
        for depth in range(30):  # 2**30 ways lead to the files
            both = [node(name, type="dir", mode=GO_DIR, subtree=tree.hex()) for name in (f"a{depth}", f"b{depth}")]
            tree = add_blob(session, BlobType.TREE, encode_tree(both))
        session.add_version(Snapshot(time=TIME, tree=tree.hex(), paths=["/"]))
    pack = next(name for name, found in _packs(place2).items() if found[0].type is BlobType.DATA)
    _path(place2, pack).unlink()
    [finding] = _check(place2, CheckOptions()).errors
    assert len(finding.files) == 10
    assert finding.text.endswith(f"; {40 * 2**30 - 10} more places are hit than are listed")
    assert finding.files[0].endswith("/a1/a0/f000")


def test_trees_are_judged_as_restic_does_and_a_little_more(place2: Place) -> None:
    known = "ab" * 32
    nodes = [
        node("content", content=None),
        node("unknown", content=[known]),
        node("dir", type="dir"),
        node("lost", type="dir", subtree=known),
        node("odd", type="door"),
        node("", content=[]),
    ]
    with place2.repository().writing() as session:
        for number, bad in enumerate(nodes):
            tree = add_blob(session, BlobType.TREE, encode_tree([bad, node(f"z{number}", content=[])]))
            session.add_version(Snapshot(time=TIME, tree=tree.hex(), paths=["/"], hostname="h"))
        names = ["..", "a/b", "..."]
        for number, name in enumerate(names):
            entries = [node(name, content=[]), node(f"z{number}", content=[])]
            tree = add_blob(session, BlobType.TREE, encode_tree(entries))
            session.add_version(Snapshot(time=TIME, tree=tree.hex(), paths=["/"], hostname="h"))
        tree = add_blob(session, BlobType.TREE, encode_tree([node("b", content=[]), node("a", content=[])]))
        session.add_version(Snapshot(time=TIME, tree=tree.hex(), paths=["/"], hostname="h"))
    report = _check(place2, CheckOptions())
    texts = "\n".join(finding.text for finding in report.errors)
    for part in (
        "file 'content' has no list of blobs",
        f"file 'unknown' needs data blob {known}, in no index",
        "dir 'dir' has no tree",
        f"dir 'lost' names tree {known}, which is in no index",
        "door 'odd' is of the unknown type 'door'",
        "file '' has no name",
    ):
        assert part in texts
    assert len(report.errors) == len(nodes)
    assert len(report.hints) == 3
    assert "no errors were found" not in place2.restic("check", fails=True)


# --- hints ---


def test_waste_is_a_hint_and_unused_blobs_an_error_only_on_request(place2: Place) -> None:
    with place2.repository().writing() as session:
        add_blob(session, BlobType.DATA, b"nobody needs this")
    report = _check(place2)
    assert not report.errors
    assert report.suggest_prune
    [hint] = report.hints
    assert hint.text == "1 of 1 blobs are reached by no version; 'cdr prune' removes them"
    [finding] = _check(place2, CheckOptions(check_unused=True)).errors
    assert finding.text == f"unused blob data {blob_id(b'nobody needs this').hex()}"


def test_a_pack_in_several_indexes_is_a_hint_and_with_other_blobs_an_error(place2: Place) -> None:
    with place2.repository().writing() as session:
        write_version(session, some_blobs(3))
    pack, entries = next(iter(_packs(place2).items()))
    files = place2.repository().files()
    files.save(FileKind.INDEX, encode_index([IndexedPack(pack, entries)]))
    report = _check(place2)
    assert not report.errors
    assert [finding.text for finding in report.hints] == [f"pack {pack} is listed 2 times, by several indexes"]
    assert report.suggest_repair_index
    wrong = [entries[0]._replace(offset=7), *entries[1:]]
    files.save(FileKind.INDEX, encode_index([IndexedPack(pack, wrong)]))
    texts = [finding.text for finding in _check(place2).errors]
    assert f"pack {pack} is listed 3 times, with different blobs" in texts
    assert any("overlap" in text or "gap" in text for text in texts)


# --- which packs are read ---


class _Packs:
    """As much of ``IndexedPacks`` as choosing needs."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = list(sizes)
        self.index = self

    def pack_name(self, number: int) -> str:
        return f"{number % 256:02x}" + 62 * "0"

    def present(self) -> list[int]:
        return list(range(len(self.sizes)))


@given(st.integers(1, 256), st.integers(0, 60))
@settings(deadline=None)
def test_parts_of_a_subset_cover_every_pack_once(parts: int, count: int) -> None:
    packs = _Packs([100] * count)
    chosen = [Subset.parse(f"{n}/{parts}").choose(packs, random.Random(1)) for n in range(1, parts + 1)]  # type: ignore[arg-type]
    assert sorted(number for part in chosen for number in part) == packs.present()
    assert all(int(packs.pack_name(number)[:2], 16) % parts == n for n, part in enumerate(chosen) for number in part)


@given(st.floats(0.1, 100), st.integers(0, 600))
@settings(deadline=None)
def test_a_share_is_that_share_and_at_least_one(percent: float, count: int) -> None:
    packs = _Packs([100] * count)
    text = f"{percent:.3f}%"
    chosen = Subset.parse(text).choose(packs, random.Random(1))  # type: ignore[arg-type]
    assert len(set(chosen)) == len(chosen) == min(max(int(float(text[:-1]) / 100 * count), 1), count)
    by_size = Subset.parse("2k").choose(packs, random.Random(1))  # type: ignore[arg-type]
    assert len(by_size) == min(max(int(min(2048 / max(100 * count, 1), 1) * count), 1), count)


@pytest.mark.parametrize("text", ["0/3", "4/3", "1/257", "0%", "101%", "0", "-1", "5X", "1/", "%", "5 %", "nonsense"])
def test_a_subset_that_makes_no_sense_is_refused_before_any_work(place2: Place, text: str) -> None:
    with pytest.raises(UserError, match="neither n/t"):
        _check(place2, CheckOptions(subset=text))


def test_only_the_subset_is_read(place2: Place) -> None:
    with place2.repository().writing() as session:
        write_version(session, some_blobs(60))
    packs = _packs(place2)
    expected = [name for name in packs if int(name[:2], 16) % 2 == 0]
    assert _check(place2, CheckOptions(subset="1/2")).packs_read == len(expected)
    assert _check(place2, CheckOptions()).packs_read == 0


# --- storage and processes ---


class Remote(Storage):
    """Storage that is not of this machine: it has no files to open."""

    def __init__(self, folder: Path) -> None:
        self.location = str(folder)
        self._inner = LocalStorage(str(folder))

    def make_folders(self) -> None:
        self._inner.make_folders()

    def save(self, kind: FileKind, name: str, data: Buffer) -> None:
        self._inner.save(kind, name, data)

    def load_part(self, kind: FileKind, name: str, offset: int, length: int) -> bytes:
        return self._inner.load_part(kind, name, offset, length)

    def size(self, kind: FileKind, name: str) -> int:
        return self._inner.size(kind, name)

    def list(self, kind: FileKind) -> Iterator[str]:
        return self._inner.list(kind)

    def remove(self, kind: FileKind, name: str) -> None:
        self._inner.remove(kind, name)


@pytest.mark.parametrize("workers", [0, 1])
def test_storage_elsewhere_is_checked_by_way_of_temporary_files(place2: Place, workers: int) -> None:
    with place2.repository().writing() as session:
        write_version(session, some_blobs(20))
    repository: ResticRepository = place2.repository(Remote(place2.folder))
    with repository.exclusive(only_looks=True, with_versions=False) as held:
        report = check(held, ALL, workers=workers)
    assert not report.errors
    assert report.packs_read == report.packs > 0


def _requests(place: Place) -> list[Request]:
    return [Request(name, entries) for name, entries in _packs(place).items()]


def test_processes_and_threads_say_the_same(place2: Place) -> None:
    with place2.repository().writing() as session:
        write_version(session, some_blobs(80))
    requests = _requests(place2)
    for number, request in enumerate(requests):
        _spoil(_path(place2, request.name), -1 - number * 50)
    here = dict(_answers(place2, requests, 0))
    assert dict(_answers(place2, requests, 2)) == here
    assert all(answer.problems for answer in here.values())


def _answers(place: Place, requests: Sequence[Request], workers: int) -> Iterator[tuple[str, Answer]]:
    with verifying_packs(_storage(place), place.key, requests, workers) as answers:
        for request, answer in answers:
            yield request.name, answer


def test_a_pack_that_vanishes_is_a_broken_one(place2: Place) -> None:
    with place2.repository().writing() as session:
        write_version(session, some_blobs(20))
    requests = _requests(place2)
    _path(place2, requests[0].name).unlink()
    for workers in (0, 1):
        problems = {name: answer.problems for name, answer in _answers(place2, requests, workers)}
        assert problems.pop(requests[0].name)[0].startswith("it cannot be read: ")
        assert not any(problems.values())


def test_a_worker_that_dies_ends_the_check_with_an_error(place2: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with place2.repository().writing() as session:
        write_version(session, some_blobs(20))
    monkeypatch.setattr(check_pool, "_BOOT", "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(RemoteError, match="a process that verifies packs was killed by signal 9 at pack"):
        _check(place2, workers=2)


def test_no_process_is_left_when_the_reader_of_answers_stops(place2: Place) -> None:
    with place2.repository().writing() as session:
        write_version(session, some_blobs(80))
    with verifying_packs(_storage(place2), place2.key, _requests(place2), 2) as answers:
        next(answers)
        children = _children(os.getpid())
        assert len(children) == 2
    assert not set(_children(os.getpid())) & set(children)


def _children(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for thread in threads for child in (thread / "children").read_text().split()]


_INTERRUPTED = """
import os, signal, sys, threading
from cdr_restic.care import check_packs, check_pool
check_packs._WORTH_A_PROCESS_BYTES = 1
feed = check_pool._Pool._feed
first = threading.Lock()
def interrupt(self, worker):
    print(worker._process.pid, flush=True)
    if first.acquire(blocking=False):
        os.kill(os.getpid(), signal.SIGINT)
    feed(self, worker)
check_pool._Pool._feed = interrupt
from cdr_plugin.cli.main import main
sys.exit(main(["check", "--read-data", "-r", sys.argv[1]]))
"""


def test_ctrl_c_ends_everything_with_exit_code_130(place2: Place) -> None:
    with place2.repository().writing() as session:
        write_version(session, some_blobs(80))
    environment = {**os.environ, "RESTIC_PASSWORD": place2.password}
    command = [sys.executable, "-c", _INTERRUPTED, str(place2.folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 130, done.stderr
    assert done.stderr.splitlines()[-1] == "cdr: interrupted"
    for pid in map(int, done.stdout.split()):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, signal.SIG_DFL)
    assert not list(_storage(place2).list(FileKind.LOCKS))


# --- the command ---


def _run(place: Place, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["check", "-r", str(place.folder), *arguments])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


@pytest.fixture
def password(monkeypatch: pytest.MonkeyPatch, place2: Place) -> None:
    monkeypatch.setenv("RESTIC_PASSWORD", place2.password)


@pytest.mark.usefixtures("password")
def test_the_command_says_what_was_looked_at(place2: Place, capsys: pytest.CaptureFixture[str]) -> None:
    _two_versions(place2)
    code, out, _ = _run(place2, capsys, "--read-data", "-q")
    assert code == 0
    packs = _packs(place2)
    blobs = sum(map(len, packs.values()))
    lines = out.splitlines()
    assert lines[0] == f"repository {place2.folder}: looked at 2 versions, 2 trees, {blobs} blobs in {len(packs)} packs"
    assert lines[1].startswith(f"read and verified {len(packs)} packs with ")
    assert lines[2] == "no errors were found"


@pytest.mark.usefixtures("password")
def test_the_command_says_what_is_damaged_and_what_to_do(place2: Place, capsys: pytest.CaptureFixture[str]) -> None:
    first, _ = _two_versions(place2)
    pack, entries = next((name, found) for name, found in _packs(place2).items() if found[0].type is BlobType.DATA)
    _spoil(_path(place2, pack), entries[0].offset)
    code, out, err = _run(place2, capsys, "--read-data")
    assert code == 1
    assert f"check: {place2.folder}: pack {pack}: " in err
    for part in (
        "1 errors were found:",
        f"    damaged: data {entries[0].id.hex()}",
        f"    needed by: {first[:8]}:/folder/file",
        f"next: 'cdr repair packs {pack}'",
    ):
        assert part in out


@pytest.mark.usefixtures("password")
def test_json_has_the_fields_of_restic(place2: Place, capsys: pytest.CaptureFixture[str]) -> None:
    _two_versions(place2)
    pack, entries = next((name, found) for name, found in _packs(place2).items() if found[0].type is BlobType.DATA)
    code, out, _ = _run(place2, capsys, "--json")
    summary = json.loads(out.splitlines()[-1])
    expected = {"num_errors": 0, "broken_packs": None, "suggest_repair_index": False, "suggest_prune": False}
    assert code == 0
    assert summary["message_type"] == "summary"
    assert {key: summary[key] for key in expected} == expected
    _spoil(_path(place2, pack), entries[0].offset)
    code, out, err = _run(place2, capsys, "--json", "--read-data-subset", "100%")
    summary = json.loads(out.splitlines()[-1])
    assert (code, summary["num_errors"], summary["broken_packs"]) == (1, 1, [pack])
    assert summary["damage"][0]["files"]
    error = json.loads(err.splitlines()[0])
    assert error["message_type"] == "error"
    assert error["message"].startswith(f"pack {pack}: ")


@pytest.mark.usefixtures("password")
def test_read_data_and_a_subset_exclude_each_other(place2: Place, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = _run(place2, capsys, "--read-data", "--read-data-subset", "1/2")
    assert code == 1
    assert "exclude each other" in err
