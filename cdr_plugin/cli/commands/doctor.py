"""``cdr doctor``: what is wrong with the tiers of this machine, and what to do next."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from cdr_plugin.cli.context import Context
from cdr_plugin.errors import CdrError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdr_plugin.doctor.finding import Finding

HELP = """Look at everything that the tiers of the configuration need: the file itself, keys, state, clock, space,
storages, repository, enrolment, what is stuck and why. Each finding names the object, the cause and the next step.

Nothing is changed; a small object is put into each storage for a moment and deleted again. Exit code 1 when something
is broken, 0 when there are warnings at most."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default="cdr", metavar="NAME", help="of the unit of systemd (default: cdr)")


def run(context: Context) -> int:
    from cdr_plugin.doctor.finding import Severity

    found = sorted(_examine(context), key=lambda finding: list(Severity).index(finding.severity))
    for finding in found:
        _show(context, finding)
    counts = {severity: sum(one.severity is severity for one in found) for severity in Severity}
    broken, warnings = counts[Severity.BROKEN], counts[Severity.WARNING]
    context.output.line(f"{broken} broken, {warnings} warnings" if broken or warnings else "nothing is wrong")
    rows = [
        {
            "severity": one.severity.value,
            "tier": one.tier or None,
            "object": one.about,
            "cause": one.cause,
            "next_step": one.next_step or None,
        }
        for one in found
    ]
    context.output.summary({"findings": rows, "broken": broken, "warnings": warnings})
    return 1 if broken else 0


def _examine(context: Context) -> Iterator[Finding]:
    from cdr_plugin.agent.systemd import Manager, check_name, runs_here
    from cdr_plugin.doctor.examine import examine_machine, examine_tier

    manager = Manager(system=os.geteuid() == 0)
    name = check_name(context.options.name)
    yield from examine_machine(context.plugins, manager, name, is_systemd_here=runs_here())
    faults = list(_configuration(context))
    yield from faults
    if any(finding.severity.value == "broken" for finding in faults):
        return  # of a file with faults no tier can be made
    for tier in context.tiers:
        yield from examine_tier(context.config, tier, context.plugins, context.output)


def _configuration(context: Context) -> Iterator[Finding]:
    """The findings of 'cdr config check'."""
    from cdr_plugin.cli.configurations import joined
    from cdr_plugin.doctor.finding import broken, from_error, note
    from cdr_plugin.hierarchy.findings import Severity, findings

    context.options.files = []
    try:
        hierarchy = joined(context)
    except CdrError as error:
        yield from_error("", "configuration", error, "name a configuration with -c FILE")
        return
    for found in findings(hierarchy, context.plugins, is_whole=False, is_here=True):
        if found.severity is Severity.ERROR:
            yield broken("", "configuration", found.text, "correct it; 'cdr config check' looks again")
        elif not found.arrows:  # where the tier above lies is no matter of this machine
            yield note("", "configuration", found.text)


def _show(context: Context, finding: Finding) -> None:
    about = f"{finding.tier}: {finding.about}" if finding.tier else finding.about
    context.output.line(f"{finding.severity.value:8} {about}: {finding.cause}")
    if finding.next_step:
        context.output.line(f"{'':8} -> {finding.next_step}")
