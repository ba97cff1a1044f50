"""``cdr graph``: draws the hierarchy that one or several configuration files describe."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cdr_plugin.cli.context import Context

if TYPE_CHECKING:
    from cdr_plugin.hierarchy.drawing import Drawing

HELP = """Draw the hierarchy that the configuration, or all FILEs together, describe: tiers and their roles,
groups, methods and retention, and how and when parcels travel between them.

What does not fit together is said on standard error, and marked; the exit code is then 1. That a storage
is not in these files is worth a note only, as long as no top tier shows that they are meant to be all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("text", "mermaid", "svg"), default="text", help="default: text")
    parser.add_argument("files", nargs="*", default=[], type=Path, metavar="FILE", help="default: the configuration")


def run(context: Context) -> int:
    from cdr_plugin.cli.configurations import joined, report
    from cdr_plugin.hierarchy.drawing import drawing_of
    from cdr_plugin.hierarchy.findings import findings

    hierarchy = joined(context)
    found = list(findings(hierarchy, context.plugins, is_whole=True, is_here=False))
    drawing = drawing_of(hierarchy, found)
    if drawing.boxes:
        context.output.line(_drawn(context.options.format)(drawing))
    code = report(context, found)
    context.output.summary(
        {
            "tiers": [
                {"name": box.id, "role": box.kind.value, "groups": list(box.groups), "says": list(box.lines)}
                for box in drawing.boxes
            ],
            "links": [
                {"from": arrow.below, "to": arrow.above, "url": arrow.place, "says": list(arrow.words)}
                for arrow in drawing.arrows
            ],
            "errors": list(drawing.errors),
            "notes": list(drawing.notes),
        }
    )
    return code


def _drawn(form: str) -> Callable[[Drawing], str]:
    if form == "mermaid":
        from cdr_plugin.hierarchy.mermaid import as_mermaid

        return as_mermaid
    if form == "svg":
        from cdr_plugin.hierarchy.svg import as_svg

        return as_svg
    from cdr_plugin.hierarchy.text import as_text

    return as_text
