"""Configuration in few words, for boxes and arrows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cdr_plugin.config.places import scheme_of
from cdr_plugin.model.quantities import format_duration, format_rate, format_size

if TYPE_CHECKING:
    from cdr_plugin.config.schema import (
        CheckConfig,
        ForgetConfig,
        ForwardConfig,
        ReceiveConfig,
        StoreConfig,
        TierConfig,
    )


def tier_words(tier: TierConfig) -> Iterator[str]:
    """What a tier does, a few words a line."""
    if tier.source:
        yield from _reduction(tier)
        if tier.source.when:
            yield f"backs up {', '.join(when_words(tier.source.when))}"
    elif not tier.store:
        yield from _reduction(tier)
    if tier.spool.max_size:
        yield f"spool at most {format_size(tier.spool.max_size)}"
    if tier.receive:
        yield from _receiving(tier.receive)
        quotas = ((name, group.quota) for name, group in tier.groups.items() if group.quota)
        yield from (f"quota in {name}: {format_size(quota)} a client" for name, quota in quotas)
    if tier.policy == "inherit":
        yield "adopts the central policy"
    if tier.store:
        yield from _storing(tier.store)


def arrow_words(forward: ForwardConfig, at: int) -> Iterator[str]:
    """How parcels travel to this one of ``forward.to``: the scheme first, then when and how fast."""
    yield scheme_of(forward.to[at])
    if at and forward.mode == "first-reachable":
        yield f"if {'the first does' if at == 1 else 'those before do'} not answer"
        return  # all else is as on the first
    yield from when_words(forward.when)
    if forward.limit:
        yield f"at most {format_rate(forward.limit)}"
    if forward.release != "committed":
        yield f"frees once {forward.release}"


def when_words(when: Mapping[str, Any]) -> Iterator[str]:
    """A phrase for each condition of a ``when`` table; nothing for what always holds."""
    for name, value in when.items():
        words = _CONDITIONS.get(name, lambda given, name=name: f"{name} = {given}")(value)
        if words:
            yield words


def _many(value: object) -> str:
    return " or ".join(map(str, value)) if isinstance(value, list) else str(value)


_CONDITIONS: dict[str, Callable[[Any], str]] = {
    "window": _many,
    "every": lambda value: f"every {value}",
    "reachable": lambda value: "while reachable" if value is True else f"while {_many(value)} answers",
    "load_below": lambda value: f"load below {value}",
    "on_battery": lambda value: "" if value else "on mains",
    "metered": lambda value: "" if value else "not metered",
    "disk_idle": lambda value: f"disks below {value}",
    "network_idle": lambda value: f"network below {value}",
    "command": lambda value: f"if '{value}'",
}


def _reduction(tier: TierConfig) -> Iterator[str]:
    if tier.reduce.methods:
        copy = ", with a copy" if tier.source and tier.reduce.baseline == "copy" else ""
        yield f"reduces: {', '.join(tier.reduce.methods)}{copy}"
    else:
        yield "sends blobs whole" if tier.source else "moves segments unopened"


def _receiving(receive: ReceiveConfig) -> Iterator[str]:
    when = ", ".join(when_words(receive.when))
    if when:
        yield f"receives {when}"
    if receive.max_size:
        yield f"inbox at most {format_size(receive.max_size)}"
    retain = receive.retain
    limits = [format_duration(retain.for_s)] if retain.for_s else []
    limits += [f"at most {format_size(retain.max_size)}"] if retain.max_size else []
    if limits:
        yield f"retains {', '.join(limits)}"


def _storing(store: StoreConfig) -> Iterator[str]:
    yield f"{store.format}: {store.repository}"
    if store.reduce == "after":
        yield ", ".join(("reduces after landing", *when_words(store.when)))
    if store.forget:
        yield f"keeps {_kept(store.forget)}{', prunes' if store.forget.prune else ''}"
    if store.check:
        yield _checked(store.check)


def _kept(forget: ForgetConfig) -> str:
    spans = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
    counts = [(span, getattr(forget, f"keep_{span}")) for span in spans]
    said = [f"{'all' if count < 0 else count} {span}" for span, count in counts if count is not None]
    said += [f"within {forget.keep_within}"] if forget.keep_within else []
    said += [f"tag {tag}" for tag in forget.keep_tag]
    return ", ".join(said) or "everything"


def _checked(check: CheckConfig) -> str:
    every = f" every {format_duration(check.every_s)}" if check.every_s else ""
    subset = f", reads {check.read_data_subset}" if check.read_data_subset else ""
    return f"checks{every}{subset}"
