from __future__ import annotations

import threading

import pytest

from cdr_plugin.errors import NotFoundError
from cdr_plugin.mount.caches import Cache, ReadAhead


def test_what_was_not_asked_for_the_longest_is_forgotten_first() -> None:
    made: list[str] = []

    def make(key: str) -> tuple[str, int]:
        made.append(key)
        return key.upper(), 10

    cache = Cache(make, 30)
    for key in "abcad":
        assert cache.get(key) == key.upper()
    assert cache.bytes == 30
    assert [cache.holds(key) for key in "abcd"] == [True, False, True, True]
    assert made == list("abcd")


def test_one_value_stays_however_big_it_is() -> None:
    cache = Cache(lambda key: (key, 1000), 10)
    assert [cache.get(key) for key in "ab"] == ["a", "b"]
    assert (cache.holds("a"), cache.holds("b"), cache.bytes) == (False, True, 1000)


def test_threads_that_ask_at_the_same_time_share_one_making() -> None:
    begun, go_on = threading.Event(), threading.Event()
    made: list[str] = []

    def make(key: str) -> tuple[str, int]:
        made.append(key)
        begun.set()
        assert go_on.wait(60)
        return key, 1

    cache = Cache(make, 10)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(cache.get("k"))) for _ in range(4)]
    threads[0].start()
    assert begun.wait(60)
    for thread in threads[1:]:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join()
    assert (found, made) == (["k"] * 4, ["k"])


def test_an_error_is_raised_and_not_remembered() -> None:
    answers = [NotFoundError("gone"), None]

    def make(key: str) -> tuple[str, int]:
        error = answers.pop(0)
        if error:
            raise error
        return key, 1

    cache = Cache(make, 10)
    with pytest.raises(NotFoundError):
        cache.get("k")
    assert cache.get("k") == "k"


def test_reading_ahead_fills_the_cache_and_leaves_errors_to_who_asks() -> None:
    made: list[str] = []

    def make(key: str) -> tuple[str, int]:
        made.append(key)
        if key == "bad":
            raise NotFoundError("gone")
        return key, 1

    cache = Cache(make, 10)
    ahead = ReadAhead(cache)
    cache.get("here")
    ahead.fetch(["here", "bad", "a", "b"])
    assert {cache.get(key) for key in "ab"} == {"a", "b"}
    ahead.close()
    assert made.count("here") == made.count("a") == made.count("b") == 1
    with pytest.raises(NotFoundError):
        cache.get("bad")
