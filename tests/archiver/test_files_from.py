"""Lists of paths are read as restic reads them."""

from __future__ import annotations

import io
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from cdr_plugin.archiver.files_from import expand, listed_lines, listed_patterns, listed_raw
from cdr_plugin.errors import UserError
from tests.archiver.judge import Machine, Restic

PATTERNS = """
# a comment, and blank lines

  *.txt\t
   # another
**/two
a/b/*/?hree
a/[x-z]*
a/\\[x\\]
./a/../a/b/t*
{base}/a/.h*
nothing*
missing
a/*/
c\r
/dev/nul[l]
"""


@pytest.fixture
def plot(quiet: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    base = quiet / "files from"
    for path in ("one.txt", ".hidden.txt", "a/two", "a/b/two", "a/b/c/three", "a/xyz", "a/.h", "a/[x]", "c", "#not"):
        file = base / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(path)
    monkeypatch.chdir(base)
    return base


def agree(restic: Restic, machine: Machine, option: str, file: Path, paths: list[str], plot: Path) -> None:
    expected = restic.backup(option, str(file), cwd=plot)
    result = machine.run(*paths, cwd=plot)
    assert result.paths == expected["paths"]
    assert result.root_tree.hex() == expected["tree"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_patterns_match_what_they_match_for_restic(
    plot: Path, tmp_path: Path, restic: Restic, judged: Machine, encoding: str
) -> None:
    file, warnings = tmp_path / "list", list[str]()
    file.write_bytes(PATTERNS.format(base=re.escape(str(plot))).encode(encoding))
    paths = listed_patterns(str(file), warnings.append)
    agree(restic, judged, "--files-from", file, paths, plot)
    assert [re.findall("'.*'", warning) for warning in warnings] == [["'nothing*'"], ["'missing'"], ["'a/*/'"]]


def test_verbatim_lines_are_taken_as_they_stand(plot: Path, tmp_path: Path, restic: Restic, judged: Machine) -> None:
    (plot / " blank ").touch()
    file = tmp_path / "list"
    file.write_text("#not\n\n blank \r\na/[x]\nc")
    paths = listed_lines(str(file))
    assert paths == ["#not", " blank ", "a/[x]", "c"]
    agree(restic, judged, "--files-from-verbatim", file, paths, plot)


def test_raw_paths_may_hold_anything_but_zero(plot: Path, tmp_path: Path, restic: Restic, judged: Machine) -> None:
    (plot / "line\nend \udcff").touch()
    file = tmp_path / "list"
    file.write_bytes(b"line\nend \xff\0a\0")
    paths = listed_raw(str(file))
    assert paths == ["line\nend \udcff", "a"]
    agree(restic, judged, "--files-from-raw", file, paths, plot)


def test_standard_input_is_a_list_too(plot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"c\0a/two\0")))
    assert listed_raw("-") == ["c", "a/two"]


@pytest.mark.parametrize(("data", "why"), [(b"a\0b", "zero byte behind the last"), (b"a\0\0", "empty path")])
def test_a_broken_raw_list_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    file = tmp_path / "list"
    file.write_bytes(data)
    with pytest.raises(UserError, match=why):
        listed_raw(str(file))


def test_malformed_patterns_and_missing_lists_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pattern '\[a' is malformed"):
        expand("nowhere/[a/b")
    with pytest.raises(UserError, match=f"--files-from {tmp_path}/none: No such file"):
        listed_patterns(f"{tmp_path}/none", print)
