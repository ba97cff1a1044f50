"""Central policy: what the top tier may say to the tiers of a group, and how it meets what they say themselves.

A policy is TOML with the tables and keys of a tier, of which it may have those below: windows, limits,
retention and exclusions; never a command, a path or an address. Where both say something, the
stricter holds: the least of two limits, all exclusions, the time that both windows have in common. So what is set
locally is a bound that no policy leaves, and merging twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from cdr_plugin.model.quantities import show

from .build import Whole, build
from .origin import KeyPath, Origin
from .schema import Rate, RetainConfig, Size, TierConfig
from .tables import parse_tables
from .when import build_when


def _central_when(table: object, path: KeyPath, origin: Origin) -> Mapping[str, Any]:
    from cdr_plugin.plugins import installed

    found = build_when(table, path, origin)
    for name in found:
        if not installed().condition(name).central:
            raise origin.error((*path, name), "not for a policy: its values may name commands, paths or addresses")
    return found


def _pattern(value: object) -> str:
    if not isinstance(value, str) or not value or value.startswith("!"):
        raise ValueError(f"expected a pattern that excludes, not {show(value)}")
    return value


def _file_name(value: object) -> str:
    if not isinstance(value, str) or not value or "/" in value:
        raise ValueError(f"expected the name of a file, not {show(value)}")
    return value


When: TypeAlias = Annotated[Mapping[str, Any], Whole(_central_when)]
Patterns: TypeAlias = tuple[Annotated[str, _pattern], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePolicy:
    """``source``: what clients leave out, and when they make versions."""

    exclude: Patterns = ()
    iexclude: Patterns = ()
    exclude_caches: bool = False
    exclude_if_present: tuple[Annotated[str, _file_name], ...] = ()
    exclude_larger_than: Size | None = None
    when: When = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolPolicy:
    """``spool``: how much may wait."""

    max_size: Size | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardPolicy:
    """``forward``: when to send, and how fast."""

    limit: Rate | None = None
    when: When = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivePolicy:
    """``receive``: when tiers take, how fast, how much, and how long they keep what they passed on."""

    limit: Rate | None = None
    max_size: Size | None = None
    retain: RetainConfig = field(default_factory=RetainConfig)
    when: When = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A whole policy. One that says nothing takes back what was said before."""

    source: SourcePolicy = field(default_factory=SourcePolicy)
    spool: SpoolPolicy = field(default_factory=SpoolPolicy)
    forward: ForwardPolicy = field(default_factory=ForwardPolicy)
    receive: ReceivePolicy = field(default_factory=ReceivePolicy)


def parse_policy(text: str, file: Path) -> Policy:
    """The policy in ``text``; ConfigError with ``file``, line and key."""
    return build(Policy, parse_tables(text, file), (), Origin(file, text))


class Says(StrEnum):
    """Whose word is in force."""

    LOCAL = "local"
    POLICY = "policy"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Setting:
    """A key of a tier that its policy speaks of. ``note``: why the policy's word does not hold, if it does not."""

    table: str
    key: str
    value: Any
    says: Says
    note: str = ""


def apply(tier: TierConfig, policy: Policy) -> tuple[TierConfig, list[Setting]]:
    """The tier as it is under the policy, and what became of each key of it. Tables that the tier does not have
    stay away: a policy makes no client of a tier."""
    settings = list(_settings(tier, policy))
    changed: dict[str, Any] = {}
    for setting in settings:
        table = changed.get(setting.table, getattr(tier, setting.table))
        changed[setting.table] = replace(table, **{setting.key: setting.value})
    return replace(tier, **changed), settings


def of_whole(tier: TierConfig, policy: Policy) -> Policy:
    """What of it is said to the tier as a whole, where the policy is that of one part among several: a client makes
    its versions for all storages at once, and a tier that reduces receives and sends for all groups at once."""
    if tier.source is not None:
        return Policy(source=SourcePolicy(when=policy.source.when))
    return replace(policy, spool=SpoolPolicy(), receive=replace(policy.receive, retain=RetainConfig()))


def _settings(tier: TierConfig, policy: Policy) -> Iterator[Setting]:
    for table in fields(policy):
        own, central = getattr(tier, table.name), getattr(policy, table.name)
        if own is None or (table.name == "spool" and tier.store is not None):
            continue
        for item in fields(central):
            said = getattr(central, item.name)
            if said not in (None, False, (), {}, RetainConfig()):
                yield _met(table.name, item.name, getattr(own, item.name), said)


def _met(table: str, key: str, local: Any, central: Any) -> Setting:
    value, note = _together(local, central) if key == "when" else (_MEETINGS.get(key, _least)(local, central), "")
    says = Says.LOCAL if value == local else Says.POLICY if value == central else Says.BOTH
    return Setting(table, key, value, says, note)


def _least(local: int | None, central: int | None) -> int | None:
    return min((limit for limit in (local, central) if limit is not None), default=None)


def _all(local: tuple[str, ...], central: tuple[str, ...]) -> tuple[str, ...]:
    """Its patterns first: a local ``!`` is the word of whoever owns the files."""
    return tuple(dict.fromkeys((*central, *local)))


def _either(local: bool, central: bool) -> bool:
    return local or central


def _shortest(local: RetainConfig, central: RetainConfig) -> RetainConfig:
    return RetainConfig(for_s=_least(local.for_s, central.for_s), max_size=_least(local.max_size, central.max_size))


def _together(local: Mapping[str, Any], central: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """All conditions of both. Where one is set twice in a way that could never be met, the local word stands, and a
    note says so."""
    from cdr_plugin.plugins import installed

    met, notes = dict(local), []
    for name, value in central.items():
        try:
            met[name] = installed().condition(name).both(value, local[name]) if name in local else value
        except ValueError as error:
            notes.append(str(error))
    return met, "; ".join(notes)


_MEETINGS: Mapping[str, Callable[[Any, Any], Any]] = {
    "exclude": _all,
    "iexclude": _all,
    "exclude_if_present": _all,
    "exclude_caches": _either,
    "retain": _shortest,
}
"""How a key of the policy meets the local one, where it is not a limit."""
