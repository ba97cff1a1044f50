"""Several inboxes of one tier are one storage, of which a part may be out of reach."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cdr_plugin.errors import NotFoundError
from cdr_plugin.model.blobs import BlobType
from cdr_plugin.model.trees import encode_tree
from cdr_plugin.parcel.naming import Answer, answer_name, head_name
from cdr_plugin.parcel.receipt import VersionState
from tests.support.chain import Chain, Recorder
from tests.support.forger import Forger, change_file, check_repository, file_node, flip, plain

WORDS = (b"first", b"second", b"third")


@pytest.fixture
def second(chain: Chain) -> Path:
    """Another inbox."""
    folder = chain.base / "second"
    folder.mkdir()
    chain.top.inboxes = [str(chain.inbox), str(folder)]
    return folder


@pytest.fixture
def client(chain: Chain, second: Path) -> Forger:
    return Forger(chain)


def spread(chain: Chain, client: Forger, second: Path) -> list[Path]:
    """A version in four segments, of which the last two lie in the second inbox; both have the head."""
    tree = encode_tree([file_node(f"{at}", word) for at, word in enumerate(WORDS)])
    signed = client.sign(client.record(tree))
    segments = [client.records(plain(word)) for word in WORDS]
    paths = client.put_segments([*segments, client.records(plain(tree, BlobType.TREE), signed)])
    client.follow(signed)
    paths[2:] = [moved(chain, path, second) for path in paths[2:]]
    shutil.copy(chain.inbox / head_name(client.folder), second / head_name(client.folder))
    return paths


def moved(chain: Chain, path: Path, second: Path) -> Path:
    target = second / path.relative_to(chain.inbox)
    target.parent.mkdir(parents=True, exist_ok=True)
    return path.rename(target)


def segments_left(*inboxes: Path) -> list[Path]:
    return [path for inbox in inboxes for path in inbox.glob("clients/*/*/*") if path.is_file()]


def test_a_parcel_whose_segments_lie_in_two_inboxes_is_one(chain: Chain, client: Forger, second: Path) -> None:
    spread(chain, client, second)
    result = chain.receive()
    assert (result.versions_stored, result.segments, result.blobs_missing) == (1, 4, 0)
    assert segments_left(chain.inbox, second) == []
    for inbox in (chain.inbox, second):
        receipt = client.read((inbox / answer_name(client.folder, Answer.RECEIPT)).read_bytes())
        assert receipt.committed == 1
        assert (inbox / answer_name(client.folder, Answer.STANDING)).exists()
    assert chain.receive().segments == 0
    check_repository(chain)


def test_answers_go_where_the_client_has_a_folder(chain: Chain, client: Forger, second: Path) -> None:
    client.send_files(f=b"only here")
    chain.receive()
    assert not (second / "answers").exists()
    spread(chain, client, second)
    chain.receive()
    assert {path.name for path in second.glob("answers/*/*")} == {"receipt", "standing"}


def test_the_newest_head_counts_wherever_it_lies(chain: Chain, client: Forger, second: Path) -> None:
    spread(chain, client, second)
    newer = client.put_head()
    client.parcels.clear()
    client.put_head()  # newest of all, and names nothing any more
    (second / head_name(client.folder)).write_bytes(newer)
    assert chain.receive().versions_stored == 1
    assert client.receipt().parcels == ()


def test_copies_in_both_inboxes_are_taken_once_and_one_good_one_is_enough(
    chain: Chain, client: Forger, second: Path
) -> None:
    paths = spread(chain, client, second)
    for path in paths[:2]:
        target = second / path.relative_to(chain.inbox)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    change_file(paths[0], flip(-1))  # the copy in the second inbox is whole
    change_file(second / paths[1].relative_to(chain.inbox), flip(60))
    result = chain.receive()
    assert (result.versions_stored, result.segments, result.rejected) == (1, 4, 0)
    assert segments_left(chain.inbox, second) == []


def test_a_segment_damaged_everywhere_is_rejected_once(chain: Chain, client: Forger, second: Path) -> None:
    paths = spread(chain, client, second)
    target = second / paths[0].relative_to(chain.inbox)
    shutil.copy(paths[0], target)
    change_file(paths[0], flip(-1))
    change_file(target, flip(-2))
    result = chain.receive()
    assert (result.versions_stored, result.rejected) == (0, 1)
    assert segments_left(chain.inbox, second) == []


def test_an_inbox_out_of_reach_does_not_stop_the_others_and_nothing_is_called_missing(
    chain: Chain, client: Forger, second: Path
) -> None:
    other = Forger(chain, "other")
    spread(chain, client, second)
    other.send_files(f=b"other")
    away = second.rename(chain.base / "away")
    seen = Recorder()
    result = chain.receive(seen)
    assert (result.versions_stored, result.segments, result.inboxes_failed) == (1, 3, 1)
    assert [error for error in seen.errors if str(second) in error]
    receipt = client.receipt()
    assert receipt.parcels[-1].missing == [] and receipt.parcels[-1].taken == 2
    assert receipt.missing == []
    away.rename(second)
    result = chain.receive()
    assert (result.versions_stored, result.segments, result.inboxes_failed) == (1, 2, 0)
    check_repository(chain)


def test_a_version_whose_blobs_may_lie_out_of_reach_waits_and_asks_for_nothing(
    chain: Chain, client: Forger, second: Path
) -> None:
    paths = spread(chain, client, second)
    for path in paths[:2]:
        moved(chain, path, second)
    for path in paths[2:]:  # the version record is here, the first two blobs are there
        path.rename(chain.inbox / path.relative_to(second))
    away = second.rename(chain.base / "away")
    assert chain.receive().blobs_missing == 0
    assert client.version(1).state is VersionState.STORED
    away.rename(second)
    assert chain.receive().versions_stored == 1


def test_what_is_in_no_inbox_is_missing_once_all_can_be_listed(chain: Chain, client: Forger, second: Path) -> None:
    paths = spread(chain, client, second)
    data = paths[2].read_bytes()
    paths[2].unlink()
    away = second.rename(chain.base / "away")
    chain.receive()
    assert client.receipt().parcels[-1].missing == []
    away.rename(second)
    chain.receive()
    receipt = client.receipt()
    assert receipt.parcels[-1].missing == [2] and len(receipt.missing) == 1
    (chain.inbox / paths[2].relative_to(second)).parent.mkdir(parents=True, exist_ok=True)
    (chain.inbox / paths[2].relative_to(second)).write_bytes(data)
    assert chain.receive().versions_stored == 1


def test_with_no_inbox_in_reach_the_error_is_raised(chain: Chain, client: Forger, second: Path) -> None:
    spread(chain, client, second)
    second.rename(chain.base / "away")
    chain.inbox.rename(chain.base / "also away")
    with pytest.raises(NotFoundError):
        chain.receive(Recorder())
