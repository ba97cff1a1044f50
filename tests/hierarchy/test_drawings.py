"""Drawings show all tiers and ways; text and Mermaid are kept as golden files, SVG by what its geometry promises."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdr_plugin.cli.main import main
from cdr_plugin.config.load import load_leniently
from cdr_plugin.hierarchy.drawing import Arrow, Box, Drawing, Kind, drawing_of
from cdr_plugin.hierarchy.findings import findings
from cdr_plugin.hierarchy.layers import layers_of
from cdr_plugin.hierarchy.members import Hierarchy
from cdr_plugin.hierarchy.mermaid import as_mermaid
from cdr_plugin.hierarchy.placing import CORNER, Rect, spread
from cdr_plugin.hierarchy.svg import as_svg, placed_of
from cdr_plugin.hierarchy.text import WIDTH, as_text
from cdr_plugin.plugins import installed
from tests.hierarchy.files import client, drawn, mover, top

GOLDEN = Path(__file__).parent
SVG = "{http://www.w3.org/2000/svg}"

ALL_KINDS = {
    "laptop.toml": client(
        "laptop",
        '["/mnt/branch", "sftp://branch/in"]',
        'limit = "2MiB/s"\n'
        'when = { window = "Mon-Fri 08:00-18:00", on_battery = false, load_below = 1.5, every = "1h" }',
    ),
    "branch.toml": mover("branch", '"/srv/in"', '["/hq", "/archive"]', 'seen_as = "/mnt/branch"')
    + '[tier.branch.receive.retain]\nfor = "14d"\nmax_size = "200GiB"\n',
    "server.toml": client("server", '"/hq"', group="sales") + '[tier.server.receive]\ninbox = "/near"\n',
    "hq.toml": top("hq", '"/hq"', groups=("legal", "sales"))
    + '[[tier.hq.receive.agentless]]\nclient = "printer"\ngroup = "legal"\nfolder = "file:/srv/printer"\n'
    + "[tier.hq.store.forget]\nkeep_daily = 7\nkeep_monthly = -1\nprune = true\n"
    + '[tier.hq.store.check]\nevery = "7d"\nread_data_subset = "5%"\n',
}
WRONG = {
    "hosts.toml": client("alice", '"/srv/wrong"') + client("bob", '"sftp://nas/in"', group="nobody"),
    "a.toml": mover("a", '"/a"', '["/b", "/hq"]'),
    "b.toml": mover("b", '"/b"', '"/a"'),
    "hq.toml": top("hq", '"/hq"'),
}
CASES = {"all_kinds": ALL_KINDS, "wrong": WRONG}


@pytest.mark.parametrize("name", CASES)
def test_text_and_mermaid_are_as_they_were(name: str) -> None:
    drawing = drawn(CASES[name])
    assert as_text(drawing) + "\n" == (GOLDEN / f"{name}.txt").read_text()
    assert as_mermaid(drawing) + "\n" == (GOLDEN / f"{name}.mmd").read_text()


def test_text_fits_a_terminal() -> None:
    assert max(map(len, as_text(drawn(ALL_KINDS)).splitlines())) <= WIDTH


def test_names_of_anybody_break_no_format() -> None:
    odd = 'file:/a"<b>&]|`#\\u0001\\n--'.replace('"', '\\"')
    drawing = drawn({"a.toml": client("a", f'"{odd}"', 'when.command = "test \\"a\\" | <b> && echo `c`"')})
    ElementTree.fromstring(as_svg(drawing))
    assert len(as_text(drawing).splitlines()) == 3
    for line in as_mermaid(drawing).splitlines():
        if "classDef" not in line and "%%" not in line:
            inside = re.findall(r'"(.*)"', line)
            assert not any(re.search(r'["`]|<(?!/?(b|i|br/?)>)', text) for text in inside), line


# --- geometry ---


def assert_clear(drawing: Drawing) -> None:
    """Nothing lies over anything else, and every arrow runs from the side of its box to that of the other."""
    placed = placed_of(drawing)
    for (one, first), (two, second) in combinations(placed.boxes.items(), 2):
        assert not first.overlaps(second), (one, two)
    labels = [line.label for line in placed.lines]
    for first, second in combinations(labels, 2):
        assert not _inner(first).overlaps(_inner(second))
    for label in labels:
        assert not any(_inner(label).overlaps(box) for box in placed.boxes.values())
    for arrow, line in zip(drawing.arrows, placed.lines, strict=True):
        below, above = placed.boxes[arrow.below], placed.boxes[arrow.above]
        assert line.start[0] == pytest.approx(below.right)
        assert below.y + CORNER / 2 < line.start[1] < below.bottom - CORNER / 2
        assert line.end[0] == pytest.approx(above.x)
        assert above.y < line.end[1] < above.bottom
        for begin, end, y in line.pieces[1:]:
            piece = Rect(min(begin, end), y - 1, abs(end - begin), 2)
            assert not any(piece.overlaps(box) for box in placed.boxes.values())
    for rect in [*placed.boxes.values(), *labels]:
        assert rect.x >= 0 and rect.right <= placed.size.width
        assert rect.y >= 0 and rect.bottom <= placed.size.height


def _inner(rect: Rect) -> Rect:
    """Without the rounding of sums."""
    return Rect(rect.x + 0.01, rect.y + 0.01, rect.width - 0.02, rect.height - 0.02)


@pytest.mark.parametrize("name", CASES)
def test_the_svg_is_well_formed_and_shows_what_the_drawing_has(name: str) -> None:
    drawing = drawn(CASES[name])
    assert_clear(drawing)
    root = ElementTree.fromstring(as_svg(drawing))
    groups = root.findall(f"{SVG}g")
    boxes = {one.get("data-id"): one for one in groups if one.get("class") == "box"}
    arrows = [one for one in groups if one.get("class") == "arrow"]
    assert set(boxes) == {box.id for box in drawing.boxes}
    ends = [(one.get("data-from"), one.get("data-to")) for one in arrows]
    assert ends == [(arrow.below, arrow.above) for arrow in drawing.arrows]
    for box in drawing.boxes:
        said = " ".join(text.text or "" for text in boxes[box.id].iter(f"{SVG}text"))
        words = " ".join((box.title, box.kind.value, *box.lines, *box.groups)).split()
        assert [word for word in words if word not in said] == []
    width, height = _number(root, "width"), _number(root, "height")
    for text in root.iter(f"{SVG}text"):
        assert 0 < _number(text, "x") < width
        assert 0 < _number(text, "y") < height


def _number(element: ElementTree.Element, name: str) -> float:
    return float(element.get(name) or 0)


def test_the_ends_of_a_path_are_at_the_boxes_and_its_head_points_at_the_receiver() -> None:
    drawing = drawn(ALL_KINDS)
    root = ElementTree.fromstring(as_svg(drawing))
    for arrow in root.findall(f"{SVG}g[@class='arrow']"):
        path = arrow.find(f"{SVG}path")
        head = arrow.find(f"{SVG}polygon")
        assert path is not None and head is not None
        x, y = map(float, re.findall(r"[-\d.]+", path.get("d") or "")[:2])
        begin, end = (_rect(root, arrow.get(f"data-{which}") or "") for which in ("from", "to"))
        assert x == pytest.approx(begin.right, abs=0.2) and begin.y < y < begin.bottom
        tip = [float(one) for one in (head.get("points") or "").split()[0].split(",")]
        assert tip[0] == pytest.approx(end.x, abs=0.2) and end.y < tip[1] < end.bottom


def _rect(root: ElementTree.Element, id_: str) -> Rect:
    rect = root.find(f"{SVG}g[@data-id='{id_}']/{SVG}rect")
    assert rect is not None
    return Rect(*(float(rect.get(name) or 0) for name in ("x", "y", "width", "height")))


def test_drawing_twice_gives_the_same_bytes() -> None:
    assert as_svg(drawn(ALL_KINDS)) == as_svg(drawn(ALL_KINDS))


@st.composite
def drawings(draw: st.DrawFn) -> Drawing:
    """Any boxes and arrows, circles too."""
    ids = [f"t{number}" for number in range(draw(st.integers(1, 9)))]
    words = st.lists(st.sampled_from(["file", "every 1h", "a b " * 9]), min_size=1, max_size=6)
    arrow = st.tuples(st.sampled_from(ids), st.sampled_from(ids), words)
    arrows = [Arrow(one, two, tuple(said)) for one, two, said in draw(st.lists(arrow, max_size=14)) if one != two]
    boxes = [Box(id_, id_, draw(st.sampled_from(Kind)), tuple(draw(words)), ("g",)) for id_ in ids]
    return Drawing(tuple(boxes), tuple(arrows), ("wrong",), ())


@settings(max_examples=150, deadline=None)
@given(drawings())
def test_no_hierarchy_is_drawn_over_itself(drawing: Drawing) -> None:
    assert_clear(drawing)
    ElementTree.fromstring(as_svg(drawing))
    assert all(re.search(rf"\b{box.title}\b", as_text(drawing)) for box in drawing.boxes)


@given(st.lists(st.tuples(st.floats(-1000, 1000), st.floats(0, 100)), min_size=1, max_size=20))
def test_places_keep_their_distance_and_stay_where_wanted_when_they_can(pairs: list[tuple[float, float]]) -> None:
    wanted, apart = [want for want, _ in pairs], [gap for _, gap in pairs[1:]]
    found = spread(wanted, apart)
    assert all(two - one >= gap - 1e-6 for one, two, gap in zip(found, found[1:], apart, strict=False))
    assert sum(found) == pytest.approx(sum(wanted), abs=1e-3)
    if all(two - one >= gap for one, two, gap in zip(wanted, wanted[1:], apart, strict=False)):
        assert found == pytest.approx(wanted)


def test_receivers_stand_to_the_right_and_no_arrows_of_a_tree_cross() -> None:
    boxes = ["hq", "c1", "b1", "b2", "c2", "c3"]
    arrows = [("c1", "b2"), ("c2", "b1"), ("c3", "b2"), ("b1", "hq"), ("b2", "hq")]
    layers = layers_of(boxes, arrows)
    assert [set(column) for column in layers.columns] == [{"c1", "c2", "c3"}, {"b1", "b2"}, {"hq"}]
    above = dict(arrows)
    order = [layers.columns[1].index(above[str(box)]) for box in layers.columns[0]]
    assert order == sorted(order)


# --- the command ---


def test_the_command_draws_and_says_what_does_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / name for name in WRONG]
    for path, text in zip(paths, WRONG.values(), strict=True):
        path.write_text(text)
    hierarchy = Hierarchy([load_leniently(path) for path in paths])
    drawing = drawing_of(hierarchy, list(findings(hierarchy, installed(), is_whole=True, is_here=False)))
    for form, draw in (("text", as_text), ("mermaid", as_mermaid), ("svg", as_svg)):
        assert main(["graph", "--format", form, *map(str, paths)]) == 1
        told = capsys.readouterr()
        assert told.out == draw(drawing) + "\n"
        said = [line for line in told.err.splitlines() if line.startswith("cdr: ")]
        assert said == [f"cdr: {error}" for error in drawing.errors]
    assert main(["graph", "-c", str(paths[-1])]) == 0
    assert capsys.readouterr().out.startswith("hq: top tier [legal]\n")
