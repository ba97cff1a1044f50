"""Installs, removes and looks at the agent's units."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cdr_plugin.agent.units import Unit
from cdr_plugin.errors import RemoteError, UserError
from cdr_plugin.files import storage_error, sync_folder, write_durably

Runner = Callable[[Sequence[str]], tuple[int, str]]
"""A command -> exit code, and what it said on both outputs."""

_LIMIT_S = 120.0
_SHOWN = ("LoadState", "UnitFileState", "ActiveState", "SubState", "Result", "MainPID", "StatusText")


def run_command(command: Sequence[str]) -> tuple[int, str]:
    """The real runner; 127 when there is no such program."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_LIMIT_S,
            check=False,
        )
    except FileNotFoundError:
        return 127, f"{command[0]}: not found"
    except subprocess.TimeoutExpired:
        return 1, f"no answer within {_LIMIT_S:.0f} s"
    return done.returncode, done.stdout.decode("utf-8", "replace")


def runs_here() -> bool:
    """Whether systemd runs this machine (``sd_booted``)."""
    return Path("/run/systemd/system").is_dir()


@dataclass(frozen=True, slots=True)
class Manager:
    """A systemd: that of the machine, or that of the user."""

    system: bool
    run: Runner = run_command
    root: Path | None = None
    """Units are only put into this folder, for a package or an image; systemd is not asked."""
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @property
    def folder(self) -> Path:
        """Where the units lie."""
        if self.root is not None:
            return self.root / "etc/systemd" / ("system" if self.system else "user")
        if self.system:
            return Path("/etc/systemd/system")
        home = Path(self.environment.get("XDG_CONFIG_HOME", ""))
        return (home if home.is_absolute() else Path("~/.config").expanduser()) / "systemd/user"

    def install(self, unit: Unit) -> list[Path]:
        """Write the units, and start what they say; the files. An older form of the same units is replaced."""
        self.remove(unit.name)
        written = []
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name, text in unit.files.items():
                write_durably(self.folder / name, text.encode(), mode=0o644)
                (self.folder / name).chmod(0o644)
                written.append(self.folder / name)
        except OSError as error:
            raise storage_error(self.folder, error) from error
        if self.root is None:
            self._order("daemon-reload")
            self._order("enable", "--now", unit.enabled)
        return written

    def remove(self, name: str) -> list[Path]:
        """Stop and remove the units of this name; the files that were there."""
        files = [path for suffix in (".timer", ".service") if (path := self.folder / f"{name}{suffix}").exists()]
        if not files:
            return []
        if self.root is None:
            enabled = [path.name for path in files if _is_enabled_by_itself(path)]
            self._order("disable", "--now", *enabled)
            if others := [path.name for path in files if path.name not in enabled]:
                self._order("stop", *others)
        try:
            for path in files:
                path.unlink()
            sync_folder(self.folder)
        except OSError as error:
            raise storage_error(self.folder, error) from error
        if self.root is None:
            self._order("daemon-reload")
        return files

    def status(self, name: str) -> dict[str, str]:
        """What systemd says of the unit that is enabled, by the names of its properties, and ``Unit``; empty when
        nothing is installed."""
        enabled = next((f"{name}{s}" for s in (".timer", ".service") if (self.folder / f"{name}{s}").exists()), None)
        if enabled is None:
            return {}
        shown = self._order("show", f"--property={','.join(_SHOWN)}", enabled)
        pairs = (line.partition("=") for line in shown.splitlines())
        return {"Unit": enabled, **{key: value for key, _, value in pairs if key in _SHOWN}}

    def _order(self, *arguments: str) -> str:
        command = ["systemctl", *([] if self.system else ["--user"]), *arguments]
        code, said = self.run(command)
        if code != 0:
            reason = " ".join(said.split()) or f"exit code {code}"
            raise RemoteError(f"'{' '.join(command)}' failed: {reason}")
        return said


def _is_enabled_by_itself(path: Path) -> bool:
    return b"[Install]" in path.read_bytes()


def check_name(name: str) -> str:
    """``name`` as a unit's; UserError for what systemd does not take."""
    if not name or len(name) > 100 or not all(char.isascii() and (char.isalnum() or char in "-_.") for char in name):
        raise UserError(f"--name {name!r}: a unit's name has letters, digits, '-', '_' and '.'")
    return name.removesuffix(".service")
