"""The pages in docs/ tell the truth: their configurations load, their commands run, their lists are the code's.

A fenced block says in its first line what is done with it:

``toml``            a whole configuration: it loads, and this version carries all of it out
``toml file=NAME``  the same, and the commands below it find it as NAME
``toml fragment``   a part of one, for reading
``console runnable``  each ``$`` line is run by a shell in the page's folder and must end with 0; the other lines
                    must occur in its output, in this order, where ``...`` stands for anything
``console``, ``crontab``  the arguments of each ``cdr`` in it are understood by the command line

The page's folder is new and empty but for ``Documents`` with three files; it is $HOME too. Folders of
other machines that a page names (``/mnt/nas/...``) lie in it, see ``PLACES``.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest

from cdr_plugin import unbuilt
from cdr_plugin.cli.parser import parse
from cdr_plugin.cli.registry import COMMANDS
from cdr_plugin.client.states import SEGMENT
from cdr_plugin.config.build import Extra, hints_of, key_of
from cdr_plugin.config.load import parse_config
from cdr_plugin.config.schema import TierConfig
from cdr_plugin.errors import CdrError

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))

PLACES = {
    "/mnt/nas/cdr-inbox": "nas/inbox",
    "/srv/cdr/inbox": "nas/inbox",
    "/mnt/hq/cdr-inbox": "hq/inbox",
    "/srv/backup/inbox": "hq/inbox",
    "/srv/backup": "hq",
    "/srv/cdr": "nas",
    "/etc/cdr": "etc",
    "/tmp": "tmp",
}
"""Where a page's absolute folders are in its test: one machine's mount is another machine's folder."""


@dataclass(frozen=True)
class Block:
    """A fenced block: the words behind the fence, its lines, the page and the line it begins in."""

    words: tuple[str, ...]
    text: str
    page: Path
    line: int

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file(self) -> str | None:
        return next((word.removeprefix("file=") for word in self.words if word.startswith("file=")), None)


def blocks(page: Path) -> Iterator[Block]:
    for found in re.finditer(r"^```(\w[^\n]*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        yield Block(tuple(found[1].split()), found[2], page, page.read_text()[: found.start()].count("\n") + 1)


def blocks_of(kind: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page) if block.words[0] == kind]


def table_rows(page: str) -> list[list[str]]:
    """The cells of all rows of all tables whose first cell is in backticks."""
    lines = re.findall(r"^\| (`.*) \|$", (DOCS / page).read_text(), re.MULTILINE)
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in lines]


# --- blocks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [b for b in blocks_of("toml") if "fragment" not in b.words], ids=lambda b: b.where)
def test_a_configuration_in_the_docs_is_sound_and_carried_out_whole(block: Block, tmp_path: Path) -> None:
    for tier in parse_config(block.text, tmp_path / "cdr.toml").tiers.values():
        unbuilt.refuse_unbuilt(tier)


def commands(block: Block) -> Iterator[list[str]]:
    """The arguments of each call of ``cdr``, up to a pipe, a redirection or a comment."""
    for line in block.text.splitlines():
        for part in re.split(r"&&|;|\||>", line):
            words = shlex.split(part, comments=True)
            if block.words[0] == "crontab":
                words = words[words.index("cdr") :] if "cdr" in words else []
            if words[:1] == ["$"]:
                words = words[1:]
            if words[:1] == ["cdr"]:
                yield words[1:]


SHOWN = [b for kind in ("console", "crontab") for b in blocks_of(kind)]


@pytest.mark.parametrize("block", SHOWN, ids=lambda b: b.where)
def test_every_command_line_in_the_docs_is_understood(block: Block) -> None:
    for arguments in commands(block):
        try:
            parse(arguments)
        except CdrError as error:
            pytest.fail(f"{block.where}: cdr {shlex.join(arguments)}: {error}")
        except SystemExit as leaving:  # --help, --version
            assert not leaving.code


RUNNABLE = [page for page in PAGES if any("runnable" in block.words for block in blocks(page))]


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: str(page.relative_to(DOCS)))
def test_the_commands_of_a_page_do_what_it_says(page: Path, tmp_path: Path) -> None:
    environment = set_up(tmp_path)
    for block in blocks(page):
        if block.file:
            (tmp_path / block.file).write_text(placed(block.text, tmp_path))
        elif "runnable" in block.words:
            for command, expected in steps(block):
                output = run(placed(command, tmp_path), tmp_path, environment, block)
                check_output(placed(expected, tmp_path), output, f"{block.where}: $ {command}")


def set_up(folder: Path) -> dict[str, str]:
    """Files to back up, and an environment with ``cdr`` in which nothing of this user's is set."""
    for name, text in (("letter.txt", "Dear all,\n"), ("Mail/inbox.mbox", "From: a\n" * 999), ("Mail/empty", "")):
        path = folder / "Documents" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for place in ("nas/inbox", "hq/inbox", "etc", "tmp", "bin"):
        (folder / place).mkdir(parents=True)
    script = folder / "bin" / "cdr"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m cdr_plugin "$@"\n')
    script.chmod(0o755)
    unset = re.compile("XDG_|CDR_|RESTIC_").match
    kept = {name: value for name, value in os.environ.items() if not unset(name)}
    modules = [str(ROOT), str(ROOT / "backends"), str(ROOT / "formats")]
    return {
        **kept,
        "HOME": str(folder),
        "PATH": f"{folder / 'bin'}:{kept['PATH']}",
        "PYTHONPATH": ":".join([*modules, *filter(None, [kept.get("PYTHONPATH")])]),
    }


def placed(text: str, folder: Path) -> str:
    longest_first = sorted(PLACES, key=len, reverse=True)
    pattern = "|".join(rf"(?<![\w.-]){re.escape(place)}(?![\w-])" for place in longest_first)
    return re.sub(pattern, lambda found: str(folder / PLACES[found[0]]), text)


def steps(block: Block) -> Iterator[tuple[str, str]]:
    """Each command of a transcript with the output that the page shows."""
    for step in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, expected = step.partition("\n")
        yield command, expected


def run(command: str, folder: Path, environment: Mapping[str, str], block: Block) -> str:
    shell = ["bash", "-o", "pipefail", "-c", command]
    done = subprocess.run(shell, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{block.where}: $ {command}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def check_output(expected: str, output: str, where: str) -> None:
    lines = iter(output.splitlines())
    for line in filter(str.strip, expected.splitlines()):
        wanted = re.compile(r"\s+".join(re.escape(word).replace(r"\.\.\.", ".*") for word in line.split()))
        assert any(wanted.fullmatch(said.strip()) for said in lines), f"{where}\nno line {line!r} in:\n{output}"


PYTHON = blocks_of("python")


@pytest.mark.parametrize("block", PYTHON, ids=lambda b: b.where)
def test_python_in_the_docs_runs(block: Block) -> None:
    exec(compile(block.text, block.where, "exec"), {"__name__": "of_the_docs"})


def test_the_reduction_method_on_the_plugins_page_decodes_what_it_encodes() -> None:
    names: dict[str, Any] = {}
    exec(next(block.text for block in PYTHON if "cdr_reduction_methods" in block.text), names)
    (method,) = names["cdr_reduction_methods"]()
    packed = method.encoder({}).encode(bytes(1000))
    assert len(packed) == 1 and method.encoder({}).encode(b"one") is None
    assert method.decoder().decode(packed, 1000, None) == bytes(1000)


# --- lists -----------------------------------------------------------------------------------------


def schema_keys(cls: type, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field[Any] | None]]:
    """Every key of a table and of the tables in it; a plugin's own table has no field."""
    hints = hints_of(cls)
    for item in dataclasses.fields(cls):
        hint = hints[item.name]
        if get_origin(hint) is Annotated and isinstance(hint.__metadata__[0], Extra):
            yield f"{prefix}{ {'reduce.': 'METHOD', 'store.': 'FORMAT'}.get(prefix, 'SCHEME') }", None
        elif key_of(item):
            below = table_of(hint)
            name = f"{prefix}{key_of(item)}"
            if below is None:
                yield name, item
            else:
                inside = f"{name}.NAME." if get_origin(hint) is Mapping else f"{name}."
                yield from schema_keys(below, inside)


def table_of(hint: Any) -> type | None:
    """The dataclass in ``X``, ``X | None``, ``tuple[X, ...]`` or ``Mapping[str, X]``."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return hint
    if get_origin(hint) is Annotated:
        return None
    return next((found for one in get_args(hint) if (found := table_of(one))), None)


CONFIGURATION = {row[0].strip("`"): row for row in table_rows("configuration.md")}


def test_the_configuration_page_has_exactly_the_keys_of_the_schema() -> None:
    rows = [row[0] for row in table_rows("configuration.md")]
    assert len(rows) == len(set(rows))
    assert set(CONFIGURATION) == dict(schema_keys(TierConfig)).keys()
    assert all(len(row) == 5 and all(row) for row in CONFIGURATION.values())


def test_the_configuration_page_has_the_defaults_of_the_schema() -> None:
    wrong = {}
    for key, item in schema_keys(TierConfig):
        if item is not None and isinstance(item.default, bool | str):
            default = f'`"{item.default}"`' if isinstance(item.default, str) else f"`{str(item.default).lower()}`"
            if CONFIGURATION[key][2] != default:
                wrong[key] = default
    assert wrong == {}


def test_the_configuration_page_says_which_keys_are_refused() -> None:
    refused = {name.split()[0] for name, _ in unbuilt._UNBUILT}
    said = {key for key, row in CONFIGURATION.items() if "refused" in row[4]}
    assert all(any(key == name or key.startswith(f"{name}.") for key in said) for name in refused)
    assert [key for key in said if not any(key == name or key.startswith(f"{name}.") for name in refused)] == []


def test_the_maturity_page_names_every_command_that_there_is() -> None:
    page = (DOCS / "maturity.md").read_text()
    built = page.split("## Commands\n")[1].split("\n## ")[0].split("Not built:")[0]
    assert set(re.findall(r"`cdr (\w+)", built)) == {name for name, command in COMMANDS.items() if command.exists}


def test_the_state_diagram_is_that_of_the_table() -> None:
    page = (DOCS / "design" / "client-state.md").read_text()
    (shown,) = re.findall(r"<!-- diagram: segment -->\n```\n(.*?)\n```\n<!-- end of diagram -->", page, re.DOTALL)
    assert shown == SEGMENT.diagram()


def test_every_folder_and_package_of_the_code_is_on_the_map() -> None:
    page = (DOCS / "architecture.md").read_text()
    packages = [path.parent for room in ("cdr_plugin", "backends", "formats") for path in ROOT.glob(f"{room}/*/*.py")]
    names = {f"{path.relative_to(ROOT)}/" for path in packages if path.name != "__pycache__"}
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []


# --- links -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_index_names_every_page() -> None:
    index = (DOCS / "README.md").read_text()
    names = [str(page.relative_to(DOCS)) for page in PAGES if page.name != "README.md"]
    assert [name for name in names if f"({name})" not in index] == []
