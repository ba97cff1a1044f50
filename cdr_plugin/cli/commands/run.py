"""``cdr run``: the agent."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cdr_plugin.cli.context import Context

HELP = """The agent: makes versions by schedule ('when' of the source; once a day without), receives and sends whenever
it is convenient, until told to stop. Survives sleep, clock jumps, network changes and kills; catches up after
downtime.

SIGTERM, SIGINT   stop: jobs under way get half a minute to end, then are ended; nothing is lost
SIGHUP            read the configuration again (also done when the file changes; a broken one is reported,
                  and the one before stays in force)
SIGUSR1           look now whether there is something to send or to receive"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    help_ = "do each job that is due once, then exit: 0, 1 when one failed, 75 when work waits"
    parser.add_argument("--once", action="store_true", help=help_)


def run(context: Context) -> int:
    from cdr_plugin.agent.agent import Agent
    from cdr_plugin.agent.configuration import load
    from cdr_plugin.agent.log import Log

    options = context.options
    # The folder may change, a relative path would not follow.
    path = None if options.config is None else options.config.absolute()
    read = partial(load, path, options.tiers)
    log = Log(as_json=options.json, verbose=bool(options.verbose), quiet=options.quiet)
    with Agent(read(), read, context.plugins, log) as agent:
        return agent.once() if options.once else agent.run()
