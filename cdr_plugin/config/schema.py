"""Every table and key of the configuration file, with types, defaults and meaning.

A field is a key of the same name unless ``named`` says otherwise. Types are built and checked by
``build``: the annotation tells how (``Annotated[..., parser]`` where the TOML type is not enough).
Sizes are bytes, rates bytes per second, durations seconds; absent means no limit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from cdr_plugin.model.quantities import parse_duration, parse_rate, parse_size

from .build import Extra, Located, OneOrMany, Tables, Whole, named
from .places import parse_location, parse_name, parse_path, parse_template, parse_url, schemes
from .values import command, fraction, keep_count, restic_duration, source_map, stated_facts, time_zone
from .when import build_when

Size: TypeAlias = Annotated[int, parse_size]
Rate: TypeAlias = Annotated[int, parse_rate]
Duration: TypeAlias = Annotated[int, parse_duration]
Command: TypeAlias = Annotated[str, command]
KeepCount: TypeAlias = Annotated[int, keep_count]
Place: TypeAlias = Annotated[Path, Located(parse_path)]
Name: TypeAlias = Annotated[str, Located(parse_name)]
Urls: TypeAlias = Annotated[tuple[str, ...], OneOrMany(Located(parse_url))]
When: TypeAlias = Annotated[Mapping[str, Any], Whole(build_when)]
"""Condition name -> value as in TOML, checked; empty: always convenient."""


class Role(Enum):
    """What a tier is, by its tables; the value is what users see."""

    CLIENT = "client"
    INTERMEDIATE = "intermediate"
    TOP = "top"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfig:
    """``source``: what a client backs up."""

    paths: tuple[Place, ...]
    exclude: tuple[str, ...] = ()
    iexclude: tuple[str, ...] = ()
    exclude_file: Annotated[tuple[Path, ...], OneOrMany(Located(parse_path))] = ()
    exclude_caches: bool = False
    exclude_if_present: tuple[str, ...] = ()
    exclude_larger_than: Size | None = None
    one_file_system: bool = False
    timezone: Annotated[str, time_zone] | None = None
    """IANA name; absent: the one that ``cdr init`` found and fixed in the state."""
    map: Annotated[Mapping[str, str], source_map] = field(default_factory=dict)
    """Where something is now (absolute) -> the path under which it is backed up (absolute)."""
    before: Command | None = None
    after: Command | None = None
    when: When = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReduceConfig:
    """``reduce``: methods in the order in which they are tried, and a table for each that has settings."""

    methods: tuple[str, ...]
    """Absent: ``("delta", "zstd")`` for a client; none for others, which then move segments unopened."""
    baseline: Literal["signature", "copy"] = "signature"
    settings: Annotated[Tables, Extra(lambda table: table.get("methods", ()))] = field(default_factory=dict)
    """Method name -> its own table (``[tier.NAME.reduce.zstd]``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolConfig:
    """``spool``: where parcels wait."""

    max_size: Size | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardConfig:
    """``forward``: where parcels go, and when."""

    to: Urls
    mode: Literal["first-reachable", "all"] = "first-reachable"
    release: Literal["committed", "stored", "durable"] = "committed"
    ticket: Annotated[tuple[Path, ...], OneOrMany(Located(parse_path))] = ()
    """Of a client one, with ``mode = "all"`` one for each storage, in the order of ``to``; of a tier that receives
    so many for each of its groups."""
    limit: Rate | None = None
    when: When = field(default_factory=dict)
    settings: Annotated[Tables, Extra(schemes("to"))] = field(default_factory=dict)
    """URL scheme -> the transport's own table (``[tier.NAME.forward.sftp]``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetainConfig:
    """``retain``: how long received bytes stay after they have been passed on."""

    for_s: Duration | None = field(default=None, metadata=named("for"))
    max_size: Size | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentlessConfig:
    """One of ``receive.agentless``: a folder of plain files that the tier backs up for a client."""

    client: Name
    group: Name
    folder: Annotated[str, Located(parse_url)]
    ticket: Annotated[Path, Located(parse_path)] | None = None
    """For the client; needed where the tier that gives out tickets is in another file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveConfig:
    """``receive``: the inboxes of a tier."""

    inbox: Urls
    seen_as: Urls = ()
    """The same inboxes as tiers below name them from other machines: a mount, an address. For drawing and
    checking several files together; nothing is opened under these names."""
    layout: Literal["per-client", "per-group", "shared"] = "per-client"
    when: When = field(default_factory=dict)
    max_size: Size | None = None
    limit: Rate | None = None
    retain: RetainConfig = field(default_factory=RetainConfig)
    agentless: tuple[AgentlessConfig, ...] = ()
    settings: Annotated[Tables, Extra(schemes("inbox"))] = field(default_factory=dict)
    """URL scheme -> the transport's own table (``[tier.NAME.receive.smb]``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupConfig:
    """``group.NAME`` of a receiving tier: what differs from ``receive`` for one group."""

    match: Mapping[str, str] = field(default_factory=dict)
    """Facts of a client for which this group is proposed."""
    inbox: Urls = ()
    when: When | None = None
    limit: Rate | None = None
    retain: RetainConfig | None = None
    quota: Size | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetConfig:
    """``store.forget``: restic's options of the same names; nothing is kept by a rule that is absent."""

    every_s: Duration = field(default=86400, metadata=named("every"))
    keep_last: KeepCount | None = None
    keep_hourly: KeepCount | None = None
    keep_daily: KeepCount | None = None
    keep_weekly: KeepCount | None = None
    keep_monthly: KeepCount | None = None
    keep_yearly: KeepCount | None = None
    keep_within: Annotated[str, restic_duration] | None = None
    keep_tag: tuple[str, ...] = ()
    prune: bool = False

    @property
    def has_rule(self) -> bool:
        """Does it say what to keep?"""
        own = (item for item in fields(self) if item.name.startswith("keep_"))
        return any(getattr(self, item.name) for item in own)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckConfig:
    """``store.check``: how often the repository is checked, and how much of it is read back."""

    every_s: Duration = field(default=7 * 86400, metadata=named("every"))
    read_data_subset: Annotated[str, fraction] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    """``store``: the repository of a top tier, or one per group where the location says ``{group}``."""

    format: str = "restic"
    repository: Annotated[str, Located(parse_location)]
    password_file: Annotated[Path, Located(parse_template)] | None = None
    password_command: Command | None = None
    compression: Literal["auto", "off", "fastest", "better", "max"] = "auto"
    pack_size: Size | None = None
    reduce: Literal["inline", "after"] = "inline"
    when: When = field(default_factory=dict)
    """When to check and to forget, and, where ``reduce`` is ``after``, to reduce what has landed."""
    pin_for_s: Duration = field(default=180 * 86400, metadata=named("pin_for"))
    forget: ForgetConfig | None = None
    check: CheckConfig | None = None
    settings: Annotated[Tables, Extra(lambda table: [table.get("format", "restic")])] = field(default_factory=dict)
    """Format name -> its own table (``[tier.NAME.store.restic]``)."""

    def repository_of(self, group: str) -> str:
        """The repository location of one group."""
        return self.repository.replace("{group}", group)

    def password_file_of(self, group: str) -> Path | None:
        return self.password_file and Path(str(self.password_file).replace("{group}", group))

    def password_command_of(self, group: str) -> str | None:
        return self.password_command and self.password_command.replace("{group}", group)


@dataclass(frozen=True, slots=True, kw_only=True)
class TierConfig:
    """``tier.NAME``."""

    name: str = field(default="", metadata=named(""))
    """The table's own name, not a key in it."""
    client: str = field(default="", metadata=named(""))
    """The name by which tiers above know it, where that is another one; see ``queues_of``."""
    group: Name | None = None
    state: Place
    identity: Place
    policy: Literal["inherit", "own"] = "own"
    facts: Annotated[Mapping[str, str], stated_facts] = field(default_factory=dict)
    """What it says of itself when it enrols, such as its site."""
    source: SourceConfig | None = None
    reduce: ReduceConfig
    spool: SpoolConfig = field(default_factory=SpoolConfig)
    forward: ForwardConfig | None = None
    receive: ReceiveConfig | None = None
    groups: Mapping[str, GroupConfig] = field(default_factory=dict, metadata=named("group"))
    store: StoreConfig | None = None

    @property
    def roles(self) -> tuple[Role, ...]:
        """All that the tables make it; a tier may be a client and a receiver at once."""
        found = [Role.CLIENT] if self.source else []
        if self.store:
            found.append(Role.TOP)
        elif self.receive:
            found.append(Role.INTERMEDIATE)
        return tuple(found)

    @property
    def role(self) -> Role:
        """The highest of ``roles``."""
        return self.roles[-1]
