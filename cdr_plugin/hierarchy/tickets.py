"""What the tickets of a tier say, as far as they can be read here."""

from __future__ import annotations

from collections.abc import Sequence
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
    ticket: Ticket | None = None
    problem: str = ""
    is_missing: bool = False


def read_tickets(tier: TierConfig) -> tuple[Held, ...]:
    """All that the configuration names, in its order."""
    return tuple(map(_read, tier.forward.ticket)) if tier.forward else ()


def ticket_for(tier: TierConfig, held: Sequence[Held], at: int) -> Ticket | None:
    """Of these the one for the URL at this place of ``forward.to``. A tier that receives has one for each of its
    groups: any says who is above."""
    if tier.forward is None or not held:
        return None
    by_url = tier.forward.mode == "all" and not tier.receive
    return held[at if by_url else 0].ticket


def _read(path: Path) -> Held:
    """Raises nothing."""
    from cdr_plugin.identity.ticket import MAX_TICKET_BYTES, read_ticket

    try:
        with path.open(encoding="ascii") as file:
            text = file.read(MAX_TICKET_BYTES + 1)
        return Held(path, read_ticket(text, now_s=0))  # whether it has expired, whoever asks says
    except FileNotFoundError:
        return Held(path, problem="No such file or directory", is_missing=True)
    except OSError as error:
        return Held(path, problem=error.strerror or str(error))
    except UnicodeDecodeError:
        return Held(path, problem="not a text file")
    except CdrError as error:
        return Held(path, problem=str(error))
