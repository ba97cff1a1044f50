from __future__ import annotations

import pytest

from cdr_plugin.errors import RemoteError
from cdr_plugin.model.blobs import BlobType
from cdr_plugin.mount.source import LOOK_EVERY_S, Source
from tests.mount.world import Clock, Listener, MemoryRepository


def _ids(source: Source) -> list[str]:
    return list(source.root().folder("ids").entries)


def test_new_versions_appear_when_it_is_time_to_look_again() -> None:
    repository, clock = MemoryRepository(), Clock()
    repository.add(repository.reader.tree())
    with Source(repository, lambda version: True, Listener(), clock) as source:
        repository.add(repository.reader.tree())
        clock.now_s += LOOK_EVERY_S - 1
        assert len(_ids(source)) == 1
        assert repository.looked == 1
        clock.now_s += 1
        assert len(_ids(source)) == 2
        assert repository.looked == 2
        assert len(_ids(source)) == 2
        assert (repository.looked, repository.locks, repository.opened) == (2, 1, 2)
    assert repository.locks == 0


def test_nothing_is_opened_anew_when_nothing_came() -> None:
    repository, clock = MemoryRepository(), Clock()
    repository.add(repository.reader.tree())
    with Source(repository, lambda version: True, Listener(), clock) as source:
        root = source.root()
        clock.now_s += 1000
        assert source.root() is root
        assert repository.opened == 1


def test_a_reader_stays_open_as_long_as_somebody_reads_through_it() -> None:
    repository, clock = MemoryRepository(), Clock()
    with Source(repository, lambda version: True, Listener(), clock) as source:
        with source.reader() as reader:
            tree = repository.reader.tree()
            repository.add(tree)
            clock.now_s += 1000
            assert len(_ids(source)) == 1
            assert repository.locks == 2
            assert reader.read(BlobType.TREE, tree)
        assert repository.locks == 1
    assert repository.locks == 0


def test_a_storage_that_is_away_for_a_while_leaves_what_was_known() -> None:
    repository, clock, listener = MemoryRepository(), Clock(), Listener()
    repository.add(repository.reader.tree())
    with Source(repository, lambda version: True, listener, clock) as source:
        repository.fails = True
        clock.now_s += 1000
        assert len(_ids(source)) == 1
        assert len(_ids(source)) == 1
        (note,) = listener.notes
        assert "the storage is away; showing those known before" in note


def test_only_wanted_versions_are_shown() -> None:
    repository = MemoryRepository()
    for host in ("a", "b", "a"):
        repository.add(repository.reader.tree(), host=host)
    with Source(repository, lambda version: version.snapshot.hostname == "a", Listener()) as source:
        assert len(_ids(source)) == 2


def test_a_source_that_cannot_begin_leaves_no_lock() -> None:
    repository = MemoryRepository()
    repository.fails = True
    with pytest.raises(RemoteError, match="away"):
        Source(repository, lambda version: True, Listener())
    assert repository.locks == 0
