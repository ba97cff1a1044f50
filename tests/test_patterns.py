"""Patterns mean what they mean to restic."""

from __future__ import annotations

import pytest

from cdr_plugin.errors import UserError
from cdr_plugin.patterns import Patterns


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*.txt", "/a/b.txt", True),
        ("*.txt", "/a.txt/b", True),
        ("*.txt", "/a/b.txtx", False),
        ("b", "/a/b/c", True),
        ("b/c", "/a/b/c/d", True),
        ("b/d", "/a/b/c/d", False),
        ("/a", "/a/b", True),
        ("/b", "/a/b", False),
        ("/a/*/c", "/a/b/c", True),
        ("/a/*/c", "/a/b/b/c", False),
        ("/a/**/c", "/a/c", True),
        ("/a/**/c", "/a/b/b/c", True),
        ("a/**/c", "/x/a/b/c/d", True),
        ("/a/**", "/a", True),
        ("/**/c", "/a/b/c", True),
        ("**", "/x", True),
        ("/", "/x/y", True),
        ("?", "/ä", True),
        ("?", "/ab", False),
        ("[a-c]", "/b", True),
        ("[^a-c]", "/b", False),
        ("[^a-c]", "/d", True),
        ("[!a]", "/!", True),
        (r"\*", "/*", True),
        (r"\*", "/x", False),
        (r"[\]]", "/]", True),
        ("[c-a]", "/b", False),
        ("a//b/./c/", "/a/b/c", True),
        ("foo", "/foobar", False),
        ("a\nb*", "/a\nbc", True),
        ("*", "/a\udcff", True),
        (".", "/a", False),
    ],
)
def test_a_pattern_matches_as_in_restic(pattern: str, path: str, matches: bool) -> None:
    assert Patterns([pattern]).match(path) is matches


@pytest.mark.parametrize(
    ("pattern", "folder", "possible"),
    [
        ("x", "/a/b", True),
        ("/a/b/c", "/a", True),
        ("/a/b/c", "/a/b", True),
        ("/a/b/c", "/a/x", False),
        ("/a/b/c", "/a/b/c/d", True),
        ("/a/**/c", "/a/x/y", True),
        ("/a/**/c", "/b/x/y", False),
        ("/*/b", "/x", True),
    ],
)
def test_folders_that_cannot_hold_a_match_are_known(pattern: str, folder: str, possible: bool) -> None:
    assert Patterns([pattern]).may_match_below(folder) is possible


def test_negation_takes_back_and_the_last_word_counts() -> None:
    patterns = Patterns(["*.log", "!keep.log", "/x/keep.log"])
    assert patterns.match("/a.log")
    assert not patterns.match("/keep.log")
    assert patterns.match("/x/keep.log")


def test_case_is_ignored_on_demand() -> None:
    assert Patterns(["*.JPG"], ignore_case=True).match("/a/b.jpg")
    assert not Patterns(["*.JPG"]).match("/a/b.jpg")


@pytest.mark.parametrize("pattern", ["[", "[]", "[a", "[-]", "[a-", "a\\", "[a-]"])
def test_a_malformed_pattern_is_named(pattern: str) -> None:
    with pytest.raises(UserError, match="is malformed"):
        Patterns([pattern])
