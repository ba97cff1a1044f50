"""Per client, per group, shared: the same versions arrive, whatever the layout was when something was put."""

from __future__ import annotations

import itertools
import os
import random
import re
from pathlib import Path

import pytest

from cdr_plugin.parcel.head import Head, HeadParcel, write_head
from cdr_plugin.parcel.layout import Layout, post_layout, read_layout
from cdr_plugin.parcel.naming import folder_id, group_id, head_name, layout_name, segment_name
from cdr_plugin.plugins import installed
from cdr_plugin.top.laid_out import LaidOut
from tests.support.chain import Chain, Recorder
from tests.support.forger import Forger, check_repository
from tests.support.hierarchy import Hierarchy, make_quick

HEX, INDEX = "[0-9a-f]{32}", "[0-9a-f]{8}"
SEGMENTS = {
    Layout.PER_CLIENT: re.compile(f"clients/{HEX}/{HEX}/{INDEX}").fullmatch,
    Layout.PER_GROUP: re.compile(f"groups/{HEX}/{HEX}/{HEX}/{INDEX}").fullmatch,
    Layout.SHARED: re.compile(f"shared/{HEX}/{INDEX}").fullmatch,
}


def lay_out(inbox: Path, layout: Layout) -> None:
    with installed().transport(str(inbox), create=True) as storage:
        post_layout(storage, layout)


def put(inbox: Path) -> list[str]:
    """Names of segments that lie in the inbox."""
    names = (str(path.relative_to(inbox)) for path in inbox.rglob("*") if path.is_file())
    return [name for name in names if re.search(f"{HEX}/{INDEX}$", name)]


def change(world: Hierarchy, seed: int) -> None:
    (world.source / f"file {seed}").write_bytes(random.Random(seed).randbytes(50_000))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    made = tmp_path / "source"
    made.mkdir()
    return made


@pytest.mark.parametrize("branched", [False, True])
@pytest.mark.parametrize("layout", list(Layout))
def test_a_version_arrives_and_its_segments_lie_as_the_layout_says(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, layout: Layout, branched: bool
) -> None:
    make_quick(monkeypatch)
    world = Hierarchy.make(tmp_path / "world", source, branched=branched)
    for seed in range(2):
        lay_out(world.chain().lower, layout)  # the branch of this test asks for the default one
        change(world, seed)
        world.backup()
        world.send()
        names = put(world.chain().lower)
        assert len(names) > 2
        assert all(SEGMENTS[layout](name) for name in names), names
        if branched:
            world.branch_receive()
            world.branch_send()
            assert sorted(put(world.chain().inbox)) == sorted(names)
        world.receive()
        assert put(world.chain().inbox) == []
        world.deliver()
    world.assert_settled()


def test_more_objects_than_a_listing_remembers_arrive_as_well(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_quick(monkeypatch)
    monkeypatch.setattr("cdr_plugin.top.laid_out.MAX_REMEMBERED", 2)
    world = Hierarchy.make(tmp_path / "world", source)
    chain = world.chain()
    lay_out(chain.inbox, Layout.PER_GROUP)
    change(world, 1)
    world.backup()
    world.send()
    names = put(chain.inbox)
    assert len(names) > 2
    with chain.top.plugins.transport(str(chain.inbox)) as inbox:
        view = chain.top.view(inbox)
        assert isinstance(view, LaidOut)
        assert len(list(view.list("clients"))) > len(names) and len(view._places) == 2
    world.receive()
    assert put(chain.inbox) == []
    world.deliver()
    world.assert_settled()


@pytest.mark.parametrize(("before", "after"), list(itertools.pairwise([*Layout, Layout.PER_CLIENT])))
def test_a_layout_may_change_while_something_is_on_its_way(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, before: Layout, after: Layout
) -> None:
    """As it does for clients of an older program, which know one layout only."""
    make_quick(monkeypatch)
    world = Hierarchy.make(tmp_path / "world", source)
    inbox = world.chain().inbox
    lay_out(inbox, before)
    change(world, 1)
    world.backup()
    world.send()
    gone = inbox / sorted(put(inbox))[1]
    gone.unlink()
    lay_out(inbox, after)
    change(world, 2)
    world.backup()
    world.send()
    assert {layout for layout, matches in SEGMENTS.items() for name in put(inbox) if matches(name)} == {before, after}
    for _ in range(2):
        world.receive()
        world.send()  # the segment that was gone goes where things lie now
    world.assert_settled()
    assert put(inbox) == []


def test_what_is_not_understood_is_per_client(tmp_path: Path) -> None:
    lay_out(tmp_path, Layout.SHARED)
    note = tmp_path / layout_name()
    with installed().transport(str(tmp_path)) as storage:
        assert read_layout(storage) is Layout.SHARED
        for data in (b"", b"\2\4whatever", b"\1\4\x81\xa6layout\xa6spiral", bytes(5000)):
            note.write_bytes(data)
            assert read_layout(storage) is Layout.PER_CLIENT
        post_layout(storage, Layout.PER_GROUP)
        assert read_layout(storage) is Layout.PER_GROUP
        post_layout(storage, Layout.PER_CLIENT)
        assert not note.exists()


def test_groups_have_unlike_names_that_tell_nothing() -> None:
    assert len({group_id(name) for name in ("legal", "sales", "legal2")}) == 3
    assert "legal" not in group_id("legal")


# --- a shared folder in which others write ---


@pytest.fixture
def shared(chain: Chain) -> Chain:
    lay_out(chain.inbox, Layout.SHARED)
    return chain


def move_to_shared(chain: Chain, paths: list[Path]) -> list[Path]:
    """Segments that a forger put per client, where a client of this layout would put them."""
    moved = []
    for path in paths:
        target = chain.inbox / "shared" / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        moved.append(path.rename(target))
    return moved


def version(chain: Chain, client: Forger, text: bytes) -> list[Path]:
    client.send_files(file=text)
    return move_to_shared(chain, [path for path in chain.inbox.glob(f"clients/{client.folder}/*/*") if path.is_file()])


def test_segments_of_several_clients_are_told_apart_by_their_headers(shared: Chain) -> None:
    alice, bob = Forger(shared, "alice"), Forger(shared, "bob")
    for client in (alice, bob):
        version(shared, client, client.tier.name.encode())
    assert shared.receive().versions_stored == 2
    assert put(shared.inbox) == []
    check_repository(shared)


@pytest.mark.parametrize("remembered", [100_000, 0])
def test_nobody_deletes_the_segments_of_another_by_its_parcel_id(
    shared: Chain, monkeypatch: pytest.MonkeyPatch, remembered: int
) -> None:
    bob, hostile = Forger(shared, "bob"), Forger(shared, "a-hostile")
    monkeypatch.setattr("cdr_plugin.top.laid_out.MAX_REMEMBERED", remembered)
    (path, *_) = version(shared, bob, b"of bob")
    same = hostile.parcel(id_=bytes.fromhex(path.parent.name))
    hostile.put(segment_name(hostile.folder, same.id, 0), same.seal(0, hostile.records()))
    assert shared.receive().versions_stored == 1


def test_neither_garbage_nor_strangers_nor_a_false_head_keep_anybody_out(
    shared: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdr_plugin.top.laid_out.MAX_OPENED", 2)
    alice, mallory = Forger(shared, "alice"), Forger(shared, "mallory")
    for number in range(20):
        garbage = shared.inbox / "shared" / f"{number:032x}" / "00000000"
        garbage.parent.mkdir(parents=True)
        garbage.write_bytes(os.urandom(2000))
    stranger = shared.inbox / "shared" / ("0" * 31 + "g") / "00000000"
    stranger.parent.mkdir(parents=True)
    stranger.write_bytes(b"not even a name")
    (path, *_) = version(shared, alice, b"of alice")
    theirs = [HeadParcel(id=bytes.fromhex(path.parent.name), segments=1, closed=True)]
    claim = write_head(Head(1 << 61, theirs), mallory.key, group=shared.group, issued_s=1)
    (shared.inbox / head_name(mallory.folder)).write_bytes(claim)
    recorder = Recorder()
    assert shared.receive(recorder).versions_stored == 1
    assert recorder.errors == []
    assert len(put(shared.inbox)) == 20  # nobody's: it stays where it is
    assert alice.receipt().committed == 1
    check_repository(shared)


def test_an_unknown_sender_in_the_shared_folder_is_kept_and_reported_like_any_other(shared: Chain) -> None:
    alice = Forger(shared, "alice")
    (path, *_) = version(shared, alice, b"of alice")
    shared.top.register._db.execute("DELETE FROM clients")
    recorder = Recorder()
    shared.receive(recorder)
    assert any(folder_id(alice.key.public, shared.group) in error for error in recorder.errors)
    assert path.exists()
