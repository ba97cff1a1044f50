"""The steps in which a batch of files is made, as its failures name them."""

from enum import IntEnum


class Step(IntEnum):
    """In their order. After ``OWN``, ``MODE`` and ``TIMES`` a file is in place all the same."""

    CREATE = 1
    WRITE = 2
    OWN = 3
    MODE = 4
    TIMES = 5
    CLOSE = 6
    LOOK = 7
    """At the final name, which ``keep`` asks for; EEXIST when something is there."""
    RENAME = 8
