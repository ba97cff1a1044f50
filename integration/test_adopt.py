"""A restic user moves over: the repository is kept, and nothing in it is sent again."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from cdr_plugin.errors import UserError
from cdr_plugin.model.blobs import blob_id
from cdr_plugin.model.trees import encode_tree
from cdr_plugin.parcel.naming import Answer, answer_name
from cdr_plugin.top.choosing import Wanted
from cdr_restic.config import RepositoryConfig, load_config, save_config
from cdr_restic.crypto import KeyMaterial
from cdr_restic.keys import add_key, find_key
from cdr_restic.local import LocalStorage
from cdr_restic.storage import FileKind
from tests.restic.world import QUICK
from tests.support.adopting import backed_up, grant, known, manifest, moving, part, received, take
from tests.support.chain import Chain, Recorder
from tests.support.changing import change, many_files, small_tree
from tests.support.compare import Facts, tree_facts
from tests.support.crashing import kill_at
from tests.support.forger import Forger, file_node
from tests.support.hierarchy import Hierarchy, make_quick
from tests.support.memory import folder_in_memory

from .command import Repository, Shell
from .hosts import Hierarchy as Hosts


@pytest.fixture
def quick_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    make_quick(monkeypatch)
    with folder_in_memory() as folder:
        yield folder


@pytest.fixture
def world(quick_path: Path) -> Hierarchy:
    """Client alice is enrolled; restic has one backup of her source."""
    small_tree(quick_path / "src")
    return moving(quick_path / "world", quick_path / "src")


def master_of(folder: Path, password: str) -> KeyMaterial:
    return find_key(LocalStorage(str(folder)), password).master


def made_by_restic(shell: Shell, folder: Path, password_file: Path, *options: str) -> Repository:
    """A repository made by restic, but for a key that is quick to open in place of the slow one."""
    repository = Repository(shell, folder, password_file)
    repository.restic("init", *options)
    storage, password = LocalStorage(str(folder)), password_file.read_text().strip()
    slow = list(storage.list(FileKind.KEYS))
    add_key(storage, master_of(folder, password), password, QUICK)
    for name in slow:
        storage.remove(FileKind.KEYS, name)
    return repository


def around(folder: Path, *options: str) -> tuple[Hosts, Repository]:
    """The top tier's host before ``cdr init``, with a repository of restic where it expects its own."""
    hosts = Hosts(folder).configure()
    repository = hosts.repository()
    return hosts, made_by_restic(hosts.hq, repository.folder, repository.password_file, *options)


# --- the whole way, as users go it ---


def test_a_restic_user_moves_over_without_sending_anything_twice(quiet_path: Path, tmp_path: Path) -> None:
    """30 snapshots of host alice, some of host bob beside them."""
    hosts, repository = around(tmp_path)
    choose = random.Random(30)
    source, other = quiet_path / "alice", quiet_path / "bob"
    many_files(source, choose, files=60)
    many_files(other, choose, files=10)
    history: dict[str, tuple[str, dict[bytes, Facts]]] = {}
    for number in range(30):
        change(source, choose)
        history[_backup(repository, "alice", source)] = "alice", tree_facts(source)
        if number % 10 == 0:
            history[_backup(repository, "bob", other)] = "bob", tree_facts(other)
    before = repository.snapshots()

    said = hosts.hq.cdr("init").out
    assert f"adopted repository {repository.folder} (33 snapshots, format v2, polynomial " in said
    assert "adopted" not in hosts.hq.cdr("init").out
    alice = hosts.prepare("alice", source='timezone = "UTC"')
    config = alice.folder / "cdr.toml"
    config.write_text(config.read_text().replace('paths = ["files"]', f'paths = ["{source}"]'))
    alice.cdr("init")
    hosts.enroll(alice)
    alice.cdr("send")
    adopted = hosts.hq.json("adopt", "alice")
    assert adopted["snapshot_id"] == before[-1]["id"] and adopted["blobs_not_granted"] == 0
    taken = alice.json("adopt")
    assert taken["blobs"] == adopted["blobs"] > 100

    first = alice.json("backup")
    assert (first["data_blobs"], first["tree_blobs"], first["data_added"]) == (0, 0, 0)
    assert first["files_new"] == first["files_changed"] == 0
    assert first["spooled_bytes"] < 4000
    packs = repository.packs()
    stored = hosts.deliver(alice)
    assert (stored["versions_stored"], stored["blobs_new"], stored["blobs_missing"]) == (1, 0, 0)
    assert repository.packs() == packs
    newest = repository.snapshots()[-1]
    assert newest["tree"] == before[-1]["tree"] and newest["hostname"] == "alice"

    (source / "added").write_bytes(choose.randbytes(200_000))
    second = alice.json("backup")
    assert (second["files_new"], second["files_changed"]) == (1, 0)
    assert second["spooled_bytes"] < 250_000
    assert hosts.deliver(alice)["versions_stored"] == 1
    after = repository.snapshots()
    assert [one["id"] for one in after[: len(before)]] == [one["id"] for one in before] and len(after) == 35
    repository.check()
    for id_, (host, facts) in history.items():
        repository.restic("restore", id_, "--target", tmp_path / "restored")
        (found,) = (tmp_path / "restored").glob(f"*/{host}")
        assert tree_facts(found) == facts
        shutil.rmtree(tmp_path / "restored")


def _backup(repository: Repository, host: str, source: Path) -> str:
    lines = repository.restic("backup", "--json", "--host", host, source).out.splitlines()
    short: str = json.loads(lines[-1])["snapshot_id"]
    return short


# --- cdr init ---


@pytest.mark.parametrize("version", ["1", "2"])
def test_init_keeps_a_repository_that_restic_made_and_its_chunker(tmp_path: Path, version: str) -> None:
    hosts, repository = around(tmp_path, "--repository-version", version)
    (tmp_path / "file").write_text("content")
    repository.restic("backup", tmp_path / "file")
    polynomial = json.loads(repository.restic("cat", "config").out)["chunker_polynomial"]
    summary = hosts.hq.json("init")
    (line,) = summary["adopted"]
    assert f"(1 snapshots, format v{version}, polynomial {polynomial} kept)" in line
    assert not any(made.startswith("repository") for made in summary["made"])
    assert hosts.hq.json("init")["adopted"] == []
    chain = Chain(tmp_path / "chain")
    shutil.copytree(repository.folder, chain.repository)
    password = (hosts.hq.folder / "legal.password").read_text().strip()
    chain.top.options = replace(chain.top.options, password=lambda: password)
    chain.top.init()
    assert chain.new_client().ticket.chunker["polynomial"] == polynomial
    repository.check()


def test_init_refuses_what_it_cannot_use_and_makes_nothing(tmp_path: Path) -> None:
    hosts, repository = around(tmp_path)
    password = hosts.hq.folder / "legal.password"
    right = password.read_text()
    password.write_text("wrong\n")
    assert "password" in hosts.hq.cdr("init", code=12).error
    assert not (hosts.hq.folder / "identity").exists() and not (hosts.hq.folder / "state").exists()
    password.write_text(right)
    (repository.folder / "config").chmod(0o600)
    (repository.folder / "config").rename(hosts.hq.folder / "config")
    (repository.folder / "letter.txt").write_text("not a repository")
    assert "letter.txt" in hosts.hq.cdr("init", code=10).error
    assert not (hosts.hq.folder / "identity").exists() and not (hosts.hq.folder / "state").exists()
    (repository.folder / "letter.txt").unlink()
    (hosts.hq.folder / "config").rename(repository.folder / "config")
    _use_other_chunker(repository.folder, right.strip())
    assert "chunker" in hosts.hq.cdr("init", code=1).error
    assert not (hosts.hq.folder / "identity").exists()


def _use_other_chunker(folder: Path, password: str) -> None:
    """As another program, which has more than one chunker, might."""
    storage, key = LocalStorage(str(folder)), master_of(folder, password)
    config = load_config(storage, key)
    (folder / "config").unlink()
    save_config(storage, key, RepositoryConfig(config.version, config.id, config.polynomial, "fixed"))


def test_init_finds_versions_of_cdr_when_only_the_state_was_lost(world: Hierarchy) -> None:
    grant(world)
    take(world)
    world.backup()
    world.deliver()
    shutil.rmtree(world.base / "top-state")
    with closing(world.chain().top) as top:
        (line,) = top.init()
        assert "adopted repository" in line and "(2 snapshots, 1 of them made by cdr, " in line
        assert top.init() == []
    (world.source / "more").write_text("more")
    world.backup()
    world.deliver()
    world.assert_settled()


# --- what travels ---


def test_in_another_time_zone_only_trees_travel(quick_path: Path) -> None:
    small_tree(quick_path / "src")
    world = Hierarchy.make(quick_path / "world", quick_path / "src")
    world.restic("backup", "--host", "alice", "src", zone="America/New_York")
    world.send()
    grant(world)
    take(world)
    counts = world.backup().spool
    assert (counts.data_blobs, counts.tree_blobs) == (0, 3)
    world.send()
    assert received(world).blobs_new == 3
    world.send()
    world.assert_settled()
    world.check()


def test_unchanged_files_are_not_opened(world: Hierarchy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their restic snapshot is dated long after their last change, so no clock's tick is in doubt."""
    backed_up(world, "alice", "--time", "2100-01-01 00:00:00")
    grant(world)
    take(world)
    monkeypatch.setattr("cdr_plugin.archiver.reading._open", None)
    monkeypatch.setattr("cdr_plugin.kernel.read_files", None)
    result = world.backup()
    counts = result.archive.counts
    assert (counts.files_unmodified, counts.files_changed, counts.files_new) == (5, 0, 0)
    assert result.spool.data_added == 0


def test_what_changed_since_the_adopted_version_is_sent_and_nothing_else(world: Hierarchy) -> None:
    grant(world)
    take(world)
    (world.source / "small").write_text("other words\n")
    world.backup()
    world.send()
    result = received(world)
    assert (result.versions_stored, result.blobs_new, result.blobs_missing) == (1, 3, 0)  # content, folder, root
    world.send()
    world.assert_settled()
    world.assert_restores(world.base / "restored")


def test_a_baseline_reaches_a_client_below_a_branch(quick_path: Path) -> None:
    small_tree(quick_path / "src")
    world = Hierarchy.make(quick_path / "world", quick_path / "src", branched=True)
    backed_up(world)
    world.send()
    world.branch_receive()
    world.branch_send()
    grant(world)
    world.branch_send()
    world.send()  # it takes in what there is
    assert world.backup().spool.data_added == 0
    world.deliver()
    world.assert_settled()


# --- when the old version goes ---


def test_the_adopted_version_outlives_forget_and_prune_until_the_first_own_version(world: Hierarchy) -> None:
    grant(world)
    take(world)
    _forget(world, "--host", "alice")
    world.backup()
    world.send()
    result = received(world)
    assert (result.versions_stored, result.blobs_new, result.blobs_missing) == (1, 0, 0)
    world.send()
    world.assert_settled()
    assert not manifest(world).exists() and not part(world, 0).exists()
    assert json.loads(world.restic("snapshots", "--json", "--host", "cdr-pin")) in ([], None)
    world.restic("prune", "--max-unused", "0")
    world.check()
    world.assert_restores(world.base / "restored")


def test_what_was_pruned_all_the_same_is_asked_for_and_sent(world: Hierarchy) -> None:
    grant(world)
    take(world)
    world.backup()
    _forget(world, "--host", "alice")
    _forget(world, "--host", "cdr-pin")
    world.send()
    first = received(world)
    assert (first.versions_stored, first.blobs_missing) == (0, 1)  # the root is all that it names so far
    for _ in range(4):  # then folders, then files
        world.send()
        world.backup()
        world.send()
        received(world)
        world.send()
    assert world.snapshots()[max(world.snapshots())] == world.source_tree()
    world.check()
    world.assert_restores(world.base / "restored")
    world.assert_no_blob_twice()


def test_what_the_repository_lost_before_is_not_granted_and_the_client_heals_it(world: Hierarchy) -> None:
    _pack_of(world, blob_id((world.source / "small").read_bytes()).hex()).unlink()
    world.restic("rebuild-index")
    seen = Recorder()
    assert grant(world, reporter=seen).not_granted > 0
    assert any("are not granted" in note for note in seen.notes)
    take(world)
    assert world.backup().spool.data_blobs > 0
    world.deliver()
    world.assert_settled()
    world.check()


def _pack_of(world: Hierarchy, id_: str) -> Path:
    found = world.restic("find", "--show-pack-id", "--blob", id_)
    name = re.findall(r"[0-9a-f]{64}", found.split("pack")[1])[0]
    return world.chain().repository / "data" / name[:2] / name


def _forget(world: Hierarchy, *chosen: str) -> None:
    """Every snapshot that ``chosen`` names, and what only they reached."""
    for snapshot in json.loads(world.restic("snapshots", "--json", *chosen)):
        world.restic("forget", snapshot["id"])
    world.restic("prune", "--max-unused", "0")


def test_a_top_tier_that_lost_its_state_still_knows_the_grant(world: Hierarchy) -> None:
    grant(world)
    take(world)
    world.backup()
    shutil.rmtree(world.base / "top-state")
    world.send()
    result = received(world)
    assert (result.versions_stored, result.blobs_missing) == (1, 0)
    world.send()
    world.assert_settled()


# --- a client that lost its state ---


@pytest.mark.parametrize("lost", [["alice-state"], ["alice-state", "top-state"]])
def test_a_client_without_state_goes_on_where_its_versions_ended(world: Hierarchy, lost: list[str]) -> None:
    for word in ("one", "two"):
        (world.source / "word").write_text(word)
        world.backup()
        world.deliver()
    for folder in lost:
        shutil.rmtree(world.base / folder)
    chain = world.chain()
    client = chain.new_client()
    client.state.close()
    chain.top.close()
    world.send()
    assert grant(world).number == 2
    assert take(world) is not None
    (world.source / "word").write_text("three")
    result = world.backup()
    assert result.version == 3
    assert (result.spool.data_blobs, result.spool.tree_blobs) == (1, 2)
    world.deliver()
    assert world.snapshots()[3] == world.source_tree()
    assert {number: world.snapshots()[number] for number in (1, 2, 3)}.keys() == world.committed().keys() | {1}
    world.check()


@pytest.mark.parametrize("made_before", [1, 2, 3])
def test_versions_made_between_a_loss_of_state_and_the_adoption_are_stored_too(
    world: Hierarchy, made_before: int
) -> None:
    """The state was lost, and a timer went on making versions from number 1: a fork of the client's history."""
    for word in ("one", "two"):
        (world.source / "word").write_text(word)
        world.backup()
        world.deliver()
    shutil.rmtree(world.base / "alice-state")
    chain = world.chain()
    chain.new_client().state.close()
    chain.top.close()
    for number in range(made_before):
        (world.source / "word").write_text(f"lost {number}")
        world.backup()
        world.deliver()
    before = grant(world).number
    world.send()
    for word in ("three", "four"):  # both are on the way at once
        (world.source / "word").write_text(word)
        world.backup()
    world.deliver()
    assert before >= 2 and set(world.snapshots()) == set(range(1, before + 3))
    assert world.snapshots()[before + 2] == world.source_tree()
    assert len(json.loads(world.restic("snapshots", "--json", "--host", "alice"))) == 1 + 2 + made_before + 2
    assert {before + 1, before + 2} <= world.committed().keys()
    world.assert_nothing_on_the_way()
    world.check()


@pytest.mark.parametrize("copied_at", [0, 1])
def test_clients_go_on_above_an_older_copy_of_the_repository_without_state(world: Hierarchy, copied_at: int) -> None:
    """The top tier was lost whole, and with it the versions that were committed after the copy was made."""
    repository, copy = world.chain().repository, world.base / "copy"
    for number in range(3):
        if number == copied_at:
            shutil.copytree(repository, copy)
        (world.source / "word").write_text(f"{number}")
        world.backup()
        world.deliver()
    shutil.rmtree(world.base / "top-state")
    shutil.rmtree(repository)
    copy.rename(repository)
    for number in range(3, 7):  # what is missing is asked for level by level
        (world.source / "word").write_text(f"{number}")
        world.backup()
        world.deliver()
    assert world.snapshots()[7] == world.source_tree()
    world.check()
    world.assert_restores(world.base / "restored")


def test_the_first_versions_of_a_client_are_committed_in_order_however_they_arrive(world: Hierarchy) -> None:
    world.backup()
    (world.source / "small").write_text("other words\n")
    world.backup()
    client = world.client()
    (first, _) = client.state.parcels()
    client.state.close()
    world.send()
    (late,) = world.chain().inbox.glob(f"clients/*/{first.id.hex()}/*{first.segments - 1:08x}*")
    late.rename(world.base / "late")
    assert received(world).versions_stored == 0
    (world.base / "late").rename(late)
    assert received(world).versions_stored == 2
    world.send()
    world.assert_settled()


# --- who may have what ---


def test_nobody_adopts_by_claim(world: Hierarchy) -> None:
    """A client that says it is the restic host possesses nothing of it until the operator says so."""
    chain = world.chain()
    mallory = Forger(chain, "mallory")
    content = (world.source / "small").read_bytes()
    for name, manifest_of in ((answer_name(mallory.folder, Answer.BASELINE), b"\1\3\2\0forged"),):
        mallory.put(name, manifest_of)
    mallory.send_version([], encode_tree([file_node("guess", content)]))
    assert chain.receive().versions_stored == 0
    assert [id_ for _, id_ in mallory.receipt().missing] == [blob_id(content)]
    chain.top.close()


def test_what_is_another_clients_is_refused_unless_the_operator_says_it_is_the_same_machine(world: Hierarchy) -> None:
    world.backup()
    world.deliver()
    chain = world.chain()
    mallory = Forger(chain, "mallory")
    victim = world.client().fingerprint.hex()
    chain.top.close()
    versions = {v["hostname"]: v["id"] for v in json.loads(world.restic("snapshots", "--json"))}
    own = next(v["id"] for v in json.loads(world.restic("snapshots", "--json")) if v.get("tags"))
    for wanted in (Wanted(), Wanted(host="alice"), Wanted(version=versions["alice"]), Wanted(version=own)):
        with pytest.raises(UserError, match=r"no version of host (mallory|alice) fits|cannot be adopted"):
            grant(world, wanted, "mallory")
    with pytest.raises(UserError, match="16 hex digits"):
        grant(world, Wanted(former=victim[:8]), "mallory")
    assert not (chain.inbox / answer_name(mallory.folder, Answer.BASELINE)).exists()
    mallory.send_version([], encode_tree([file_node("guess", (world.source / "small").read_bytes())]))
    assert received(world).versions_stored == 0
    assert grant(world, Wanted(version=own, former=victim[:16]), "mallory").blobs > 5
    assert received(world).versions_stored == 0  # nothing new came
    mallory.put_head()
    content = (world.source / "small").read_bytes()
    mallory.send_version([], encode_tree([file_node("mine", content)]))
    assert received(world).versions_stored == 2  # the guess is none any more
    world.check()


@pytest.mark.parametrize("trouble", ["torn", "flipped", "foreign part", "part of an older series", "other client's"])
def test_a_baseline_that_the_storage_tampered_with_is_refused_and_changes_nothing(
    world: Hierarchy, trouble: str
) -> None:
    grant(world)
    old = part(world, 0).read_bytes()
    grant(world)
    path = manifest(world) if trouble in ("torn", "flipped", "other client's") else part(world, 0)
    data = path.read_bytes()
    good = data
    if trouble == "torn":
        data = data[:-7]
    elif trouble == "flipped":
        data = data[:-7] + bytes((data[-7] ^ 1,)) + data[-6:]
    elif trouble == "part of an older series":
        data = old
    else:
        data = _of_another_client(world, path.name)
    path.write_bytes(data)
    before = known(world)
    seen = Recorder()
    world.send(seen)
    assert len(seen.errors) == 1 and seen.errors[0].endswith("; ignored"), seen.errors
    assert known(world) == before
    path.write_bytes(good)
    assert take(world) is not None and known(world) > before


def _of_another_client(world: Hierarchy, name: str) -> bytes:
    """The object of that name which was made for somebody else."""
    chain = world.chain()
    other = Forger(chain, "other")
    chain.top.close()
    grant(world, Wanted(host="alice", former=world.client().fingerprint.hex()), "other")
    return (chain.inbox / "answers" / other.folder / name).read_bytes()


def test_a_replayed_baseline_is_refused_and_one_taken_before_is_passed_over(world: Hierarchy) -> None:
    grant(world)
    old = {path: path.read_bytes() for path in (manifest(world), part(world, 0), part(world, 1))}
    grant(world)
    assert take(world) is not None
    assert take(world) is None
    for path, data in old.items():
        path.write_bytes(data)
    seen = Recorder()
    world.send(seen)
    assert len(seen.errors) == 1 and "replayed" in seen.errors[0]


def test_a_part_that_is_not_there_yet_is_waited_for(world: Hierarchy) -> None:
    grant(world)
    late = part(world, 0).read_bytes()
    part(world, 0).unlink()
    seen = Recorder()
    world.send(seen)
    assert seen.errors == [] and any("part 0" in note for note in seen.notes)
    part(world, 0).write_bytes(late)
    assert take(world) is not None


# --- kill -9 ---


def test_a_kill_at_any_operation_of_either_half_is_made_good_by_running_it_again(
    world: Hierarchy, quick_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdr_plugin.top.adopt.GRANT_BLOBS", 2)
    monkeypatch.setattr("cdr_plugin.top.publish.MAX_BASELINE_BLOBS", 3)
    kills = 0
    for half, after in ((grant, take), (take, None)):
        at = 0
        while True:
            at += 1
            copy = world.copy(quick_path / "killed")
            outcome = kill_at(at, partial(half, copy))
            half(copy)
            if after is not None:
                after(copy)
            if at % 6 == 0 or not outcome.killed:
                counts = copy.backup().spool
                assert (counts.data_blobs, counts.tree_blobs) == (0, 0)
                copy.send()
                assert received(copy).blobs_missing == 0
                copy.send()
                copy.assert_settled()
            shutil.rmtree(copy.base)
            if not outcome.killed:
                break
            kills += 1
        grant(world)
    copy = world.copy(quick_path / "last")
    take(copy)
    copy.backup()
    copy.deliver()
    copy.check()
    assert kills > 20
