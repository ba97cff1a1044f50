"""Which column each box of a drawing stands in, and in which order: the first half of a layered layout
(Sugiyama, Tagawa, Toda 1981). Deterministic: the same boxes and arrows give the same columns.

The receivers stand to the right. An arrow over several columns passes a *bend* in each between, which takes
a place in the order as a box does.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Node: TypeAlias = Hashable
"""A box's ID, or a Bend."""

_SWEEPS = 8
"""Passes over all columns; each is kept only if fewer arrows cross."""


@dataclass(frozen=True, slots=True)
class Bend:
    """Where the arrow of this number passes a column."""

    arrow: int
    column: int


@dataclass(frozen=True, slots=True)
class Layers:
    """``columns``: nodes from top to bottom, the leftmost column first. ``ways``: for each arrow the nodes that
    it passes, both ends included."""

    columns: tuple[tuple[Node, ...], ...]
    ways: tuple[tuple[Node, ...], ...]


def layers_of(boxes: Sequence[str], arrows: Sequence[tuple[str, str]]) -> Layers:
    """``arrows``: below, above; IDs of ``boxes``. Arrows that go in a circle run backwards somewhere."""
    distances = _distances(boxes, _without_circles(boxes, arrows))
    last = max(distances.values(), default=0)
    column_of = {box: last - distance for box, distance in distances.items()}
    ways = tuple(_way(number, arrow, column_of) for number, arrow in enumerate(arrows))
    columns = _first_order(boxes, arrows, ways, column_of, last + 1)
    return Layers(tuple(map(tuple, _fewest_crossings(columns, ways))), ways)


def _without_circles(boxes: Sequence[str], arrows: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """Above each box, without the arrows that lead back to where a walk came from."""
    above: dict[str, list[str]] = {box: [] for box in boxes}
    for below, over in arrows:
        above[below].append(over)
    kept: dict[str, list[str]] = {box: [] for box in boxes}
    done: set[str] = set()

    def walk(box: str, path: tuple[str, ...]) -> None:
        for over in above[box]:
            if over not in (*path, box):
                kept[box].append(over)
                if over not in done:
                    walk(over, (*path, box))
        done.add(box)

    for box in boxes:
        if box not in done:
            walk(box, ())
    return kept


def _distances(boxes: Sequence[str], above: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """How many arrows, at most, lead from each box to the end of a chain."""
    found: dict[str, int] = {}

    def distance(box: str) -> int:
        if box not in found:
            found[box] = max((1 + distance(over) for over in above[box]), default=0)
        return found[box]

    return {box: distance(box) for box in boxes}


def _way(number: int, arrow: tuple[str, str], column_of: Mapping[str, int]) -> tuple[Node, ...]:
    below, above = arrow
    between = range(column_of[below] + 1, column_of[above])
    return (below, *(Bend(number, column) for column in between), above)


def _first_order(
    boxes: Sequence[str],
    arrows: Sequence[tuple[str, str]],
    ways: Sequence[tuple[Node, ...]],
    column_of: Mapping[str, int],
    count: int,
) -> list[list[Node]]:
    """As a walk down from the tops meets them: of a tree no arrows cross."""
    columns: list[list[Node]] = [[] for _ in range(count)]
    met: set[Node] = set()

    def walk(box: str) -> None:
        if box in met:
            return
        met.add(box)
        columns[column_of[box]].append(box)
        for (below, above), way in zip(arrows, ways, strict=True):
            if above == box:
                for bend in way[1:-1]:
                    assert isinstance(bend, Bend)
                    columns[bend.column].append(bend)
                walk(below)

    sending = {below for below, _ in arrows}
    for box in [*(box for box in boxes if box not in sending), *boxes]:
        walk(box)
    return columns


def _fewest_crossings(columns: list[list[Node]], ways: Sequence[tuple[Node, ...]]) -> list[list[Node]]:
    """Each node is moved to the mean place of its neighbours, columns in turn from both sides."""
    steps = [(one, two) for way in ways for one, two in itertools.pairwise(way)]
    best, fewest = columns, _crossings(columns, steps)
    for sweep in range(_SWEEPS):
        if fewest == 0:
            break
        columns = [list(column) for column in columns]
        order = range(1, len(columns)) if sweep % 2 else range(len(columns) - 2, -1, -1)
        for at in order:
            beside = at - 1 if sweep % 2 else at + 1
            _sort_by_neighbours(columns[at], columns[beside], steps)
        crossings = _crossings(columns, steps)
        if crossings < fewest:
            best, fewest = columns, crossings
    return best


def _sort_by_neighbours(column: list[Node], beside: Sequence[Node], steps: Sequence[tuple[Node, Node]]) -> None:
    places = {node: place for place, node in enumerate(beside)}
    own = {node: place for place, node in enumerate(column)}

    def mean(node: Node) -> float:
        near = [places[two] for one, two in steps if one == node and two in places]
        near += [places[one] for one, two in steps if two == node and one in places]
        return sum(near) / len(near) if near else own[node]

    column.sort(key=mean)  # stable, so that ties keep their order


def _crossings(columns: Sequence[Sequence[Node]], steps: Sequence[tuple[Node, Node]]) -> int:
    total = 0
    for left, right in itertools.pairwise(columns):
        at_left = {node: place for place, node in enumerate(left)}
        at_right = {node: place for place, node in enumerate(right)}
        pairs = sorted((at_left[one], at_right[two]) for one, two in steps if one in at_left and two in at_right)
        total += sum(
            first[0] < second[0] and first[1] > second[1]
            for number, first in enumerate(pairs)
            for second in pairs[number + 1 :]
        )
    return total
