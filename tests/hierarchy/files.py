"""Configuration files of a hierarchy, and what is found in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cdr_plugin.config.load import parse_leniently
from cdr_plugin.hierarchy.drawing import Drawing, drawing_of
from cdr_plugin.hierarchy.findings import Finding, Severity, findings
from cdr_plugin.hierarchy.members import Hierarchy
from cdr_plugin.plugins import installed

FOLDER = Path("/etc/cdr")
NOW_S = 1_800_000_000.0


def client(name: str, to: str, more: str = "", *, group: str = "legal") -> str:
    return f'[tier.{name}]\ngroup = "{group}"\nsource.paths = ["/a"]\n[tier.{name}.forward]\nto = {to}\n{more}\n'


def mover(name: str, inbox: str, to: str, more: str = "") -> str:
    return f"[tier.{name}.receive]\ninbox = {inbox}\n{more}\n[tier.{name}.forward]\nto = {to}\n"


def top(name: str, inbox: str, more: str = "", *, groups: tuple[str, ...] = ("legal",)) -> str:
    tables = "".join(f"[tier.{name}.group.{group}]\n" for group in groups)
    store = f'[tier.{name}.store]\nrepository = "/repos/{{group}}"\n'
    return f"[tier.{name}.receive]\ninbox = {inbox}\n{more}\n{tables}{store}"


def joined(files: Mapping[str, str], folder: Path = FOLDER) -> Hierarchy:
    return Hierarchy([parse_leniently(text, folder / name) for name, text in files.items()])


def found(
    files: Mapping[str, str], *, is_whole: bool = True, is_here: bool = False, folder: Path = FOLDER
) -> list[Finding]:
    hierarchy = joined(files, folder)
    return list(findings(hierarchy, installed(), is_whole=is_whole, is_here=is_here, now_s=NOW_S))


def errors(files: Mapping[str, str], **options: bool) -> list[str]:
    return [one.text for one in found(files, **options) if one.severity is Severity.ERROR]


def notes(files: Mapping[str, str], **options: bool) -> list[str]:
    return [one.text for one in found(files, **options) if one.severity is Severity.INFO]


def drawn(files: Mapping[str, str]) -> Drawing:
    hierarchy = joined(files)
    return drawing_of(hierarchy, list(findings(hierarchy, installed(), is_whole=True, is_here=False, now_s=NOW_S)))
