"""The check of integer arguments which all kernels in Python share, with the words of those in C."""

from operator import index


def check(name: str, value: int, low: int, high: int) -> None:
    """ValueError unless the value is between these; TypeError if it is no integer."""
    if not low <= index(value) <= high:
        raise ValueError(f"{name} must be between {low} and {high}, not {index(value)}")
