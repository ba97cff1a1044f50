"""Which commands there are.

A command is a module in ``commands/`` with ``add_arguments(parser)`` and ``run(context) -> int``
(the exit code), and a line here. The line repeats the module's help so that ``cdr --help`` and every
start of another command import one module instead of thirty.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    import argparse

    from .context import Context


class CommandModule(Protocol):
    """What a module in ``commands/`` offers; ``HELP`` may be several paragraphs."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare options and arguments."""

    def run(self, context: Context) -> int:
        """Do it; the exit code. CdrError and OSError are reported by ``main``."""


@dataclass(frozen=True, slots=True)
class Command:
    """One line of ``cdr --help``."""

    name: str
    help: str
    module: str = ""
    """In ``commands/``, when it has another name than the command."""

    def load(self) -> CommandModule:
        return cast(CommandModule, import_module(self._module))

    @property
    def exists(self) -> bool:
        return find_spec(self._module) is not None

    @property
    def _module(self) -> str:
        return f"cdr_plugin.cli.commands.{self.module or self.name}"


COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        Command("quickstart", "make a whole hierarchy in a new folder and run one version through it"),
        Command("init", "make what the tiers need and do not have: identity, state, inbox, repository"),
        Command("ticket", "print a ticket that lets a client enrol"),
        Command("enroll", "adopt a ticket on a client"),
        Command("clients", "the register of clients and groups"),
        Command("backup", "make a version; works offline"),
        Command("send", "send what waits in the transfer queue"),
        Command("queue", "what waits in the transfer queue, and a hand on it"),
        Command("receive", "take from inboxes, reduce, store or pass on"),
        Command("run", "the agent: all of this whenever it is convenient, until told to stop"),
        Command("service", "the agent as a service of systemd: install, look at, remove"),
        Command("pause", "let the agent and sending leave tiers alone"),
        Command("resume", "end the pause"),
        Command("status", "what is where and what waits for what"),
        Command("versions", "every version of each client, and how far it has come"),
        Command("quarantine", "segments that could not be used, and a hand on them"),
        Command("snapshots", "list the versions in the repository"),
        Command("restore", "bring back files of a version"),
        Command("ls", "list what is in a version"),
        Command("find", "look for files, or for what a blob belongs to, in all versions"),
        Command("diff", "show what differs between two versions"),
        Command("dump", "write a file, or a folder as an archive, to standard output"),
        Command("mount", "browse the repository as a file system"),
        Command("stats", "count and measure what versions hold"),
        Command("check", "look for damage in the repository"),
        Command("forget", "remove versions, by policy or by ID"),
        Command("prune", "free the space of what no version reaches"),
        Command("key", "list, add and remove passwords of the repository"),
        Command("unlock", "remove locks that nobody holds any more"),
        Command("tag", "change tags of versions"),
        Command("repair", "mend a damaged repository as far as possible"),
        Command("copy", "copy versions into another repository"),
        Command("identity", "the keys of a tier: show, export, rotate, recover"),
        Command("adopt", "give a client without state a baseline from what the repository holds"),
        Command("plugins", "list plugins and which kernel is in use"),
        Command("config", "check or show the configuration"),
        Command("doctor", "what is wrong with the tiers of this machine, and what to do next"),
        Command("graph", "draw the hierarchy of one or several configurations, and say what does not fit"),
        Command("groups", "the groups of a top tier, and which clients belong together"),
        Command("policy", "the central policy of a group: publish it, or show what is in force"),
    )
}
"""In the order of ``cdr --help``."""
