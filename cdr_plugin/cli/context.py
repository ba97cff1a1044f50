"""What a command is given: options, configuration, chosen tiers, plugins and output."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self

from .output import Output

if TYPE_CHECKING:
    from cdr_plugin.config import Config, TierConfig
    from cdr_plugin.plugins import Plugins


class Context:
    """One run of one command. Whatever costs time is made when it is first asked for."""

    def __init__(self, options: argparse.Namespace, load: Callable[[], Config] | None = None) -> None:
        """``load`` gives the configuration where it is not to be read from the file that the options name."""
        self._load = load
        self.options = options
        """Common options and those that the command declared."""
        self.output = Output(as_json=options.json, quiet=options.quiet, verbose=options.verbose)

    @cached_property
    def config(self) -> Config:
        """The configuration file; ConfigError."""
        if self._load is not None:
            return self._load()
        from cdr_plugin.config import load_config

        return load_config(self.options.config)

    @cached_property
    def tiers(self) -> list[TierConfig]:
        """The tiers that ``-T`` names, else every tier, in the order of the file; UserError."""
        chosen = {self.config.tier(name).name for name in self.options.tiers}
        return [tier for tier in self.config.tiers.values() if not chosen or tier.name in chosen]

    @cached_property
    def queues(self) -> list[TierConfig]:
        """``tiers``, with one that replicates to several storages once for each, as its policy wants it."""
        from cdr_plugin.config.queues import queues_of

        return [_under_its_policy(queue) for tier in self.tiers for queue in queues_of(tier)]

    @cached_property
    def plugins(self) -> Plugins:
        from cdr_plugin.plugins import installed

        return installed()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.output.close()


def _under_its_policy(queue: TierConfig) -> TierConfig:
    if not queue.client or queue.policy != "inherit":
        return queue
    from cdr_plugin.config.adopted import parts_of

    (part,) = parts_of(queue)
    return part.in_force
