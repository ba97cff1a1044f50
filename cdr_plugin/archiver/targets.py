"""Where targets stand in the snapshot: restic's layout of absolute, relative and overlapping ones.

An absolute target keeps its path, a relative one its cleaned components without leading ``..``.
Targets that are only ``.``, ``..`` or ``/`` are replaced by their entries. When two targets from
different places claim one first component, the second is renamed ``name-1``. A target inside
another one is merged into it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cdr_plugin.archiver.mapped import Locator, clean
from cdr_plugin.errors import UserError


@dataclass(slots=True)
class Place:
    """One name in the snapshot: a target (``path`` is set), or a folder on the way to some.

    ``path`` and ``info_path`` are as typed, maybe relative. A folder on the way has the metadata of
    ``info_path``, links followed.
    """

    path: bytes | None = None
    info_path: bytes = b""
    root: bytes = b""
    children: dict[bytes, Place] = field(default_factory=dict)


def working_directory() -> bytes:
    """As Go sees it: ``$PWD`` where that names the working directory, so that links stay."""
    named = os.fsencode(os.environ.get("PWD", ""))
    try:
        if named.startswith(b"/") and os.path.samefile(named, b"."):
            return clean(named)
    except OSError:
        pass
    return os.getcwdb()


def lay_out(targets: Sequence[bytes], locator: Locator) -> Place:
    """The layout of existing targets; OSError when a folder that must be expanded cannot be listed."""
    top = Place()
    for target in dict.fromkeys(_without_dots(targets, locator)):
        _add(top, target)
    _unroll(top, locator)
    return top


def _without_dots(targets: Iterable[bytes], locator: Locator) -> Iterable[bytes]:
    for target in map(clean, targets):
        if _components(target):
            yield target
        else:
            for name in locator.names(target):
                yield clean(os.path.join(target, name))


def _components(target: bytes) -> list[bytes]:
    """The names under the root of the snapshot: leading ``..`` vanish."""
    return [part for part in clean(b"/" + target).split(b"/") if part]


def _origin(target: bytes) -> bytes:
    """The folder in which the first component of a target stands: ``/``, ``.``, ``..``, ``../..``"""
    if target.startswith(b"/"):
        return b"/"
    ups = target.split(b"/").count(b"..")
    return b"/".join([b".."] * ups) or b"."


def _add(top: Place, target: bytes) -> None:
    components = _components(target)
    origin = _origin(target)
    name, place = _first_place(top, components[0], origin)
    top.children[name] = place
    path = clean(os.path.join(origin, components[0]))
    for component in components[1:]:
        place.info_path = path
        place = place.children.setdefault(component, Place())
        path = clean(os.path.join(path, component))
    if place.path not in (None, target):
        raise UserError(f"{target!r}: two targets claim the same place in the snapshot")
    place.path = target


def _first_place(top: Place, wanted: bytes, origin: bytes) -> tuple[bytes, Place]:
    name, number = wanted, 0
    while (other := top.children.get(name)) is not None:
        if other.root == origin:
            return name, other
        number += 1
        name = b"%b-%d" % (wanted, number)
    return name, Place(root=origin)


def _unroll(place: Place, locator: Locator) -> None:
    """Let targets stand at leaves only: one with targets inside becomes the list of its entries."""
    if place.path is not None and place.children:
        for name in locator.names(place.path):
            child = place.children.setdefault(name, Place())
            if child.path is None:
                child.path = clean(os.path.join(place.path, name))
        place.path = None
    for child in place.children.values():
        _unroll(child, locator)
