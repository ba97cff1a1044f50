"""A policy as the command line or the configuration states it."""

from __future__ import annotations

from typing import Any

from cdr_plugin.errors import UserError
from cdr_plugin.retention.policy import BUCKETS, UNLIMITED, Policy
from cdr_plugin.retention.spans import NO_SPAN, Span, parse_span
from cdr_plugin.retention.tags import split_tags

COUNTS = ("last", *BUCKETS)
SPANS = ("within", *(f"within_{bucket}" for bucket in BUCKETS))


def policy_from(options: object) -> Policy:
    """The policy that attributes such as ``keep_last`` (a number), ``keep_within`` (a span as text) and
    ``keep_tag`` (texts) of ``options`` state; UserError. What is absent or None states nothing."""
    rules: dict[str, Any] = {rule: _count(rule, getattr(options, f"keep_{rule}", None)) for rule in COUNTS}
    rules |= {rule: _span(rule, getattr(options, f"keep_{rule}", None)) for rule in SPANS}
    return Policy(**rules, tags=tuple(map(split_tags, getattr(options, "keep_tag", None) or ())))


def _count(rule: str, value: int | None) -> int:
    if value is not None and value < UNLIMITED:
        raise UserError(f"keep-{rule} {value}: give a number of versions, or 'unlimited'")
    return value or 0


def _span(rule: str, value: str | None) -> Span:
    try:
        return parse_span(value) if value else NO_SPAN
    except UserError as error:
        raise UserError(f"keep-{rule.replace('_', '-')}: {error}") from None
