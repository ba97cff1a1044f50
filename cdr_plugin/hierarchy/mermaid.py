"""A hierarchy as a Mermaid flowchart, which many wikis draw."""

from __future__ import annotations

from collections.abc import Iterator

from .drawing import Box, Drawing, Kind

_CLASSES = {
    Kind.CLIENT: "client",
    Kind.CLIENT_TOO: "intermediate",
    Kind.INTERMEDIATE: "intermediate",
    Kind.TOP: "top",
    Kind.TOP_TOO: "top",
    Kind.AGENTLESS: "agentless",
    Kind.ELSEWHERE: "elsewhere",
}
_STYLES = {
    "client": "fill:#eaf2fc,stroke:#3b78c4,color:#17263a",
    "intermediate": "fill:#fdf3e0,stroke:#c0851a,color:#3a2a0a",
    "top": "fill:#e6f5ec,stroke:#2c8a57,color:#0e2f1d",
    "agentless": "fill:#f3eefb,stroke:#7d5bb8,color:#2a1b45",
    "elsewhere": "fill:#f6f6f6,stroke:#8a8a8a,color:#555555,stroke-dasharray:5 4",
    "wrong": "stroke:#c62828,stroke-width:3px",
}
_OPEN, _CLOSE = {Kind.TOP: "[(", Kind.TOP_TOO: "[("}, {Kind.TOP: ")]", Kind.TOP_TOO: ")]"}


def as_mermaid(drawing: Drawing) -> str:
    """The whole chart, no line end at the end; errors stand in it as comments."""
    return "\n".join(_lines(drawing))


def _lines(drawing: Drawing) -> Iterator[str]:
    names = {box.id: f"t{number}" for number, box in enumerate(drawing.boxes)}
    yield "flowchart LR"
    for box in drawing.boxes:
        yield f"  {names[box.id]}{_OPEN.get(box.kind, '[')}{_quoted(_label(box))}{_CLOSE.get(box.kind, ']')}"
    for arrow in drawing.arrows:
        line = "-.->" if arrow.is_wrong else "-->"
        yield f"  {names[arrow.below]} {line}|{_quoted('<br/>'.join(map(_escaped, arrow.words)))}| {names[arrow.above]}"
    for kind in dict.fromkeys(_CLASSES.values()):
        members = [names[box.id] for box in drawing.boxes if _CLASSES[box.kind] == kind]
        if members:
            yield f"  classDef {kind} {_STYLES[kind]}"
            yield f"  class {','.join(members)} {kind}"
    yield from _wrong(drawing, names)
    yield from (f"  %% {error}" for error in drawing.errors)


def _wrong(drawing: Drawing, names: dict[str, str]) -> Iterator[str]:
    members = [names[box.id] for box in drawing.boxes if box.is_wrong]
    if members:
        yield f"  classDef wrong {_STYLES['wrong']}"
        yield f"  class {','.join(members)} wrong"
    arrows = [str(number) for number, arrow in enumerate(drawing.arrows) if arrow.is_wrong]
    if arrows:
        yield f"  linkStyle {','.join(arrows)} stroke:#c62828,color:#c62828"


def _label(box: Box) -> str:
    groups = [f"<i>{_escaped(', '.join(box.groups))}</i>"] if box.groups else []
    return "<br/>".join([f"<b>{_escaped(box.title)}</b>", box.kind.value, *groups, *map(_escaped, box.lines)])


def _quoted(text: str) -> str:
    return f'"{text}"'


def _escaped(text: str) -> str:
    """Mermaid's entities: names of plugins, commands and folders are anybody's."""
    return text.translate(_ENTITIES)


_ENTITIES = {ord(char): f"#{ord(char)};" for char in "#&<>\"`"} | {ord("\n"): " "}
