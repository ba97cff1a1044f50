"""Keys of the configuration that are understood but not carried out yet.

Ignoring one silently would be worse than refusing it: somebody relies on it.
"""

from __future__ import annotations

from collections.abc import Callable

from cdr_plugin.config.schema import RetainConfig, TierConfig
from cdr_plugin.errors import ConfigError

_UNBUILT: tuple[tuple[str, Callable[[TierConfig], object]], ...] = (
    ("source.map", lambda t: t.source and t.source.map),
    ("source.when", lambda t: t.source and t.source.when),
    ("spool.max_size", lambda t: t.spool.max_size),
    ("forward.to with several storages", lambda t: t.forward and len(t.forward.to) > 1),
    ("forward.release other than 'committed'", lambda t: t.forward and t.forward.release != "committed"),
    ("forward.limit", lambda t: t.forward and t.forward.limit),
    ("forward.when", lambda t: t.forward and t.forward.when),
    ("receive.layout other than 'per-client'", lambda t: t.receive and t.receive.layout != "per-client"),
    ("receive.when", lambda t: t.receive and t.receive.when),
    ("receive.max_size", lambda t: t.receive and t.receive.max_size),
    ("receive.limit", lambda t: t.receive and t.receive.limit),
    ("receive.retain", lambda t: t.receive and t.receive.retain != RetainConfig()),
    ("receive.agentless", lambda t: t.receive and t.receive.agentless),
    ("reduce.methods of an intermediate tier", lambda t: not t.source and t.forward and t.reduce.methods),
    ("reduce.baseline = 'copy'", lambda t: t.reduce.baseline != "signature"),
    ("store.reduce = 'after'", lambda t: t.store and t.store.reduce != "inline"),
    ("store.forget", lambda t: t.store and t.store.forget),
    ("store.check", lambda t: t.store and t.store.check),
    ("policy = 'inherit'", lambda t: t.policy != "own"),
)


def refuse_unbuilt(tier: TierConfig) -> None:
    """ConfigError that names the first key of ``tier`` which this version does not carry out."""
    for key, uses in _UNBUILT:
        if uses(tier):
            raise ConfigError(f"tier {tier.name}: {key} is not carried out by this version; remove it for now")
