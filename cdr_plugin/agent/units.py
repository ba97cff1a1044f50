"""The text of systemd units that run the agent.

Hardening stops where it could break a backup: it must read everything, ``before`` may take snapshots, mount,
use sudo or write a dump anywhere, inboxes and repositories may be anywhere. So: no private /tmp or devices,
no read-only /etc (identities may be there), no hidden /home or kernel modules (they are backed up), no
NoNewPrivileges (sudo), no UMask (inboxes are shared by group). A user's manager can set up no name spaces
on every kernel: its units carry none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

STOP_S = 90
"""More than the agent grants its jobs (``agent.GRACE_S``) and needs itself."""

_GENTLE = """\
Nice=10
CPUWeight=50
IOWeight=50
IOSchedulingClass=best-effort
IOSchedulingPriority=7
# A job that takes too much memory is ended, the agent goes on.
OOMPolicy=continue
"""

_HARDENED = """\
# /usr and /boot are only read. What 'before' may need (sudo, mount, snapshots, dumps anywhere) is not restricted.
ProtectSystem=yes
ProtectHostname=yes
ProtectKernelLogs=yes
LockPersonality=yes
RestrictRealtime=yes
KeyringMode=private
"""


@dataclass(frozen=True, slots=True)
class Unit:
    """What is installed: ``name`` without suffix; ``command`` with absolute paths, up to ``run``."""

    name: str
    command: Sequence[str]
    system: bool
    timer: bool = False
    environment: Sequence[str] = field(default_factory=tuple)
    """``NAME=value``."""

    @property
    def files(self) -> dict[str, str]:
        """File name -> text."""
        if self.timer:
            return {f"{self.name}.service": self._oneshot(), f"{self.name}.timer": self._timer()}
        return {f"{self.name}.service": self._service()}

    @property
    def enabled(self) -> str:
        """The unit that is enabled and started."""
        return f"{self.name}.timer" if self.timer else f"{self.name}.service"

    def _service(self) -> str:
        return f"""\
{self._head("CDR agent: backups when they are convenient")}\
# Never give up: a disk may be mounted, a configuration mended.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={self._exec("run")}
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=30
WatchdogSec=10min
# The agent ends its jobs itself.
KillMode=mixed
TimeoutStopSec={STOP_S}
{self._service_settings()}
[Install]
WantedBy={"multi-user.target" if self.system else "default.target"}
"""

    def _oneshot(self) -> str:
        return f"""\
{self._head("CDR: one round of backups")}
[Service]
Type=oneshot
ExecStart={self._exec("run", "--once")}
# 75: work waits for something, the next round looks again.
SuccessExitStatus=75
KillMode=mixed
TimeoutStopSec={STOP_S}
{self._service_settings()}"""

    def _timer(self) -> str:
        return f"""\
{self._head("CDR: rounds of backups")}
[Timer]
OnActiveSec=1min
OnUnitInactiveSec=15min
RandomizedDelaySec=1min
AccuracySec=1min

[Install]
WantedBy=timers.target
"""

    def _head(self, description: str) -> str:
        # network.target only orders the end: sending stops before the network does. Nothing waits for it.
        after = "After=network.target\n" if self.system else ""
        return f"[Unit]\nDescription={description}\n{after}"

    def _service_settings(self) -> str:
        variables = "".join(f"Environment={quoted(pair)}\n" for pair in self.environment)
        return variables + _GENTLE + (_HARDENED if self.system else "")

    def _exec(self, *arguments: str) -> str:
        return " ".join(quoted(word) for word in (*self.command, *arguments))


def quoted(word: str) -> str:
    """One word of a command line or an assignment, as systemd reads it."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    escaped = "".join(char if char.isprintable() else "".join(f"\\x{b:02x}" for b in char.encode()) for char in escaped)
    plain = escaped and all(char.isalnum() or char in "-_./:=,+@%" for char in escaped)
    return escaped if plain else f'"{escaped}"'


def crontab_line(command: Sequence[str]) -> str:
    """What does the same, at a round every quarter of an hour, where there is no systemd."""
    import shlex

    return "*/15 * * * * " + shlex.join([*command, "run", "--once", "--quiet"]).replace("%", "\\%")
