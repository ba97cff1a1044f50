"""Passwords added, removed and changed: at every moment one that should open the repository does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cdr_plugin.care import RepositoryCare
from cdr_plugin.errors import CdrError, LockedError, RemoteError, UserError, WrongPasswordError
from cdr_plugin.reporter import Reporter
from cdr_restic.care.keys import list_keys
from cdr_restic.keys import Scrypt, find_key
from cdr_restic.local import LocalStorage
from cdr_restic.repository import open_repository
from cdr_restic.storage import FileKind
from tests.restic.world import AT_ONCE, PASSWORD, FaultyStorage, Place, fail


@pytest.fixture(autouse=True)
def quick_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdr_restic.care.keys.measured_scrypt", lambda: Scrypt(16, 1, 1))


def _care(place: Place, password: str = PASSWORD) -> RepositoryCare:
    options = replace(place.options(pack_size=4 << 20), password=lambda: password)
    return open_repository(LocalStorage(str(place.folder)), options, AT_ONCE).care()


def _opens(place: Place, password: str) -> bool:
    try:
        return find_key(LocalStorage(str(place.folder)), password).master == place.key
    except WrongPasswordError:
        return False


def _current(care: RepositoryCare) -> str:
    keys = care.keys()
    [id_] = [key.id for key in keys if key.current]
    return id_


def test_keys_are_listed_as_restic_lists_them(place2: Place) -> None:
    care = _care(place2)
    care.add_key("second", "ann", "laptop")
    theirs = json.loads(place2.restic("key", "list", "--json"))
    ours = care.keys()
    assert [(key.id[:8], key.current, key.user, key.host) for key in ours] == [
        (key["id"][:8], key["current"], key["userName"], key["hostName"])
        for key in sorted(theirs, key=lambda key: not key["current"])
    ]
    assert ours[1].user == "ann" and ours[1].host == "laptop"


def test_an_added_password_opens_the_repository_for_restic_too(place2: Place) -> None:
    id_ = _care(place2).add_key("second")
    assert _current(_care(place2, "second")) == id_
    place2.password = "second"
    place2.restic("check")


def test_an_empty_password_is_refused_and_changes_nothing(place2: Place) -> None:
    care = _care(place2)
    for act in (care.add_key, care.change_password):
        with pytest.raises(UserError, match="an empty password protects nothing"):
            act("")
    assert len(care.keys()) == 1


def test_a_removed_password_opens_nothing_any_more(place2: Place) -> None:
    care = _care(place2)
    id_ = care.add_key("second")
    care.remove_key(id_[:8])
    assert not _opens(place2, "second") and _opens(place2, PASSWORD)
    place2.restic("check")


def test_the_key_in_use_cannot_be_removed(place2: Place) -> None:
    care = _care(place2)
    care.add_key("second")
    with pytest.raises(UserError, match="is the one in use"):
        care.remove_key(_current(care))
    assert len(care.keys()) == 2


@pytest.mark.parametrize("prefix", ["", "zz", "not hex", "/", "../config"])
def test_only_the_start_of_a_single_id_names_a_key(place2: Place, prefix: str) -> None:
    care = _care(place2)
    care.add_key("second")
    with pytest.raises(UserError, match=r"no such key|several keys begin with it"):
        care.remove_key(prefix)
    assert len(care.keys()) == 2


def test_an_ambiguous_id_names_no_key(place2: Place) -> None:
    care = _care(place2)
    for number in range(17):  # sixteen digits: two of them begin alike
        care.add_key(str(number))
    keys = care.keys()
    digits = [key.id[0] for key in keys]
    with pytest.raises(UserError, match="several keys begin with it"):
        care.remove_key(max(digits, key=digits.count))


def test_two_who_remove_each_others_key_leave_one(place2: Place) -> None:
    one = _care(place2)
    second = one.add_key("second")
    two = _care(place2, "second")
    two.remove_key(_current(one))
    with pytest.raises(UserError, match=r"was removed meanwhile; nothing is removed"):
        one.remove_key(second)
    assert _opens(place2, "second")


def test_a_changed_password_replaces_the_old_one(place2: Place) -> None:
    care = _care(place2)
    id_ = care.change_password("new")
    [key] = care.keys()
    assert key.id == id_ and key.current
    assert _opens(place2, "new") and not _opens(place2, PASSWORD)
    place2.password = "new"
    place2.restic("check")


def test_an_open_repository_goes_on_after_its_password_is_changed(place2: Place) -> None:
    repository = open_repository(LocalStorage(str(place2.folder)), place2.options(pack_size=4 << 20), AT_ONCE)
    care = repository.care()
    care.change_password("second")
    with repository.writing() as session:
        session.flush()
    with pytest.raises(UserError, match="is the one in use"):
        care.remove_key(_current(care))
    care.change_password("third")
    assert len(care.keys()) == 1 and _opens(place2, "third")


def _changes_that_fail(place: Place, tmp_path: Path, when: str) -> Iterator[tuple[Place, FaultyStorage]]:
    """A change of password whose Nth operation on the storage fails, for every N."""
    for number in range(1, 1000):
        copy = place.copy(tmp_path / str(number))
        storage = FaultyStorage(copy.folder, number, when, fail)
        repository = copy.repository(storage)
        try:
            repository.care().change_password("new")
        except CdrError:
            assert storage.fired
        if not storage.fired:
            return
        yield copy, storage


@pytest.mark.parametrize("when", ["before", "after", "torn"])
def test_a_password_that_worked_or_the_new_one_works_wherever_changing_it_breaks_off(
    place2: Place, tmp_path: Path, when: str
) -> None:
    count = 0
    for copy, _ in _changes_that_fail(place2, tmp_path, when):
        count += 1
        opening = [password for password in (PASSWORD, "new") if _opens(copy, password)]
        assert opening
        # And the next attempt ends as if nothing had happened.
        care = _care(copy, opening[0])
        care.change_password("newest")
        assert _opens(copy, "newest") and not _opens(copy, opening[0])
    assert count > 10


def test_an_old_key_that_cannot_be_removed_is_named(place2: Place) -> None:
    class Sticky(LocalStorage):
        def remove(self, kind: FileKind, name: str) -> None:
            if kind is FileKind.KEYS:
                raise RemoteError("permission denied")
            super().remove(kind, name)

    care = place2.repository(Sticky(str(place2.folder))).care()
    with pytest.raises(RemoteError, match=f"the old one still is: .*'cdr key remove {place2.key_id[:8]}'"):
        care.change_password("new")
    assert _opens(place2, "new") and _opens(place2, PASSWORD)


def test_changing_keys_respects_the_locks_of_others(place2: Place) -> None:
    care = _care(place2)
    other = replace(place2, state=place2.state.with_name("other"))
    with other.repository().writing():
        id_ = care.add_key("second")  # a shared lock suffices
        with pytest.raises(LockedError):
            care.remove_key(id_)
        with pytest.raises(LockedError):
            care.change_password("new")
    with other.repository().exclusive(), pytest.raises(LockedError):
        care.add_key("third")
    assert len(care.keys()) == 2


def test_a_damaged_key_is_reported_and_the_others_are_listed(place2: Place) -> None:
    class Errors(Reporter):
        def error(self, item: str, during: str, error: Exception | str) -> None:
            found.append(item)

    found: list[str] = []
    (place2.folder / "keys" / ("1" * 64)).write_bytes(b"no key")
    [key] = list_keys(LocalStorage(str(place2.folder)), place2.key_id, Errors())
    assert key.current
    assert found == [f"keys 1111111111 of repository {place2.folder}"]
