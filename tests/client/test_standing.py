"""What a client no longer builds on once its standing says that it is gone."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cdr_plugin.client.rows import cut_keys
from cdr_plugin.client.standing import apply_standing, read_standings
from cdr_plugin.client.states import VersionState
from cdr_plugin.client.tier import ClientTier
from cdr_plugin.files import exclusive
from cdr_plugin.identity.keys import SigningKey
from cdr_plugin.parcel.naming import Answer, answer_name, folder_id
from cdr_plugin.parcel.standing import PresentVersion, Standing, pack_versions, write_standing
from cdr_restic.creating import create_repository
from cdr_restic.local import LocalStorage
from tests.restic.world import QUICK
from tests.support.chain import Chain, Recorder
from tests.support.forger import quick_chain
from tests.support.hierarchy import make_quick

WORDS = ("one", "two", "three")


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A client three of whose versions are committed: ``one`` is gone since the second, ``kept`` never changed."""
    base = tmp_path_factory.mktemp("delivered")
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        chain = quick_chain(base / "world")
        client = chain.new_client()
        source = base / "source"
        source.mkdir()
        (source / "kept").write_text("never changes")
        for word in WORDS:
            (source / "word").write_text(word)
            chain.backup(client, source)
            chain.deliver(client)
        client.state.close()
        chain.top.close()
    return base


@pytest.fixture
def chain(delivered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chain]:
    make_quick(monkeypatch)
    made = Chain(Path(shutil.copytree(delivered / "world", tmp_path / "world")))
    yield made
    made.top.close()


@pytest.fixture
def client(chain: Chain) -> Iterator[ClientTier]:
    made = chain.client()
    yield made
    made.state.close()


def known(client: ClientTier) -> set[bytes]:
    return {key for keys in client.state.known() for key in cut_keys(keys)}


def present(client: ClientTier, *numbers: int) -> list[PresentVersion]:
    return [PresentVersion(row.number, row.hash) for row in client.state.versions() if row.number in numbers]


def said(client: ClientTier, chain: Chain, *numbers: int) -> Standing:
    """A standing newer than any before, that lists these versions."""
    newest = client.state.versions()[-1]
    repository = chain.top.open_repository()
    repository.close()
    return Standing(
        time.time_ns() // 1000, repository.id, newest.number, newest.hash, newest.tree, newest.time,
        present(client, *numbers),
    )  # fmt: skip


def put(chain: Chain, client: ClientTier, standing: Standing, signer: SigningKey | None = None) -> None:
    """Where the client looks for it."""
    registered = chain.top.register.clients(chain.group)[0]
    data = write_standing(
        standing, signer or chain.top.identity.signing, client=client.identity.signing.public,
        sealing=registered.sealing, group=chain.group, issued_s=1,
    )  # fmt: skip
    (chain.inbox / answer_name(folder_id(registered.key, chain.group), Answer.STANDING)).write_bytes(data)


def read(chain: Chain, client: ClientTier) -> Recorder:
    seen = Recorder()
    with client.plugins.transport(str(chain.inbox)) as storage:
        read_standings(client, [storage], folder_id(client.identity.signing.public, chain.group), seen)
    return seen


def test_a_standing_that_lists_all_changes_nothing(chain: Chain, client: ClientTier) -> None:
    before, generation = known(client), client.state.catalog_generation
    apply_standing(client, said(client, chain, 1, 2, 3), Recorder())
    assert (known(client), client.state.catalog_generation) == (before, generation)
    assert len(client.state.versions()) == 3


@pytest.mark.parametrize("change", [{"versions": ()}, {"repository": "another"}])
def test_without_its_newest_version_or_in_another_repository_nothing_is_known(
    chain: Chain, client: ClientTier, change: dict[str, object]
) -> None:
    generation = client.state.catalog_generation
    standing = replace(said(client, chain, 1, 2, 3), **change)  # type: ignore[arg-type]
    apply_standing(client, standing, Recorder())
    assert known(client) == set()
    assert client.state.catalog_generation == generation + 1
    apply_standing(client, replace(standing, serial=standing.serial + 1), Recorder())
    assert client.state.catalog_generation == generation + 1  # said again, it changes nothing


def test_what_only_an_earlier_version_needed_is_not_known_once_that_is_gone(chain: Chain, client: ClientTier) -> None:
    before, generation = known(client), client.state.catalog_generation
    apply_standing(client, said(client, chain, 2, 3), Recorder())
    left = known(client)
    assert left < before
    assert client.state.catalog_generation == generation  # a prune above is no reason to read all files
    apply_standing(client, replace(said(client, chain, 2, 3)), Recorder())
    assert (known(client), client.state.catalog_generation) == (left, generation)


def test_the_newest_catalog_decides_and_without_it_nothing_is_struck(chain: Chain, client: ClientTier) -> None:
    before = known(client)
    for path in client.state_folder.glob("catalog-*"):
        path.unlink()
    apply_standing(client, said(client, chain, 2, 3), Recorder())
    assert known(client) == before


def test_a_list_that_is_full_says_nothing_of_older_versions(
    chain: Chain, client: ClientTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdr_plugin.client.standing.MAX_STANDING_VERSIONS", 1)
    before = known(client)
    apply_standing(client, said(client, chain, 3), Recorder())
    assert known(client) == before


def test_a_list_that_is_full_says_nothing_of_the_other_side_of_a_fork_that_would_stand_before_it(
    chain: Chain, client: ClientTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdr_plugin.client.standing.MAX_STANDING_VERSIONS", 1)
    before = known(client)
    full = replace(said(client, chain), versions=[PresentVersion(3, b"\xff" * 32)])
    apply_standing(client, full, Recorder())
    assert known(client) == before


def test_a_newer_version_that_is_not_known_here_is_followed_by_the_next_one(chain: Chain, client: ClientTier) -> None:
    before = known(client)
    generation = client.state.catalog_generation
    newer = PresentVersion(7, b"7" * 32)
    standing = replace(
        said(client, chain, 1, 2, 3), number=7, record=newer.record, tree=b"t" * 32, time="2026-01-01T00:00:00Z"
    )
    standing = replace(standing, versions=[*standing.versions, newer])
    apply_standing(client, standing, Recorder())
    newest = client.state.newest_version()
    assert newest is not None
    assert (newest.number, newest.hash, newest.state) == (7, b"7" * 32, VersionState.COMMITTED)
    assert known(client) == before
    assert client.state.catalog_path(7, generation).exists()  # our own files have not changed


def test_a_catalog_that_no_version_has_is_not_compared_with_after_one_of_its_number(
    chain: Chain, client: ClientTier
) -> None:
    """A run was killed before its version was captured, when catalogs before it were void."""
    state = client.state
    stray = state.catalog_path(4, state.catalog_generation)
    state.catalog_path(3, state.catalog_generation).rename(stray)
    standing = replace(said(client, chain, 1, 2, 3), number=4, record=b"4" * 32)
    apply_standing(client, replace(standing, versions=[*standing.versions, PresentVersion(4, b"4" * 32)]), Recorder())
    assert not stray.exists()


@contextmanager
def backup_under_way(client: ClientTier) -> Iterator[None]:
    with exclusive(client.state_folder / "backup.lock", "backup"):
        yield


def test_while_a_backup_is_running_a_newer_version_is_followed_later(chain: Chain, client: ClientTier) -> None:
    standing = replace(said(client, chain, 1, 2, 3), number=7, record=b"7" * 32)
    put(chain, client, standing)
    with backup_under_way(client):
        assert "followed later" in read(chain, client).notes[0]
        assert len(client.state.versions()) == 3
    read(chain, client)
    newest = client.state.newest_version()
    assert newest is not None and newest.number == 7


def test_forged_replayed_and_torn_standings_change_nothing(chain: Chain, client: ClientTier) -> None:
    before = known(client)
    good = said(client, chain, 1, 2, 3)
    put(chain, client, good)
    read(chain, client)
    put(chain, client, replace(good, versions=(), serial=good.serial - 1))
    assert read(chain, client).errors == []
    put(chain, client, replace(good, versions=(), serial=good.serial + 1), SigningKey(b"x" * 32))
    assert "signed by" in read(chain, client).errors[0]
    path = chain.inbox / answer_name(folder_id(client.identity.signing.public, chain.group), Answer.STANDING)
    put(chain, client, replace(good, versions=(), serial=good.serial + 1))
    for data in (b"", path.read_bytes()[:-1], b"\2" + path.read_bytes()[1:]):
        path.write_bytes(data)
        assert len(read(chain, client).errors) == 1
    assert known(client) == before


def test_a_standing_that_receipts_have_overtaken_is_not_judged_by(chain: Chain, client: ClientTier) -> None:
    """It was written before the newest version was committed, of which the receipt tells."""
    before = known(client)
    rows = client.state.versions()
    standing = replace(said(client, chain, 1, 2), number=2, record=rows[1].hash, serial=1 << 40)
    client.state.put({"standing_serial": "0"})
    apply_standing(client, standing, Recorder())
    assert known(client) == before


def test_a_tier_between_passes_standings_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)
    chain = Chain(tmp_path / "world", branched=True)
    create_repository(LocalStorage(str(chain.repository)), chain.top.options, {}, QUICK)
    client = chain.init().new_client()
    source = tmp_path / "source"
    source.mkdir()
    (source / "word").write_text("one")
    chain.backup(client, source)
    chain.deliver(client)
    assert (client.state.get("standing_repository") or b"").decode() == chain.top.open_repository().id
    assert [version.number for version in present(client, 1)] == [1]
    assert client.state.get("standing_versions") == pack_versions(present(client, 1))
