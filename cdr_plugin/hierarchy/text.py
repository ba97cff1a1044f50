"""A hierarchy as an indented tree: top tiers first, below each what sends to it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from .drawing import Arrow, Box, Drawing, Kind

WIDTH = 100
"""Columns; longer lines are continued."""
_HARD_SPACE = "\u00a0"


def as_text(drawing: Drawing) -> str:
    """The drawing without its findings, no line end at the end."""
    return "\n".join(_Tree(drawing).lines())


class _Tree:
    def __init__(self, drawing: Drawing) -> None:
        self._boxes = {box.id: box for box in drawing.boxes}
        self._arrows = drawing.arrows
        self._drawn: set[str] = set()

    def lines(self) -> Iterator[str]:
        sending = {arrow.below for arrow in self._arrows}
        roots = [box for box in self._boxes.values() if box.id not in sending]
        # Tiers that send in a circle have no root: they come last, each circle at its first tier.
        for box in [*roots, *self._boxes.values()]:
            if box.id not in self._drawn:
                if self._drawn:
                    yield ""
                yield from self._box(box, None, "", "")

    def _box(self, box: Box, arrow: Arrow | None, first: str, rest: str) -> Iterator[str]:
        """``first`` stands before the first line, ``rest`` before the others."""
        was_drawn = box.id in self._drawn
        self._drawn.add(box.id)
        below = [] if was_drawn else [other for other in self._arrows if other.above == box.id]
        bar = rest + ("│  " if below else "   ")
        yield from _wrapped(_title(box, arrow) + ("; see above" if was_drawn else ""), first, bar)
        if not was_drawn and box.lines:
            yield from _wrapped("; ".join(map(_kept, box.lines)), bar, bar)
        for other in below:
            is_last = other is below[-1]
            yield from self._box(
                self._boxes[other.below],
                other,
                rest + ("└─ " if is_last else "├─ "),
                rest + ("   " if is_last else "│  "),
            )


def _title(box: Box, arrow: Arrow | None) -> str:
    mark = "!! " if box.is_wrong or (arrow is not None and arrow.is_wrong) else ""
    groups = f" [{', '.join(box.groups)}]" if box.groups else ""
    name = f"({box.title})" if box.kind is Kind.ELSEWHERE else box.title
    way = f", by {', '.join(map(_kept, arrow.words))}" if arrow else ""
    return f"{mark}{name}: {box.kind.value}{groups}{way}"


def _kept(phrase: str) -> str:
    """A phrase that is not divided between two lines."""
    return phrase.replace(" ", _HARD_SPACE)


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    """The text in lines of at most WIDTH; words are kept whole, so that a path can be copied."""
    wrapper = textwrap.TextWrapper(WIDTH, first, rest, break_long_words=False, break_on_hyphens=False)
    return [line.replace(_HARD_SPACE, " ") for line in wrapper.wrap(text)]
