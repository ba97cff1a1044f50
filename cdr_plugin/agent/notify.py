"""Tells systemd how the agent is: ``sd_notify`` without its library."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class Notifier:
    """Sends to the socket that ``$NOTIFY_SOCKET`` names; does nothing when there is none."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._last_status = ""

    def ready(self) -> None:
        self._send("READY=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def alive(self, status: str) -> None:
        """Feeds the watchdog; ``status`` is what ``systemctl status`` shows, one line."""
        new = "" if status == self._last_status else f"\nSTATUS={' '.join(status.split())}"
        self._last_status = status
        self._send(f"WATCHDOG=1{new}")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sending:
                sending.connect(self._address)
                sending.sendall(message.encode("utf-8", "replace"))
        except OSError:
            pass  # nobody listens any more: no reason to stop
