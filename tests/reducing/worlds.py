"""Small hierarchies with tiers that reduce."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

from tests.support.tiers import Tiers

CLIENT = """
[tier.{name}]
group = "{group}"
state = "{name}-state"
identity = "{name}-identity"
source = {{ paths = ["{name}"] }}
reduce = {{ methods = ["delta", "zstd"] }}
forward = {{ to = "file:{to}/inbox" }}
"""
REDUCING = """
[tier.{name}]
state = "{name}/state"
identity = "{name}/identity"
receive = {{ inbox = "file:{name}/inbox" {retain} }}
reduce = {{ methods = ["commonality"] }}
forward = {{ to = {to}, mode = "{mode}" }}
"""
MOVING = """
[tier.{name}]
state = "{name}/state"
identity = "{name}/identity"
receive = {{ inbox = "file:{name}/inbox" }}
forward = {{ to = "file:{to}/inbox" }}
"""
TOP = """
[tier.{name}]
state = "{name}/state"
identity = "{name}/identity"
receive = {{ inbox = "file:{name}/inbox" }}
store = {{ repository = "{name}/repository-{{group}}", password_file = "password" }}
"""


def client(name: str, to: str, group: str = "g") -> str:
    return CLIENT.format(name=name, to=to, group=group)


def reducing(name: str, *to: str, retain: str = "") -> str:
    urls = [f"file:{one}/inbox" for one in to]
    mode = "all" if len(to) > 1 else "first-reachable"
    return REDUCING.format(name=name, to=urls if len(urls) > 1 else f'"{urls[0]}"', mode=mode, retain=retain)


def moving(name: str, to: str) -> str:
    return MOVING.format(name=name, to=to)


def top(name: str = "hq") -> str:
    return TOP.format(name=name)


def fill(base: Path, names: Iterable[str], seed: int = 1, shared: int = 14, own: int = 6) -> None:
    """Each client's folder: files that all have, and some of its own."""
    for name in names:
        (base / name).mkdir(parents=True, exist_ok=True)
        for at in range(shared):
            write(base / name / f"shared-{at}", seed + at)
        for at in range(own):
            write(base / name / f"own-{at}", hash_of(name) + at)


def write(path: Path, seed: int, size: int = 30_000) -> None:
    path.write_bytes(random.Random(seed).randbytes(size))


def hash_of(name: str) -> int:
    return int.from_bytes(name.encode(), "big") << 8


def change(base: Path, name: str, at: int) -> None:
    """Another version: one file changes in place, one is new, one goes."""
    folder = base / name
    data = bytearray((folder / "own-0").read_bytes())
    data[100 * at : 100 * at + 20] = f"change {at} of {name:>10}"[:20].encode()
    (folder / "own-0").write_bytes(data)
    write(folder / f"new-{at}", hash_of(name) + 1000 + at, 5_000)
    if (gone := folder / f"new-{at - 2}").exists():
        gone.unlink()


def branch_world(base: Path, clients: Iterable[str] = ("a", "b"), retain: str = "") -> Tiers:
    """Clients below one branch that reduces, below the top tier."""
    names = list(clients)
    fill(base, names)
    text = "".join(client(name, "branch") for name in names) + reducing("branch", "hq", retain=retain) + top()
    return Tiers.make(base, text)
