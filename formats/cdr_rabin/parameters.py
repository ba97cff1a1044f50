"""The parameters of the splitter: which values are sound, whoever wrote them.

============  ==============  ===================================================================
parameter     allowed         reason
============  ==============  ===================================================================
polynomial    degree 53       restic's; must be irreducible, or the fingerprint loses its spread
min_size      64 bytes up     the window
max_size      up to 8 MiB     restic's maximum, and the limit for data blobs of every receiver
average_bits  1 to 32         the kernel's mask
============  ==============  ===================================================================
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

from cdr_plugin.contracts import Settings
from cdr_plugin.errors import FormatError
from cdr_plugin.kernel.polynomial import DEGREE, is_irreducible, random_polynomial
from cdr_plugin.model.blobs import MAX_DATA_BLOB_BYTES

WINDOW_BYTES = 64
MIN_SIZE = 512 * 1024
MAX_SIZE = 8 * 1024 * 1024
AVERAGE_BITS = 20
"""restic's sizes, and the defaults."""
MAX_AVERAGE_BITS = 32

_HEX = re.compile(r"[0-9a-f]{1,16}").fullmatch


@dataclass(frozen=True, slots=True)
class Parameters:
    """Checked parameters. ``polynomial``: bit i is the coefficient of x^i; sizes in bytes."""

    polynomial: int
    min_size: int
    max_size: int
    average_bits: int


_KEYS = frozenset(("name", "polynomial", "min_size", "max_size", "average_bits"))


def parsed(parameters: Settings) -> Parameters:
    """FormatError unless all of it is sound and known; half-understood parameters would split
    otherwise than the group's other clients do."""
    unknown = sorted(set(parameters) - _KEYS)
    if unknown:
        raise _bad(f"unknown parameter {unknown[0]!r}")
    if parameters.get("name", "rabin") != "rabin":
        raise _bad(f"name is {parameters['name']!r}, not 'rabin'")
    polynomial = _polynomial(parameters.get("polynomial"))
    min_size = _number(parameters, "min_size", MIN_SIZE, WINDOW_BYTES, MAX_DATA_BLOB_BYTES)
    max_size = _number(parameters, "max_size", MAX_SIZE, min_size, MAX_DATA_BLOB_BYTES)
    average_bits = _number(parameters, "average_bits", AVERAGE_BITS, 1, MAX_AVERAGE_BITS)
    return Parameters(polynomial, min_size, max_size, average_bits)


def for_new_group(settings: Settings) -> dict[str, str | int]:
    """Parameters in the form that tickets carry; a random polynomial where ``settings`` has none."""
    wanted = dict(settings)
    wanted.setdefault("polynomial", f"{random_polynomial():x}")
    checked = parsed(wanted)
    return {"name": "rabin", **asdict(checked), "polynomial": f"{checked.polynomial:x}"}


def _polynomial(text: object) -> int:
    if not isinstance(text, str) or not _HEX(text):
        raise _bad(f"polynomial must be lower-case hexadecimal text, not {str(text)[:40]!r}")
    polynomial = int(text, 16)
    if polynomial.bit_length() - 1 != DEGREE:
        raise _bad(f"polynomial {text} has not degree {DEGREE}")
    if not is_irreducible(polynomial):
        raise _bad(f"polynomial {text} is not irreducible")
    return polynomial


def _number(parameters: Settings, key: str, default: int, low: int, high: int) -> int:
    value = parameters.get(key, default)
    if type(value) is not int or not low <= value <= high:
        raise _bad(f"{key} must be a whole number from {low} to {high}, not {str(value)[:40]}")
    return value


def _bad(reason: str) -> FormatError:
    return FormatError(f"parameters of the splitter 'rabin': {reason}")
