"""The checks of arguments which the kernels in Python share, with the words of those in C."""

from operator import index


def check(name: str, value: int, low: int, high: int) -> None:
    """ValueError unless the value is between these; TypeError if it is no integer."""
    if not low <= index(value) <= high:
        raise ValueError(f"{name} must be between {low} and {high}, not {index(value)}")


def check_bytes(what: str, value: bytes) -> None:
    """TypeError or ValueError unless the value can be a C string."""
    if not isinstance(value, bytes):
        raise TypeError(f"{what} must be bytes, not {type(value).__name__}")
    if b"\0" in value:
        raise ValueError(f"{what} contains a null byte: {value!r}")


def check_name(name: bytes) -> None:
    """TypeError or ValueError unless this can name a file in a directory. A slash would have the kernel
    follow symbolic links in the middle of it."""
    check_bytes("name", name)
    if b"/" in name:
        raise ValueError(f"name contains a slash: {name!r}")
