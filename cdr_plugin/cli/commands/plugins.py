"""``cdr plugins``: what is installed, from where, and which kernel is in use."""

from __future__ import annotations

import argparse
import dataclasses
import warnings

from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_table
from cdr_plugin.plugins import PluginInfo

HELP = "List every plugin found, where it comes from, whether it is enabled, and which kernel is in use."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(context: Context) -> int:
    infos = [*context.plugins.infos(), _kernel_info()]
    context.output.document([dataclasses.asdict(info) for info in infos])
    rows = [
        (info.kind, info.name, info.version, info.distribution, "yes" if info.enabled else "no", info.error)
        for info in infos
    ]
    table = format_table(("kind", "name", "version", "from", "enabled", "remark"), rows)
    context.output.line(table)
    return 0


def _kernel_info() -> PluginInfo:
    """The kernel as a row of its own; the warning of the slow one becomes its remark."""
    from cdr_plugin import __version__

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            from cdr_plugin.kernel import in_use
        except (ImportError, ValueError) as error:  # CDR_KERNEL asks for what cannot be had
            return PluginInfo("kernel", "?", __version__, "cdr-plugin", False, str(error))
    remark = " ".join(str(warning.message) for warning in caught)
    return PluginInfo("kernel", in_use, __version__, "cdr-plugin", True, remark)
