r"""File names in trees: Go's ``strconv.Quote`` without the outer quotes, and back.

Names are bytes outside, quoted text inside a tree. Bytes that are not UTF-8 become ``\xNN``;
Python's ``surrogateescape`` marks exactly the bytes that Go calls invalid.
"""

from __future__ import annotations

import re
import unicodedata

from cdr_plugin.errors import FormatError

_PLAIN = re.compile(rb"[ !#-\[\]-~]*").fullmatch
_SHORT = {
    '"': '\\"',
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}
_UNSHORT = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, '"': 34}
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\\"])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3}))|[\"\\\n]"
)


def quote_name(name: bytes) -> str:
    """The form in which a tree holds ``name``."""
    if _PLAIN(name):
        return name.decode("ascii")
    return "".join(map(_quote_char, name.decode("utf-8", "surrogateescape")))


def _quote_char(char: str) -> str:
    short = _SHORT.get(char)
    if short is not None:
        return short
    code = ord(char)
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if char == " " or unicodedata.category(char)[0] in "LMNPS":
        return char
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def unquote_name(quoted: str) -> bytes:
    """The file name that ``quoted`` stands for; FormatError when it is no quoted name."""
    if '"' not in quoted and "\\" not in quoted and "\n" not in quoted:
        return _encode(quoted, quoted)
    parts: list[bytes] = []
    position = 0
    for match in _ESCAPE.finditer(quoted):
        parts.append(_encode(quoted[position : match.start()], quoted))
        parts.append(_unescape(match, quoted))
        position = match.end()
    parts.append(_encode(quoted[position:], quoted))
    return b"".join(parts)


def _unescape(match: re.Match[str], quoted: str) -> bytes:
    short, byte, bmp, astral, octal = match.groups()
    if short is not None:
        return bytes((_UNSHORT[short],))
    if byte is not None:
        return bytes.fromhex(byte)
    if octal is not None and int(octal, 8) < 256:
        return bytes((int(octal, 8),))
    code = bmp or astral
    if code is not None and int(code, 16) < 0x110000:
        return _encode(chr(int(code, 16)), quoted)
    raise FormatError(f"tree: {quoted[:80]!r} is not a quoted name")


def _encode(text: str, quoted: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise FormatError(f"tree: {quoted[:80]!r} is not a quoted name") from None
