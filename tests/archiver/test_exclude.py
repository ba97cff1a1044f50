"""Excludes leave out what restic leaves out."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdr_plugin.archiver import ExcludeRules, parse_size, read_exclude_file
from cdr_plugin.archiver.exclude_file import expand
from cdr_plugin.errors import UserError
from tests.archiver.judge import Machine, Restic, agree


@pytest.fixture(scope="module")
def plot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("plot") / "top"
    for path in (
        "a/foo.c",
        "a/foo.O",
        "a/b/foo.o",
        "a/b/bar.o",
        "a/b/c/foo.o",
        "foo/bar/baz",
        "foo/x/bar/y",
        "deep/foo/bar/z",
        "odd/[x]",
        "odd/a*b",
        "odd/ax",
        "odd/back\\slash",
        "odd/new\nline.o",
        "odd/ünï.o",
        "cache/keep",
        "cache/sub/keep",
        "liar/data",
        "short/data",
        "marked/data",
        "marked/sub/data",
        "signed/data",
        "big/1000",
    ):
        file = base / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(path)
    Path(os.fsdecode(os.fsencode(base) + b"/odd/\xff.o")).write_text("bytes")
    (base / "cache" / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n# more")
    (base / "liar" / "CACHEDIR.TAG").write_text("Signature: something else, of the same length!!")
    (base / "short" / "CACHEDIR.TAG").write_text("Sig")
    (base / "marked" / ".nobackup").write_text("")
    (base / "signed" / ".nobackup").write_text("really")
    (base / "big" / "1001").write_bytes(bytes(1001))
    (base / "big" / "1000").write_bytes(bytes(1000))
    (base / "big" / "link").symlink_to("x" * 1001)
    return base


PATTERNS = [
    ["*.o"],
    ["foo"],
    ["foo.*"],
    ["a/b"],
    ["b/*.o"],
    ["{base}/a"],
    ["{base}/a/*.c"],
    ["{base}/*/b"],
    ["{base}"],
    ["top"],
    ["/top"],
    ["{base}/a/*"],
    ["{base}/a/*", "!*.c"],
    ["/"],
    ["**"],
    ["foo/**/y"],
    ["{base}/**/*.o"],
    ["**/foo/bar"],
    ["a/**"],
    ["foo/"],
    ["./foo//bar/"],
    ["?oo.o"],
    ["[a-f]oo.[!o]"],
    ["[a-f]oo.[^c]"],
    ["a\\*b"],
    ["odd/[[]x]"],
    ["back\\\\slash"],
    ["ün?.o"],
    ["?.o"],
    ["*.o", "!foo.o"],
    ["*", "!{base}/foo"],
    ["{base}/a/*", "!{base}/a/b", "foo.o"],
    ["!foo"],
    ["f*", "!foo", "foo/bar"],
]


@pytest.mark.parametrize(
    ("option", "patterns"),
    [("--exclude", patterns) for patterns in PATTERNS] + [("--iexclude", patterns) for patterns in PATTERNS[:5]],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_patterns_mean_what_they_mean_to_restic(
    plot: Path, restic: Restic, judged: Machine, option: str, patterns: list[str]
) -> None:
    patterns = [pattern.format(base=plot) for pattern in patterns]
    if option == "--iexclude":
        patterns = [pattern.swapcase() for pattern in patterns]
        rules = ExcludeRules(patterns_ignoring_case=patterns)
    else:
        rules = ExcludeRules(patterns=patterns)
    given = [argument for pattern in patterns for argument in (option, pattern)]
    try:
        agree(restic, judged, "top", cwd=plot.parent, rules=given, exclude=rules)
    except UserError:
        restic.refuses(*given, "top", cwd=plot.parent, because="snapshot is empty")


RULES = [
    (["--exclude-caches"], ExcludeRules(caches=True)),
    (["--exclude-if-present", ".nobackup"], ExcludeRules(if_present=[".nobackup"])),
    (["--exclude-if-present", ".nobackup:real"], ExcludeRules(if_present=[".nobackup:real"])),
    (["--exclude-larger-than", "1000"], ExcludeRules(larger_than=1000)),
    (["--exclude-larger-than", "1k"], ExcludeRules(larger_than=parse_size("1k"))),
    (
        ["--exclude-larger-than", "1000", "--exclude", "*.o", "--iexclude", "*.C", "--exclude-caches"],
        ExcludeRules(larger_than=1000, patterns=["*.o"], patterns_ignoring_case=["*.C"], caches=True),
    ),
]


@pytest.mark.parametrize(("given", "rules"), RULES, ids=[" ".join(given) for given, _ in RULES])
@pytest.mark.parametrize("target", ["top", "top/marked/sub", "top/cache/CACHEDIR.TAG"])
def test_other_rules_leave_out_what_restic_leaves_out(
    plot: Path, restic: Restic, judged: Machine, given: list[str], rules: ExcludeRules, target: str
) -> None:
    # A second target keeps the snapshot from being empty where the first one is left out.
    agree(restic, judged, target, "top/deep", cwd=plot.parent, rules=given, exclude=rules)


def test_a_tag_with_another_signature_is_noted(plot: Path, judged: Machine) -> None:
    judged.run("top", cwd=plot.parent, exclude=ExcludeRules(caches=True))
    noted = [note.split(":")[0] for note in judged.listener.notes]
    assert noted == [str(plot / "liar" / "CACHEDIR.TAG"), str(plot / "short" / "CACHEDIR.TAG")]


@pytest.fixture
def mounted(source: Path) -> Iterator[Path]:
    (source / "file").write_text("file")
    for name in ("here", "here/sub", "outside"):
        (source / name).mkdir()
    (source / "outside" / "data").write_text("data")
    subprocess.run(["mount", "-t", "tmpfs", "none", source / "here"], check=True)
    try:
        (source / "here" / "hidden").write_text("hidden")
        (source / "here" / "deeper").mkdir()
        (source / "here" / "deeper" / "hidden").write_text("hidden")
        (source / "here" / "back").mkdir()
        subprocess.run(["mount", "--bind", source / "outside", source / "here" / "back"], check=True)
        yield source
    finally:
        subprocess.run(["umount", "-l", source / "here" / "back"], check=False)
        subprocess.run(["umount", "-l", source / "here"], check=True)


@pytest.mark.parametrize("targets", [["source"], ["source", "source/here/deeper"], ["source/here", "source/outside"]])
def test_one_file_system(mounted: Path, restic: Restic, judged: Machine, targets: list[str]) -> None:
    rules = ["--one-file-system"]
    agree(restic, judged, *targets, cwd=mounted.parent, rules=rules, one_file_system=True)
    agree(restic, judged, ".", cwd=mounted, rules=rules, one_file_system=True)


def test_an_exclude_file(plot: Path, restic: Restic, judged: Machine, tmp_path: Path) -> None:
    file = tmp_path / "excludes"
    text = "# comment\n\n  *.c  \n${CDR_TEST_NAME}/bar\n$CDR_TEST_NAME.o\nprice$$\n!foo/bar/baz\n"
    os.environ["CDR_TEST_NAME"] = "foo"
    for data in (text.encode(), b"\xef\xbb\xbf" + text.encode(), text.encode("utf-16")):
        file.write_bytes(data)
        patterns = read_exclude_file(file)
        assert patterns == ["*.c", "foo/bar", "foo.o", "price$", "!foo/bar/baz"]
    rules = ["--exclude-file", str(file)]
    agree(restic, judged, "top", cwd=plot.parent, rules=rules, exclude=ExcludeRules(patterns=patterns))


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$A/${B}", "1/2"),
        ("$$A", "$A"),
        ("${unset}x$unset", "x"),
        ("end$", "end$"),
        ("a$/b", "a$/b"),
        ("${}x", "x"),
        ("${A", "A"),
        ("$?x$1y", "xy"),
        ("${*}z", "z"),
    ],
)
def test_variables_are_expanded_as_go_does(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == expanded


@pytest.mark.parametrize("pattern", ["[", "a[b", "\\", "x[]y]", "[-a]"])
def test_a_malformed_pattern_is_the_users_error(source: Path, machine: Machine, pattern: str) -> None:
    with pytest.raises(UserError, match="malformed"):
        machine.run(source, exclude=ExcludeRules(patterns=[pattern]))


def test_an_exclude_file_that_is_not_there_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exclude file cannot be read"):
        read_exclude_file(tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("12", 12), ("3k", 3072), ("2M", 2 << 20), ("1g", 1 << 30), ("1T", 1 << 40), ("5b", 5)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "k", "-1", "1.5M", "1kb", "1 k"])
def test_what_is_no_size_is_the_users_error(text: str) -> None:
    with pytest.raises(UserError, match="is not a size"):
        parse_size(text)


def test_what_is_our_own_is_never_archived(source: Path, machine: Machine) -> None:
    for name in ("keep/file", "spool/segment", "state"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(name)
    own = frozenset((st.st_dev, st.st_ino) for st in ((source / "spool").stat(), (source / "state").stat()))
    result = machine.run(source, own=own)
    assert result.counts.files_new == 1
    assert machine.run(source / "spool", source / "state", own=own).counts.total_files_processed == 0
    with pytest.raises(UserError, match="nothing is left to archive"):
        machine.run("spool", "state", cwd=source, own=own)
