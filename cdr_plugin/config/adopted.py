"""The policy that a tier has adopted: kept in its state, and in force until a newer one comes.

A file of its own, so that reading the configuration needs neither database nor keys: what is in it was verified
when it was adopted, and lies in a folder that is the tier's alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import msgspec

from cdr_plugin.errors import ConfigError
from cdr_plugin.files import write_durably

from .chain import Config
from .policy import Policy, Setting, apply, parse_policy
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


def in_force(config: Config) -> Config:
    """The configuration with what its tiers have adopted."""
    return replace(config, tiers={name: under_policy(tier)[0] for name, tier in config.tiers.items()})


def under_policy(tier: TierConfig) -> tuple[TierConfig, list[Setting]]:
    """The tier as it is under the policy that it has adopted, if it inherits one."""
    adopted = read_adopted(tier.state) if tier.policy == "inherit" else None
    return (tier, []) if adopted is None else apply(tier, adopted.policy)
