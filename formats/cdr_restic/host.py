"""What keys and locks say of the process that made them."""

from __future__ import annotations

import os
import pwd
import socket
import time
from datetime import datetime

from cdr_plugin.model.times import time_formatter


def host_name() -> str:
    return socket.gethostname()


def user_name() -> str:
    """Empty where the system has no name for the user."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return ""


def now_text() -> str:
    """This moment in the local time zone, RFC 3339 with nanoseconds."""
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    zone = datetime.fromtimestamp(seconds).astimezone().tzinfo
    assert zone is not None  # astimezone() always sets it
    return time_formatter(zone)(seconds, nanoseconds)
