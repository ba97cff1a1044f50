"""The policies that a tier has adopted: kept in its state, each in force until a newer one comes.

One, or one for each group and each hierarchy (``forward.mode = "all"``) that it is of. Each holds for its own part of
the tier; of what belongs to the tier as a whole, such as when it receives, the stricter holds.

A file of its own, so that reading the configuration needs neither database nor keys: what is in it was verified
when it was adopted, and lies in a folder that is the tier's alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import msgspec

from cdr_plugin.errors import ConfigError
from cdr_plugin.files import write_durably

from .chain import Config
from .policy import Policy, apply, of_whole, parse_policy
from .queues import queues_of, ways_up
from .schema import TierConfig

_NAME = "policy.json"


@dataclass(frozen=True)
class Adopted:
    """``text``: the policy; ``group``, ``issuer`` (the name of the top tier) and ``key`` (its fingerprint, hex): whose
    it is; ``serial``: no lower one of the same key is taken; ``adopted_s``: seconds since 1970."""

    serial: int
    group: str
    issuer: str
    key: str
    adopted_s: int
    text: str

    @cached_property
    def policy(self) -> Policy:
        """ConfigError when this version, or the plugins that are left, cannot carry it out."""
        return parse_policy(self.text, Path(f"policy of group {self.group}"))


def adopted_file(state: Path) -> Path:
    """Where it is, in the state folder of a tier."""
    return state / _NAME


def read_adopted(state: Path) -> Adopted | None:
    """None when nothing was adopted yet; ConfigError when the file is damaged: limits must not be lost in silence."""
    path = adopted_file(state)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Adopted)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"adopted policy {path}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ConfigError(f"adopted policy {path}: damaged ({error}); remove it, 'cdr send' takes it anew") from None


def write_adopted(state: Path, adopted: Adopted) -> None:
    """Durable on return."""
    write_durably(adopted_file(state), msgspec.json.encode(adopted))


# --- what is in force ---


@dataclass(frozen=True)
class Part:
    """What of a tier inherits for itself: a client, each queue of one that replicates, each group of a tier that
    reduces. ``tier``: as which it is set up; ``group``: empty where its ticket says it; ``adopted``: its policies,
    several where a group has several ways up."""

    tier: TierConfig
    group: str
    adopted: tuple[Adopted, ...]

    @property
    def in_force(self) -> TierConfig:
        """The part as it is under its policies: of what several of them set, the stricter."""
        return _under(self.tier, (one.policy for one in self.adopted))


def in_force(config: Config) -> Config:
    """The configuration with what its tiers have adopted. What belongs to a part of a tier is in force there alone."""
    return replace(config, tiers={name: _as_a_whole(tier) for name, tier in config.tiers.items()})


def parts_of(tier: TierConfig) -> list[Part]:
    """In the order of storages, or of groups: those that have been set up."""
    if tier.source is not None or tier.receive is None:
        return [Part(one, one.group or "", _adopted(one, [one.state])) for one in queues_of(tier)]
    names = [name for name, _ in ways_up(tier.forward)] if tier.forward is not None else []
    groups = {folder.parent.name for name in names for folder in tier.state.glob(f"*/{name}")}
    return [part_of(tier, group) for group in sorted(groups)]


def part_of(tier: TierConfig, group: str) -> Part:
    """Of a tier that reduces: one of its groups."""
    assert tier.receive is not None
    assert tier.forward is not None
    folders = policy_folders(tier, group)
    own = tier.groups.get(group)
    retain = own.retain if own is not None and own.retain is not None else tier.receive.retain
    part = replace(tier, receive=replace(tier.receive, retain=retain))
    return Part(part, group, _adopted(tier, folders) or _adopted_before(tier, group))


def policy_folders(tier: TierConfig, group: str) -> list[Path]:
    """Where each way up of a group keeps the policy that it has adopted."""
    assert tier.forward is not None
    return [tier.state / group / name for name, _ in ways_up(tier.forward)]


def policy_files(tier: TierConfig) -> list[Path]:
    """All whose change changes what is in force at the tier."""
    if tier.policy != "inherit":
        return []
    if tier.source is not None or tier.receive is None:
        return [adopted_file(one.state) for one in queues_of(tier)]
    folders = [folder for part in parts_of(tier) for folder in policy_folders(tier, part.group)]
    return list(map(adopted_file, [tier.state, *folders]))


def _adopted(tier: TierConfig, folders: Iterable[Path]) -> tuple[Adopted, ...]:
    found = map(read_adopted, folders if tier.policy == "inherit" else ())
    return tuple(one for one in found if one is not None)


def _adopted_before(tier: TierConfig, group: str) -> tuple[Adopted, ...]:
    """Where a tier that reduces kept it while it could have one only; nothing is written there any more."""
    return tuple(one for one in _adopted(tier, [tier.state]) if one.group == group)


def _as_a_whole(tier: TierConfig) -> TierConfig:
    if tier.policy != "inherit":
        return tier
    parts = parts_of(tier)
    policies = [one.policy for part in parts for one in part.adopted]
    return _under(tier, policies if len(parts) == 1 else (of_whole(tier, one) for one in policies))


def _under(tier: TierConfig, policies: Iterable[Policy]) -> TierConfig:
    for policy in policies:
        tier, _ = apply(tier, policy)
    return tier
