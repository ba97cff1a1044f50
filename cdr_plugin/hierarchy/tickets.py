"""What the tickets of a tier say, as far as they can be read here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cdr_plugin.errors import CdrError

if TYPE_CHECKING:
    from cdr_plugin.config.schema import TierConfig
    from cdr_plugin.identity.ticket import Ticket


@dataclass(frozen=True, slots=True)
class Held:
    """A ticket's file and what is in it. ``problem``: why there is no ``ticket``; empty: there is.

    ``is_missing``: there is no such file, which is sound where it was used up or lies on another machine.
    """

    path: Path
    at: int
    """Its place in ``forward.ticket``."""
    ticket: Ticket | None = None
    problem: str = ""
    is_missing: bool = False


def ticket_for(tier: TierConfig, at: int) -> Held | None:
    """The ticket for the URL at this place of ``forward.to``; None where the configuration names none."""
    forward = tier.forward
    if forward is None or not forward.ticket:
        return None
    at = at if forward.mode == "all" else 0
    return read_held(forward.ticket[at], at)


def read_held(path: Path, at: int) -> Held:
    """Raises nothing."""
    from cdr_plugin.identity.ticket import MAX_TICKET_BYTES, read_ticket

    try:
        with path.open(encoding="ascii") as file:
            text = file.read(MAX_TICKET_BYTES + 1)
        return Held(path, at, read_ticket(text, now_s=0))  # whether it has expired, whoever asks says
    except FileNotFoundError:
        return Held(path, at, problem="No such file or directory", is_missing=True)
    except OSError as error:
        return Held(path, at, problem=error.strerror or str(error))
    except UnicodeDecodeError:
        return Held(path, at, problem="not a text file")
    except CdrError as error:
        return Held(path, at, problem=str(error))
