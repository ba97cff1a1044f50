"""What concerns all tiers of a machine: the kernel, plugins, the clock, the service."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .finding import Finding, broken, from_error, note, warning

if TYPE_CHECKING:
    from cdr_plugin.agent.systemd import Manager
    from cdr_plugin.plugins import Plugins

RELEASED_S = 1_767_225_600
"""2026: no clock that is right shows less."""


def kernel() -> Iterator[Finding]:
    """The slow kernel works, ten times slower."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from cdr_plugin.kernel import in_use
        except (ImportError, ValueError) as error:  # CDR_KERNEL asks for what cannot be had
            yield broken("", "kernel", str(error), "unset CDR_KERNEL, or install CDR where a C compiler is")
            return
    if in_use != "c":
        step = "install a C compiler and CDR again ('pip install --force-reinstall')"
        yield warning("", "kernel", f"the kernel in use is {in_use}, which is slow", step)


def plugins(found: Plugins) -> Iterator[Finding]:
    """Plugins that were found and do not work."""
    for info in found.infos():
        if info.error:
            cause = f"{info.error} (from {info.distribution})"
            yield broken("", f"plugin {info.name}", cause, "mend it, or disable it with CDR_DISABLE_PLUGINS")


def clock(now_s: float | None = None) -> Iterator[Finding]:
    """Versions and signed documents carry times."""
    now_s = time.time() if now_s is None else now_s
    if now_s < RELEASED_S:
        shown = time.strftime("%Y-%m-%d", time.gmtime(now_s))
        yield broken("", "clock", f"it shows {shown}", "set it, and let NTP keep it ('timedatectl set-ntp true')")


def service(manager: Manager, name: str, *, is_systemd_here: bool) -> Iterator[Finding]:
    """The agent's unit, where systemd runs the machine."""
    if not is_systemd_here:
        yield note("", "service", "systemd does not run this machine", "let something else start 'cdr run'")
        return
    try:
        found = manager.status(name)
    except Exception as error:  # systemctl may be missing, or refuse
        yield from_error("", "service", error, "'cdr service status' shows more")
        return
    if not found:
        yield note("", "service", "nothing starts the agent by itself", "'cdr service install', or cron")
    elif found.get("ActiveState") != "active":
        cause = f"{found['Unit']} is {found.get('ActiveState', 'unknown')} ({found.get('Result', '?')})"
        step = f"'journalctl -u {found['Unit']}' tells why; 'cdr service install' starts it again"
        yield broken("", "service", cause, step)
