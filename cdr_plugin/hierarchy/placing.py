"""Where everything of a drawing lies: the second half of a layered layout. Units are those of the SVG
(pixels at 100 %), y grows downwards.

Each column keeps its order; heights are chosen so that arrows are as straight as the boxes allow: the
least squares of (place - mean of the neighbours) with a least distance between neighbours in a column,
which is an isotonic regression once the distances are subtracted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from .layers import Layers, Node

GAP = 22.0
"""Between boxes of a column."""
BEND_HEIGHT = 10.0
CORNER = 12.0
"""The least distance of an arrow from the ends of the side that it leaves or enters."""
CURVE = 64.0
"""The least width in which an arrow changes its height."""
STEEP = 0.22
"""How much of the largest change of height is added to that width: long arrows would be steep."""
MARGIN = 24.0
_ROUNDS = 12


@dataclass(frozen=True, slots=True)
class Size:
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Rect:
    """``x`` and ``y`` are the upper left corner."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    def overlaps(self, other: Rect) -> bool:
        return (
            self.x < other.right and other.x < self.right and self.y < other.bottom and other.y < self.bottom
        )


@dataclass(frozen=True, slots=True)
class Line:
    """An arrow: from ``start`` at the right of a box, level below the label, over ``pieces``, each level from x
    to x at y, to ``end`` at the left of another. ``is_back``: it runs in a circle, and its second piece leads
    back below everything."""

    start: tuple[float, float]
    label: Rect
    pieces: tuple[tuple[float, float, float], ...]
    end: tuple[float, float]
    is_back: bool = False


@dataclass(frozen=True, slots=True)
class Placed:
    """Boxes by ID, lines by arrow, and the size of it all."""

    boxes: Mapping[str, Rect]
    lines: tuple[Line, ...]
    size: Size


def place(
    layers: Layers, arrows: Sequence[tuple[str, str]], boxes: Mapping[str, Size], labels: Sequence[Size]
) -> Placed:
    """``boxes`` by ID; ``labels`` and ``arrows`` in the same order. Boxes come out at least as large."""
    boxes = {box: _grown(box, size, arrows, labels) for box, size in boxes.items()}
    heights = _slots(arrows, boxes, labels)
    centres = _centres(layers, heights)
    rects, zones = _across(layers, arrows, boxes, labels, centres)
    lines = _lines(layers, arrows, labels, rects, zones, centres, _bottom(centres, heights) + GAP)
    width = max([rect.right for rect in rects.values()] + [line.pieces[0][1] for line in lines], default=0.0)
    bottom = _bottom(centres, heights)
    bottom = max([bottom] + [y for line in lines for _, _, y in line.pieces])
    return Placed(rects, lines, Size(width + MARGIN, bottom + MARGIN))


def _bottom(centres: Mapping[Node, float], heights: Mapping[Node, float]) -> float:
    return max((centre + heights.get(node, BEND_HEIGHT) / 2 for node, centre in centres.items()), default=0.0)


def _grown(box: str, size: Size, arrows: Sequence[tuple[str, str]], labels: Sequence[Size]) -> Size:
    """High enough that all arrows leave from its side: one in the middle of each label."""
    leaving = [label.height for (below, _), label in zip(arrows, labels, strict=True) if below == box]
    between = sum(leaving) - min(leaving, default=0.0)
    return Size(size.width, max(size.height, between + 2 * CORNER if len(leaving) > 1 else 0.0))


def _slots(
    arrows: Sequence[tuple[str, str]], boxes: Mapping[str, Size], labels: Sequence[Size]
) -> dict[Node, float]:
    """The height that each box takes in its column: its own, or that of the labels that leave it."""
    beside: dict[Node, float] = dict.fromkeys(boxes, 0.0)
    for (below, _), label in zip(arrows, labels, strict=True):
        beside[below] += label.height
    return {box: max(size.height, beside[box]) for box, size in boxes.items()}


# --- heights ---


def _centres(layers: Layers, heights: Mapping[Node, float]) -> dict[Node, float]:
    """The y of the middle of every node."""
    near = _neighbours(layers)
    centres: dict[Node, float] = {}
    for column in layers.columns:
        ends = accumulate(heights.get(node, BEND_HEIGHT) + GAP for node in column)
        centres |= {
            node: end - GAP - heights.get(node, BEND_HEIGHT) / 2 for node, end in zip(column, ends, strict=True)
        }
    for number in range(_ROUNDS):
        columns = layers.columns if number % 2 == 0 else layers.columns[::-1]
        for column in columns:
            wanted = [_mean([centres[one] for one in near[node]], centres[node]) for node in column]
            apart = [
                (heights.get(one, BEND_HEIGHT) + heights.get(two, BEND_HEIGHT)) / 2 + GAP
                for one, two in pairwise(column)
            ]
            centres |= dict(zip(column, spread(wanted, apart), strict=True))
    top = min((centre - heights.get(node, BEND_HEIGHT) / 2 for node, centre in centres.items()), default=0.0)
    return {node: centre - top + MARGIN for node, centre in centres.items()}


def _neighbours(layers: Layers) -> dict[Node, list[Node]]:
    found: dict[Node, list[Node]] = {node: [] for column in layers.columns for node in column}
    for way in layers.ways:
        for one, two in pairwise(way):
            found[one].append(two)
            found[two].append(one)
    return found


def spread(wanted: Sequence[float], apart: Sequence[float]) -> list[float]:
    """Ascending places nearest to those wanted (least squares), the nth and the next at least ``apart[n]``
    from each other. Pool adjacent violators."""
    offsets = list(accumulate(apart, initial=0.0))
    pools: list[tuple[float, int]] = []
    for want, offset in zip(wanted, offsets, strict=False):
        mean, count = want - offset, 1
        while pools and pools[-1][0] > mean:
            other, more = pools.pop()
            mean, count = (mean * count + other * more) / (count + more), count + more
        pools.append((mean, count))
    level = [mean for mean, count in pools for _ in range(count)]
    return [one + offset for one, offset in zip(level, offsets, strict=False)]


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


# --- widths ---


def _across(
    layers: Layers,
    arrows: Sequence[tuple[str, str]],
    boxes: Mapping[str, Size],
    labels: Sequence[Size],
    centres: Mapping[Node, float],
) -> tuple[dict[str, Rect], list[tuple[float, float, float]]]:
    """Rectangles by ID, and of each column its left end, its right end, and where its labels end."""
    rects: dict[str, Rect] = {}
    zones = []
    x = MARGIN
    for column in layers.columns:
        here = [node for node in column if isinstance(node, str)]
        width = max((boxes[box].width for box in here), default=0.0)
        for box in here:
            height = boxes[box].height
            rects[box] = Rect(x, centres[box] - height / 2, width, height)
        leaving = [label.width for (below, _), label in zip(arrows, labels, strict=True) if below in here]
        labelled = x + width + max(leaving, default=0.0)
        zones.append((x, x + width, labelled))
        x = labelled + CURVE + STEEP * _steepest(layers, column, centres)
    return rects, zones


def _steepest(layers: Layers, column: Sequence[Node], centres: Mapping[Node, float]) -> float:
    """The largest change of height of an arrow behind this column."""
    steps = [(one, two) for way in layers.ways for one, two in pairwise(way) if one in column]
    return max((abs(centres[one] - centres[two]) for one, two in steps), default=0.0)


# --- arrows ---


def _lines(
    layers: Layers,
    arrows: Sequence[tuple[str, str]],
    labels: Sequence[Size],
    rects: Mapping[str, Rect],
    zones: Sequence[tuple[float, float, float]],
    centres: Mapping[Node, float],
    lane: float,
) -> tuple[Line, ...]:
    """``lane``: the y below everything, for arrows that lead back."""
    starts = _starts(layers, arrows, labels, rects, centres)
    ends = _ends(layers, arrows, rects, centres)
    column_of = {node: at for at, column in enumerate(layers.columns) for node in column}
    lines = []
    for number, way in enumerate(layers.ways):
        left, y = rects[arrows[number][0]], starts[number]
        level_to = zones[column_of[way[0]]][2]
        pieces = [(left.right, level_to, y)]
        target = rects[arrows[number][1]]
        is_back = target.x <= left.x
        if is_back:
            pieces.append((level_to, target.x, lane))
            lane += BEND_HEIGHT
        for bend in way[1:-1]:
            begin, _, end = zones[column_of[bend]]
            pieces.append((begin, end, centres[bend]))
        label = Rect(left.right, y - labels[number].height / 2, labels[number].width, labels[number].height)
        lines.append(Line((left.right, y), label, tuple(pieces), (target.x, ends[number]), is_back))
    return tuple(lines)


def _starts(
    layers: Layers,
    arrows: Sequence[tuple[str, str]],
    labels: Sequence[Size],
    rects: Mapping[str, Rect],
    centres: Mapping[Node, float],
) -> dict[int, float]:
    """The y at which each arrow leaves: labels of one box stand below each other, in the order of what
    they lead to."""
    found: dict[int, float] = {}
    for box, rect in rects.items():
        leaving = [number for number, (below, _) in enumerate(arrows) if below == box]
        leaving.sort(key=lambda number: centres[layers.ways[number][1]])
        total = sum(labels[number].height for number in leaving)
        y = rect.y + rect.height / 2 - total / 2
        for number in leaving:
            found[number] = y + labels[number].height / 2
            y += labels[number].height
    return found


def _ends(
    layers: Layers, arrows: Sequence[tuple[str, str]], rects: Mapping[str, Rect], centres: Mapping[Node, float]
) -> dict[int, float]:
    """The y at which each arrow arrives: evenly over the side of the box, in the order of where they come from."""
    found: dict[int, float] = {}
    for box, rect in rects.items():
        coming = [number for number, (_, above) in enumerate(arrows) if above == box]
        coming.sort(key=lambda number: centres[layers.ways[number][-2]])
        for place_, number in enumerate(coming, start=1):
            found[number] = rect.y + rect.height * place_ / (len(coming) + 1)
    return found
