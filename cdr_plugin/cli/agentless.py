"""The part of ``cdr receive`` that works for clients without an agent: versions of their folders, and their queues."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from cdr_plugin.agentless.collect import collect
from cdr_plugin.assembly import client_tier, own_folders
from cdr_plugin.client.backup import BackupOptions
from cdr_plugin.client.send import send
from cdr_plugin.client.source import archive_options
from cdr_plugin.config.agentless import agentless_clients
from cdr_plugin.contracts import Event
from cdr_plugin.errors import NotConvenientError, RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdr_plugin.client.tier import ClientTier
    from cdr_plugin.config import TierConfig

    from .context import Context

Jobs: TypeAlias = "Iterator[tuple[str, Callable[[], int]]]"
"""Names, and work that gives an exit code."""


@dataclass(slots=True)
class Collected:
    """What a run did for agentless clients; ``waiting``: why it made no version of some folders; ``sent``: the
    tiers whose queue was worked at."""

    versions: int = 0
    sent: set[str] = field(default_factory=set)
    waiting: list[str] = field(default_factory=list)


def collecting(context: Context, config: TierConfig, collected: Collected) -> Jobs:
    """For each agentless folder: make a version, and put it into the inbox of the tier."""
    for one in agentless_clients(config):
        yield one.name, partial(_collect, context, one, collected)


def settling(context: Context, config: TierConfig, collected: Collected) -> Jobs:
    """Take in what the tier has answered to these clients, so that their spools are free again."""
    for one in agentless_clients(config):
        yield f"{one.name}, answers", partial(_settle, context, one, collected)


def _collect(context: Context, config: TierConfig, collected: Collected) -> int:
    with _opened(context, config) as client:
        code = _make_version(context, config, client, collected)
        sent = send(client, context.output)
    collected.sent.add(config.name)
    if sent.waiting_for and sent.segments_waiting:
        collected.waiting.append(sent.waiting_for)
        context.output.note(f"{config.name}: {sent.waiting_for}")
        return code or NotConvenientError.exit_code
    return code


def _make_version(context: Context, config: TierConfig, client: ClientTier, collected: Collected) -> int:
    """The exit code, as of ``cdr backup``. What keeps a folder from being read does not hold up what is spooled."""
    assert config.source is not None
    now = bool(getattr(context.options, "now", False))
    try:
        result = collect(client, config.source.paths[0], _options(context, config, client), context.output, at_once=now)
    except NotConvenientError as error:
        collected.waiting.append(str(error))
        context.output.note(f"{config.name}: {error}")
        return error.exit_code
    except RemoteError as error:
        context.output.error(config.name, "back up", error)
        return error.exit_code
    if result is None or result.version is None:
        return 0
    collected.versions += 1
    facts = {"client": client.name, "version": result.version, "tree": result.archive.root_tree.hex()}
    for problem in context.plugins.emit(Event("version-made", client.name, facts)):
        context.output.note(problem)
    return 3 if result.archive.incomplete else 0


def _options(context: Context, config: TierConfig, client: ClientTier) -> BackupOptions:
    assert config.source is not None
    own = own_folders(context.config, context.plugins)
    return BackupOptions(archive=archive_options(config.source, zone=client.zone_name, own=own), hostname=client.name)


def _settle(context: Context, config: TierConfig, collected: Collected) -> int:
    if config.name not in collected.sent:
        return 0  # what is wrong was said
    with _opened(context, config) as client:
        send(client, context.output)
    return 0


@contextmanager
def _opened(context: Context, config: TierConfig) -> Iterator[ClientTier]:
    client = client_tier(config, context.plugins)
    _ = client.ticket  # NotEnrolledError before anything else is tried
    try:
        yield client
    finally:
        client.state.close()
