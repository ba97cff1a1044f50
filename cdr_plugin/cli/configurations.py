"""Commands that look at configuration files themselves, one or several, sound or not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cdr_plugin.errors import UserError

if TYPE_CHECKING:
    from cdr_plugin.cli.context import Context
    from cdr_plugin.hierarchy.findings import Finding
    from cdr_plugin.hierarchy.members import Hierarchy


def joined(context: Context) -> Hierarchy:
    """The tiers of the named files, else of the configuration; files with faults as far as they go.

    ConfigError when there is no file to look at; UserError for a tier that is in none.
    """
    from cdr_plugin.config.load import find_config, load_leniently
    from cdr_plugin.hierarchy.members import Hierarchy

    named = list(dict.fromkeys(path.absolute() for path in context.options.files))
    files = [load_leniently(path) for path in named or [(context.options.config or find_config()).absolute()]]
    hierarchy = Hierarchy(files)
    known = {member.tier.name for member in hierarchy.members}
    unknown = [name for name in context.options.tiers if name not in known]
    if unknown and not any(file.problems for file in files):
        raise UserError(f"there is no tier {unknown[0]!r} in these files; there are: {', '.join(sorted(known))}")
    return hierarchy


def report(context: Context, found: Iterable[Finding]) -> int:
    """Each finding as a line on standard error; the exit code: 1 when one is an error."""
    from cdr_plugin.hierarchy.findings import Severity

    code = 0
    for finding in found:
        if finding.severity is Severity.ERROR:
            context.output.problem(finding.text)
            code = 1
        else:
            context.output.note(f"note: {finding.text}")
    return code
