"""Which file descriptors this process holds."""

import os


def open_descriptors() -> list[str]:
    """Descriptor numbers with what they refer to, without the one that does the listing."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(f"{number} {os.readlink(f'/proc/self/fd/{number}')}")
        except FileNotFoundError:
            continue
    return sorted(found)
