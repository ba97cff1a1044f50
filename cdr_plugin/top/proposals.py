"""Rules over what clients say of themselves: they propose a group, the ticket decides.

Nobody has checked these facts, so a rule never lets anybody into a group: it tells the operator where somebody
may belong.
"""

from __future__ import annotations

from collections.abc import Mapping

from cdr_plugin.config.schema import TierConfig

Rules = Mapping[str, Mapping[str, str]]
"""Group -> facts that a client must state, all of them, for the group to be proposed."""


def rules_of(tier: TierConfig) -> Rules:
    """Those of a receiving tier, for the groups that it serves itself."""
    return {name: group.match for name, group in sorted(tier.groups.items()) if group.match}


def proposed(facts: Mapping[str, str], rules: Rules) -> list[str]:
    """The groups whose rule fits, those that ask for more facts first."""
    fitting = [
        name for name, match in rules.items() if all(_fits(facts.get(key), value) for key, value in match.items())
    ]
    return sorted(fitting, key=lambda name: (-len(rules[name]), name))


def _fits(stated: str | None, asked: str) -> bool:
    return stated is not None and stated.casefold() == asked.casefold()
