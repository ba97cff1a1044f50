"""``cdr service``: the agent as a service or timer of systemd."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cdr_plugin.errors import UserError

if TYPE_CHECKING:
    from cdr_plugin.agent.systemd import Manager
    from cdr_plugin.cli.context import Context

HELP = """Run the agent ('cdr run') as a service of systemd, for the tiers of the configuration.

install   write the unit, enable and start it
status    what systemd says of it, and what each job last did; exit code 1 unless it runs
remove    stop it and remove the unit"""

EXIT_NOT_RUNNING = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("action", choices=("install", "status", "remove"))
    scope = parser.add_mutually_exclusive_group()
    scope.add_argument("--system", action="store_true", help="a service of the machine (default for root)")
    scope.add_argument("--user", action="store_true", help="a service of this user (default for others)")
    add("--timer", action="store_true", help="a round every quarter of an hour instead of an agent that stays")
    add("--name", default="cdr", metavar="NAME", help="of the unit, where one machine has several (default: cdr)")
    add("--root", type=Path, metavar="DIR", help="only put the files below DIR, for a package or an image")
    add("--print", dest="only_print", action="store_true", help="only print what 'install' would write")


def run(context: Context) -> int:
    from cdr_plugin.agent.systemd import Manager, check_name

    options = context.options
    options.name = check_name(options.name)
    manager = Manager(system=options.system or (not options.user and os.geteuid() == 0), root=options.root)
    if options.action == "install":
        return _install(context, manager)
    return _status(context, manager) if options.action == "status" else _remove(context, manager)


def _install(context: Context, manager: Manager) -> int:
    from cdr_plugin.agent.units import Unit

    options = context.options
    command = _command(context)
    variables = [f"{name}={os.environ[name]}" for name in ("CDR_DISABLE_PLUGINS",) if name in os.environ]
    unit = Unit(options.name, command, manager.system, options.timer, variables)
    if options.only_print:
        for name, text in unit.files.items():
            context.output.line(f"# {manager.folder / name}\n{text}")
        context.output.summary({"files": {str(manager.folder / name): text for name, text in unit.files.items()}})
        return 0
    if options.root is None:
        _require_systemd(command)
    files = [str(path) for path in manager.install(unit)]
    for path in files:
        context.output.line(f"wrote {path}")
    if options.root is None:
        context.output.line(f"{unit.enabled} is enabled and started; 'cdr service status' tells of it")
        if not manager.system:
            context.output.note("it runs while you are logged in; 'loginctl enable-linger' lets it run always")
    context.output.summary({"unit": unit.enabled, "files": files})
    return 0


def _status(context: Context, manager: Manager) -> int:
    found = manager.status(context.options.name) if _is_systemd_here() else {}
    jobs = list(_jobs(context))
    is_active = found.get("ActiveState") == "active"
    context.output.summary({"unit": found.get("Unit"), "active": is_active, "systemd": found, "jobs": jobs})
    if found:
        state = f"{found.get('ActiveState', 'unknown')} ({found.get('SubState', '?')})"
        text = f"; {found['StatusText']}" if found.get("StatusText") else ""
        context.output.line(f"{found['Unit']}: {state}, {found.get('UnitFileState', 'unknown')}{text}")
    elif not _is_systemd_here():
        context.output.line("systemd does not run this machine")
    else:
        context.output.line(f"no unit {context.options.name} in {manager.folder}; 'cdr service install' makes it")
    _show_jobs(context, jobs)
    return 0 if is_active else EXIT_NOT_RUNNING


def _jobs(context: Context) -> list[dict[str, object]]:
    """What the agent remembers of each job."""
    from cdr_plugin.agent.jobs import jobs_of
    from cdr_plugin.agent.ledger import read_ledger

    found: list[dict[str, object]] = []
    for tier in context.tiers:
        known = read_ledger(tier.state)
        for job in jobs_of([tier]):
            record = known.get(job.kind)
            done = record.done.wall_s if record and record.done else None
            failures, error = (record.failures, record.error) if record else (0, "")
            facts = {"last_done": done, "failures": failures, "error": error}
            found.append({"tier": tier.name, "job": job.kind.value, **facts})
    return found


def _show_jobs(context: Context, jobs: list[dict[str, object]]) -> None:
    import time

    from cdr_plugin.cli.formatting import format_age, format_table

    def age(done: object) -> str:
        return format_age(max(0.0, time.time() - done)) if isinstance(done, float) else "never"

    rows = [(job["tier"], job["job"], age(job["last_done"]), job["failures"], job["error"] or "-") for job in jobs]
    context.output.line(format_table(("tier", "job", "last done", "failures", "last error"), rows))


def _remove(context: Context, manager: Manager) -> int:
    options = context.options
    if options.root is None and not _is_systemd_here():
        raise UserError("systemd does not run this machine; nothing is installed in it")
    files = [str(path) for path in manager.remove(options.name)]
    for path in files:
        context.output.line(f"removed {path}")
    if not files:
        context.output.line(f"no unit {options.name} in {manager.folder}; nothing to remove")
    context.output.summary({"files": files})
    return 0


def _command(context: Context) -> list[str]:
    """``cdr`` with absolute paths, and the tiers that were chosen; ConfigError when the configuration is not sound."""
    tiers = [word for name in context.options.tiers for word in ("-T", context.config.tier(name).name)]
    return [sys.executable, "-P", "-m", "cdr_plugin", "-c", str(context.config.path), *tiers]


def _require_systemd(command: list[str]) -> None:
    from cdr_plugin.agent.units import crontab_line

    if not _is_systemd_here():
        raise UserError(
            f"systemd does not run this machine; start '{' '.join(command)} run' by other means, "
            f"or add this line to 'crontab -e': {crontab_line(command)}"
        )


def _is_systemd_here() -> bool:
    from cdr_plugin.agent.systemd import runs_here

    return runs_here()
