"""systemd hears of the agent by a socket, as its manual describes it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from cdr_plugin.agent.notify import Notifier


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_readiness_life_status_and_end_are_told(tmp_path: Path, kind: str) -> None:
    address = str(tmp_path / "notify") if kind == "path" else f"@cdr-test-{tmp_path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address.replace("@", "\0", 1) if kind == "abstract" else address)
        notifier = Notifier({"NOTIFY_SOCKET": address})
        notifier.ready()
        notifier.alive("waiting\nfor power")
        notifier.alive("waiting\nfor power")
        notifier.stopping()
        told = [listening.recv(1000).decode() for _ in range(4)]
    assert told == ["READY=1", "WATCHDOG=1\nSTATUS=waiting for power", "WATCHDOG=1", "STOPPING=1"]


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/nowhere/at/all"}])
def test_nobody_there_to_hear_it_is_no_error(environment: dict[str, str]) -> None:
    Notifier(environment).ready()
