"""A hierarchy as SVG: boxes in columns, receivers to the right, arrows with the scheme and the time of travel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from xml.sax.saxutils import escape, quoteattr

from .drawing import Arrow, Box, Drawing, Kind
from .layers import layers_of
from .placing import MARGIN, Line, Placed, Rect, Size, place

FONT = 'system-ui, -apple-system, "Segoe UI", "DejaVu Sans", Arial, sans-serif'
TITLE, SMALL = 14.0, 11.0
"""Sizes of letters."""
STEP = 15.5
"""From line to line of small letters."""
PAD = 13.0
LINE_LETTERS = 44
"""Where lines in boxes are continued."""
LABEL_LETTERS = 24
ARROW_HEAD = 8.0
WRONG = "#c62828"

COLOURS = {
    Kind.CLIENT: ("#eaf2fc", "#3b78c4"),
    Kind.CLIENT_TOO: ("#fdf3e0", "#c0851a"),
    Kind.INTERMEDIATE: ("#fdf3e0", "#c0851a"),
    Kind.TOP: ("#e6f5ec", "#2c8a57"),
    Kind.TOP_TOO: ("#e6f5ec", "#2c8a57"),
    Kind.AGENTLESS: ("#f3eefb", "#7d5bb8"),
    Kind.ELSEWHERE: ("#f7f7f7", "#8a8a8a"),
}
"""Background and line of each kind of box."""
GROUP_COLOURS = ("#3a5a98", "#8f3d76", "#2f7d74", "#a2562a", "#5d4ba0", "#6b7a1f", "#99404f", "#2c6c93")


def as_svg(drawing: Drawing) -> str:
    """A whole document, no line end at the end."""
    placed = placed_of(drawing)
    colours = _group_colours(drawing)
    legend = list(_legend(drawing, placed))
    height = placed.size.height + (len(legend) * STEP + MARGIN if legend else 0)
    width = max(placed.size.width, *(text_width(text, SMALL) + 2 * MARGIN for text, _ in legend), 200.0)
    parts = [
        (f'<svg xmlns="http://www.w3.org/2000/svg" width="{_n(width)}" height="{_n(height)}" '
        f'viewBox="0 0 {_n(width)} {_n(height)}" font-family={quoteattr(FONT)} role="img">'),
        f"<title>{escape(_summary(drawing))}</title>",
        f'<rect class="paper" width="{_n(width)}" height="{_n(height)}" fill="#ffffff"/>',
        *(part for arrow, line in zip(drawing.arrows, placed.lines, strict=True) for part in _arrow(arrow, line)),
        *(part for box in drawing.boxes for part in _box(box, placed.boxes[box.id], colours)),
        *_findings(legend, placed.size.height),
        "</svg>",
    ]
    return "\n".join(parts)


def placed_of(drawing: Drawing) -> Placed:
    """Where the boxes and arrows of ``drawing`` lie."""
    arrows = [(arrow.below, arrow.above) for arrow in drawing.arrows]
    layers = layers_of([box.id for box in drawing.boxes], arrows)
    sizes = {box.id: _box_size(box) for box in drawing.boxes}
    return place(layers, arrows, sizes, [_label_size(arrow) for arrow in drawing.arrows])


# --- boxes ---


def _box_lines(box: Box) -> list[str]:
    return [piece for line in box.lines for piece in _wrapped(line, LINE_LETTERS)]


def _box_title(box: Box) -> list[str]:
    return _wrapped(box.title, LINE_LETTERS - 10)


def _box_size(box: Box) -> Size:
    title, lines = _box_title(box), _box_lines(box)
    widths = [text_width(text, TITLE, bold=True) for text in title]
    widths += [text_width(text, SMALL) for text in [box.kind.value, *lines]]
    rows = list(_chip_rows(box.groups))
    widths += [sum(_chip_width(group) + 6 for group in row) - 6 for row in rows]
    height = len(title) * 18 + STEP * (1 + len(lines)) + (len(rows) * 21 + 4 if rows else 0)
    return Size(max(120.0, *widths) + 2 * PAD, height + 2 * PAD - 6)


def _box(box: Box, rect: Rect, colours: dict[str, str]) -> Iterator[str]:
    fill, line = COLOURS[box.kind]
    stroke, width = (WRONG, 2.5) if box.is_wrong else (line, 1.3)
    dashes = ' stroke-dasharray="6 4"' if box.kind is Kind.ELSEWHERE else ""
    yield f'<g class="box" data-id={quoteattr(box.id)}>'
    yield (
        f'<rect x="{_n(rect.x)}" y="{_n(rect.y)}" width="{_n(rect.width)}" height="{_n(rect.height)}" rx="7" '
        f'fill="{fill}" stroke="{stroke}" stroke-width="{width}"{dashes}/>'
    )
    x, y = rect.x + PAD, rect.y + PAD - 3
    for title in _box_title(box):
        y += 18
        yield _text(x, y - 5, title, TITLE, "#1c2430", bold=True)
    y += STEP
    yield _text(x, y - 4, box.kind.value, SMALL, line)
    for text in _box_lines(box):
        y += STEP
        yield _text(x, y - 4, text, SMALL, "#44505e")
    for row in _chip_rows(box.groups):
        y += 21
        left = x
        for group in row:
            yield from _chip(left, y - 13, group, colours[group])
            left += _chip_width(group) + 6
    yield "</g>"


def _chip(x: float, y: float, group: str, colour: str) -> Iterator[str]:
    width = _chip_width(group)
    yield f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="16" rx="8" fill="{colour}"/>'
    yield _text(x + 8, y + 11.7, group, SMALL - 0.5, "#ffffff")


def _chip_width(group: str) -> float:
    return text_width(group, SMALL - 0.5) + 16


def _chip_rows(groups: Sequence[str]) -> Iterator[list[str]]:
    """Groups in rows that fit a box."""
    row: list[str] = []
    for group in groups:
        if row and sum(_chip_width(one) + 6 for one in [*row, group]) > 250:
            yield row
            row = []
        row.append(group)
    if row:
        yield row


def _group_colours(drawing: Drawing) -> dict[str, str]:
    groups = sorted({group for box in drawing.boxes for group in box.groups})
    return {group: GROUP_COLOURS[at % len(GROUP_COLOURS)] for at, group in enumerate(groups)}


# --- arrows ---


def _label_lines(arrow: Arrow) -> list[str]:
    """The scheme above the line, the rest below it."""
    return [piece for word in arrow.words for piece in _wrapped(word, LABEL_LETTERS)]


def _label_size(arrow: Arrow) -> Size:
    """Symmetric about the line, which has one text above it."""
    lines = _label_lines(arrow)
    below = max(len(lines) - 1, 1)
    width = max(text_width(text, SMALL, bold=True) for text in lines)
    return Size(width + 20, 2 * (below * (STEP - 1.5) + 6))


def _arrow(arrow: Arrow, line: Line) -> Iterator[str]:
    colour = WRONG if arrow.is_wrong else "#5b6775"
    dashes = ' stroke-dasharray="6 4"' if arrow.is_wrong else ""
    x, y = line.end
    yield f'<g class="arrow" data-from={quoteattr(arrow.below)} data-to={quoteattr(arrow.above)}>'
    yield f"<title>{escape(arrow.place)}</title>"
    yield f'<path d="{_path(line)}" fill="none" stroke="{colour}" stroke-width="1.5"{dashes}/>'
    corners = ((x, y), (x - ARROW_HEAD, y - 4), (x - ARROW_HEAD, y + 4))
    yield f'<polygon points="{" ".join(f"{_n(a)},{_n(b)}" for a, b in corners)}" fill="{colour}"/>'
    first, *rest = _label_lines(arrow)
    yield _text(line.label.x + 8, line.start[1] - 5, first, SMALL, colour, bold=True)
    for number, text in enumerate(rest, start=1):
        yield _text(line.label.x + 8, line.start[1] + number * (STEP - 1.5), text, SMALL - 0.5, "#5b6775")
    yield "</g>"


def _path(line: Line) -> str:
    """Level pieces, joined by curves that leave and arrive level."""
    if line.is_back:
        return _path_back(line)
    parts = [f"M{_n(line.start[0])} {_n(line.start[1])}"]
    x = line.start[0]
    for number, (begin, end, y) in enumerate(line.pieces):
        if number:
            parts.append(_curve(x, line.pieces[number - 1][2], begin, y))
        parts.append(f"H{_n(end)}")
        x = end
    tip = line.end[0] - ARROW_HEAD + 1
    parts.append(_curve(x, line.pieces[-1][2], tip - 4, line.end[1]))
    parts.append(f"H{_n(tip)}")
    return " ".join(parts)


def _path_back(line: Line) -> str:
    """Around to the right, back below everything, and around to the left."""
    (x, y), (_, bend, _), (_, left, lane) = line.start, *line.pieces
    tip, to_y = line.end[0] - ARROW_HEAD + 1, line.end[1]
    wide = bend + MARGIN, left - MARGIN
    there = f"H{_n(bend)} C{_n(wide[0])} {_n(y)} {_n(wide[0])} {_n(lane)} {_n(bend)} {_n(lane)}"
    back = f"H{_n(left)} C{_n(wide[1])} {_n(lane)} {_n(wide[1])} {_n(to_y)} {_n(tip)} {_n(to_y)}"
    return f"M{_n(x)} {_n(y)} {there} {back}"


def _curve(x: float, y: float, to_x: float, to_y: float) -> str:
    middle = (x + to_x) / 2
    return f"C{_n(middle)} {_n(y)} {_n(middle)} {_n(to_y)} {_n(to_x)} {_n(to_y)}"


# --- what is said below ---


def _legend(drawing: Drawing, placed: Placed) -> Iterator[tuple[str, str]]:
    """Lines of findings with their colours."""
    letters = int(max(placed.size.width - 2 * MARGIN, 560) / 6.4)
    for mark, texts, colour in (("does not fit: ", drawing.errors, WRONG), ("", drawing.notes, "#5b6775")):
        for text in texts:
            for number, piece in enumerate(_wrapped(mark + text, letters)):
                yield ("    " if number else "") + piece, colour


def _findings(legend: Iterable[tuple[str, str]], top: float) -> Iterator[str]:
    for number, (text, colour) in enumerate(legend):
        indent = 14 if text.startswith("    ") else 0
        yield _text(MARGIN + indent, top + 8 + number * STEP, text.strip(), SMALL, colour)


def _summary(drawing: Drawing) -> str:
    return f"{len(drawing.boxes)} boxes: " + ", ".join(box.title for box in drawing.boxes)


# --- letters ---


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """About the width of ``text`` in a wide sans-serif (DejaVu's advances), so that narrower ones fit."""
    units = sum(_ADVANCES.get(char, 0.64 if char < "\u2e80" else 1.05) for char in text)
    return units * size * (1.1 if bold else 1.0)


_ADVANCES = {
    **dict.fromkeys("ijl'|.,:;!I", 0.34),
    **dict.fromkeys("ftr()[]/\\ -", 0.4),
    **dict.fromkeys("mwMW%@", 0.95),
    **dict.fromkeys("ABCDEFGHKNOPQRTUVXYZ&", 0.74),
}
"""Widths as parts of the size, where they differ from 0.64."""


def _wrapped(text: str, letters: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, letters, break_on_hyphens=False) or [""]


def _text(x: float, y: float, text: str, size: float, colour: str, *, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{_n(x)}" y="{_n(y)}" font-size="{_n(size)}" fill="{colour}"{weight}>{escape(text)}</text>'


def _n(value: float) -> str:
    """At most one decimal: a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")
