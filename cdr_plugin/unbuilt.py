"""Keys of the configuration that are understood but not carried out yet.

Ignoring one silently would be worse than refusing it: somebody relies on it.
"""

from __future__ import annotations

from collections.abc import Callable

from cdr_plugin.config.places import scheme_of
from cdr_plugin.config.schema import RetainConfig, TierConfig
from cdr_plugin.errors import ConfigError


def _asks_above(tier: TierConfig) -> bool:
    """Is there somebody above whose answers the tier can open?"""
    return tier.store is None and (tier.source is not None or _reduces(tier))


def _replicates(tier: TierConfig) -> bool:
    return tier.forward is not None and tier.forward.mode == "all" and len(tier.forward.to) > 1


def _any_group(tier: TierConfig, key: str) -> bool:
    return any(getattr(group, key) is not None for group in tier.groups.values())


def _opens(tier: TierConfig) -> bool:
    """Does it know whose each segment is that it takes?"""
    return tier.store is not None or _reduces(tier)


def _release(tier: TierConfig) -> str:
    return tier.forward.release if tier.forward else "committed"


def _folders(tier: TierConfig) -> list[str]:
    return [one.folder for one in tier.receive.agentless] if tier.receive else []


def _is_local(url: str) -> bool:
    return scheme_of(url) == "file"


def _reduces(tier: TierConfig) -> bool:
    """An intermediate tier that opens what it passes on, and keeps it for a while."""
    return bool(tier.receive and tier.forward and not tier.source and tier.reduce.methods)


def _moves(tier: TierConfig) -> bool:
    return bool(tier.receive and tier.forward and not _reduces(tier))


def _waits_for_above(tier: TierConfig) -> bool:
    return tier.forward is not None and "above" in tier.forward.when


def _is_two(tier: TierConfig) -> bool:
    return bool(tier.receive and tier.source and "commonality" in tier.reduce.methods)


def _retains(tier: TierConfig) -> bool:
    return bool(tier.receive and tier.receive.retain != RetainConfig())


_UNBUILT: tuple[tuple[str, Callable[[TierConfig], object]], ...] = (
    ("spool.max_size of a top tier", lambda t: t.store and not t.source and t.spool.max_size),
    ("forward.mode = 'all' of a tier that moves segments unopened", lambda t: _moves(t) and _replicates(t)),
    ("reduce.methods = ['commonality'] of a tier with a source", _is_two),
    ("forward.release = 'stored' of a tier that receives", lambda t: not t.source and _release(t) == "stored"),
    ("receive.retain of a tier that keeps nothing", lambda t: t.receive and not _reduces(t) and _retains(t)),
    ("receive.agentless.folder that is no folder of this machine", lambda t: not all(map(_is_local, _folders(t)))),
    ("reduce.methods of a top tier", lambda t: t.store and t.reduce.methods),
    ("group.NAME.when of a tier that opens nothing", lambda t: not _opens(t) and _any_group(t, "when")),
    ("group.NAME.limit of a tier that opens nothing", lambda t: not _opens(t) and _any_group(t, "limit")),
    ("group.NAME.retain of a tier that keeps nothing", lambda t: not _reduces(t) and _any_group(t, "retain")),
    ("group.NAME.quota of a tier that opens nothing", lambda t: not _opens(t) and _any_group(t, "quota")),
    ("forward.when with 'above' of a tier without keys", lambda t: _moves(t) and not t.source and _waits_for_above(t)),
    ("forward.SCHEME", lambda t: t.forward and any(t.forward.settings.values())),
    ("receive.SCHEME", lambda t: t.receive and any(t.receive.settings.values())),
    ("policy = 'inherit' of a tier without keys, or at the top", lambda t: t.policy != "own" and not _asks_above(t)),
)


def refuse_unbuilt(tier: TierConfig) -> None:
    """ConfigError that names the first key of ``tier`` which this version does not carry out."""
    for key, uses in _UNBUILT:
        if uses(tier):
            raise ConfigError(f"tier {tier.name}: {key} is not carried out by this version; remove it for now")
