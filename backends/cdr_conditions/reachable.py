"""``reachable``: the storage answers, or something else that shows where this machine is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from cdr_plugin.contracts import Condition, Occasion, Verdict
from cdr_plugin.errors import ConfigError
from cdr_plugin.model.quantities import show

LIMIT_S = 3.0
"""Seconds for one place; one that is near answers in milliseconds."""
_PORTS = {"ftp": 21, "http": 80, "https": 443, "sftp": 22, "smb": 445, "ssh": 22}

Place: TypeAlias = tuple[str, int]
Connect: TypeAlias = Callable[[Place, float], bool]


def connects(place: Place, limit_s: float) -> bool:
    """Does somebody take a TCP connection at this host and port?"""
    import socket

    try:
        socket.create_connection(place, limit_s).close()
    except (OSError, UnicodeError):  # the latter for names that are none
        return False
    return True


class Reachable(Condition):
    """``true``: a storage that the work needs; or ``"host:port"`` or a URL, or a list of them: any one of these."""

    name = "reachable"

    def __init__(self, connect: Connect = connects) -> None:
        self._connect = connect

    def check(self, value: Any) -> None:
        if value is True:
            return
        places = value if isinstance(value, list) else [value]
        if not places:
            raise ConfigError("expected places to reach, not an empty list")
        for place in places:
            if not isinstance(place, str) or _place(place) is None:
                shown = show(place.rpartition("@")[2] if isinstance(place, str) else place)  # no secrets
                raise ConfigError(
                    f'expected true, "host:port", a URL such as "https://example.org", or a list, not {shown}'
                )

    def ask(self, value: Any, occasion: Occasion) -> Verdict:
        if value is True:
            return self._storages(occasion)
        places = value if isinstance(value, list) else [value]
        if any(self._answers(place) for place in places):
            return Verdict(True)
        return Verdict(False, f"waiting for an answer of {' or '.join(places)}")

    def _storages(self, occasion: Occasion) -> Verdict:
        if occasion.is_under_way or not occasion.storages or any(map(occasion.answers, occasion.storages)):
            return Verdict(True)
        return Verdict(False, f"waiting for the storage to answer ({' or '.join(occasion.storages)})")

    def _answers(self, text: str) -> bool:
        place = _place(text)
        return place is not None and self._connect(place, LIMIT_S)


def _place(text: str) -> Place | None:
    """Host and port; None when the text names none."""
    try:
        url = urlsplit(text if "://" in text else f"//{text}")
        port = url.port or _PORTS.get(url.scheme)
    except ValueError:
        return None
    return (url.hostname, port) if url.hostname and port and url.username is None else None
