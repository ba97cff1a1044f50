"""Central policies: what may stand in one, and how it meets what a tier says itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdr_plugin.config import TierConfig
from cdr_plugin.config.adopted import Adopted, adopted_file, read_adopted, write_adopted
from cdr_plugin.config.effective import as_document
from cdr_plugin.config.load import parse_config
from cdr_plugin.config.policy import Policy, Says, apply, parse_policy
from cdr_plugin.errors import ConfigError

FILE = Path("/etc/cdr/policy.toml")

CLIENT = """\
[tier.laptop]
group = "legal"
policy = "inherit"
{head}
[tier.laptop.source]
paths = ["docs"]
{source}
[tier.laptop.spool]
{spool}
[tier.laptop.forward]
to = "https://example.org/in"
{forward}
"""


def laptop(folder: Path = Path("/etc/cdr"), **tables: str) -> TierConfig:
    text = CLIENT.format(**{"head": "", "source": "", "spool": "", "forward": "", **tables})
    return parse_config(text, folder / "cdr.toml", inherit=False).tiers["laptop"]


def met(policy: str, **tables: str) -> TierConfig:
    return apply(laptop(**tables), parse_policy(policy, FILE))[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[source]\nbefore = "rm -rf /"', "policy.toml:2: source.before: unknown key; known here: exclude"),
        ('[source]\npaths = ["/etc"]', "policy.toml:2: source.paths: unknown key"),
        ('[source]\nexclude_file = "/etc/shadow"', "source.exclude_file: unknown key; did you mean 'exclude'?"),
        ('[forward]\nto = "sftp://evil/"', "policy.toml:2: forward.to: unknown key"),
        ('[store]\nrepository = "/"', "policy.toml:1: store: unknown key"),
        ('[forward]\nlimit = "fast"', "policy.toml:2: forward.limit: expected a rate"),
        ("[forward\n", "policy.toml:1: not TOML"),
        (
            '[forward.when]\ncommand = "curl evil"',
            "policy.toml:2: forward.when.command: not for a policy: its values may name commands, paths or addresses",
        ),
        ('[forward.when]\nreachable = "evil:1"', "forward.when.reachable: not for a policy"),
        ('[source]\nexclude = ["!keep"]', 'source.exclude.0: expected a pattern that excludes, not "!keep"'),
        ('[source]\nexclude_if_present = ["../x"]', "expected the name of a file"),
    ],
)
def test_a_policy_holds_named_keys_only(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_policy(text, FILE)
    assert message in str(caught.value)


def test_of_two_limits_the_lower_holds() -> None:
    policy = '[forward]\nlimit = "1MiB/s"\n[spool]\nmax_size = "4GiB"\n[source]\nexclude_larger_than = "1GiB"'
    low = met(policy, forward='limit = "512KiB/s"', spool='max_size = "8GiB"')
    assert low.forward is not None and low.source is not None
    assert (low.forward.limit, low.spool.max_size, low.source.exclude_larger_than) == (512 << 10, 4 << 30, 1 << 30)


def test_exclusions_add_up_and_what_a_user_keeps_by_name_stays_kept() -> None:
    found = met('[source]\nexclude = ["*.iso", "*.tmp"]\nexclude_caches = true', source='exclude = ["*.tmp", "!x.iso"]')
    assert found.source is not None and found.source.exclude_caches
    assert found.source.exclude == ("*.iso", "*.tmp", "!x.iso")


def test_conditions_of_both_must_hold() -> None:
    policy = '[forward.when]\nwindow = "18:00-06:00"\nevery = "6h"\non_battery = false'
    found = met(policy, forward='when = { window = "Mon-Fri 12:00-20:00", every = "1h", load_below = 2 }')
    assert found.forward is not None and found.forward.when == {
        "window": ["Mon-Fri 18:00-20:00"], "every": "6h", "load_below": 2, "on_battery": False,
    }  # fmt: skip


def test_windows_that_never_meet_leave_the_local_one_and_say_so() -> None:
    policy = parse_policy('[forward.when]\nwindow = "20:00-06:00"\non_battery = false', FILE)
    found, (setting,) = apply(laptop(forward='when = { window = "08:00-18:00" }'), policy)
    assert found.forward is not None
    assert found.forward.when == {"window": "08:00-18:00", "on_battery": False}
    assert setting.says is Says.BOTH and "have no time in common" in setting.note


def test_each_key_tells_whose_word_it_is() -> None:
    policy = parse_policy('[forward]\nlimit = "1MiB/s"\n[source]\nexclude = ["a"]\n[spool]\nmax_size = "1GiB"', FILE)
    _, settings = apply(laptop(forward='limit = "1KiB/s"', source='exclude = ["b"]'), policy)
    assert {f"{s.table}.{s.key}": s.says for s in settings} == {
        "forward.limit": Says.LOCAL, "source.exclude": Says.BOTH, "spool.max_size": Says.POLICY,
    }  # fmt: skip


def test_a_policy_gives_a_tier_no_tables_that_it_has_not() -> None:
    found, settings = apply(laptop(), parse_policy('[receive]\nlimit = "1KiB/s"', FILE))
    assert (found, settings) == (laptop(), [])


LIMITS = st.none() | st.integers(1, 1 << 40)
PATTERNS = st.lists(st.sampled_from(["a", "b", "c", "!d"]), max_size=3)
WHENS = st.fixed_dictionaries(
    {},
    optional={
        "every": st.sampled_from(["1h", "60m", "2d"]),
        "window": st.sampled_from(["08:00-18:00", "Mon 17:00-09:00", "Sat,Sun"]),
        "load_below": st.floats(0.1, 8),
        "on_battery": st.booleans(),
    },
)


@st.composite
def texts(draw: Any, patterns: Any = PATTERNS) -> dict[str, str]:
    from cdr_plugin.config.effective import as_value

    limit, size = draw(LIMITS), draw(LIMITS)
    forward = f"when = {as_value(draw(WHENS))}\n" + (f'limit = "{limit}B/s"' if limit else "")
    source = f"exclude = {as_value(draw(patterns))}\nexclude_caches = {as_value(draw(st.booleans()))}"
    return {"forward": forward, "source": source, "spool": f"max_size = {size}" if size else ""}


def as_policy(tables: dict[str, str]) -> Policy:
    return parse_policy("\n".join(f"[{name}]\n{text}" for name, text in tables.items()), FILE)


@given(texts(), texts(PATTERNS.map(lambda found: [one for one in found if one[0] != "!"])))
def test_merging_keeps_the_local_bounds_and_twice_is_once(local: dict[str, str], central: dict[str, str]) -> None:
    tier, policy = laptop(**local), as_policy(central)
    once, _ = apply(tier, policy)
    assert apply(once, policy)[0] == once
    assert once.source and tier.source and once.forward and tier.forward
    assert set(once.source.exclude) >= {*tier.source.exclude, *policy.source.exclude}
    for ours, theirs, found in (
        (tier.forward.limit, policy.forward.limit, once.forward.limit),
        (tier.spool.max_size, policy.spool.max_size, once.spool.max_size),
    ):
        assert found == min((limit for limit in (ours, theirs) if limit), default=None)
    assert once.forward.when.keys() == tier.forward.when.keys() | policy.forward.when.keys()


def test_the_configuration_in_force_is_that_of_the_adopted_policy(tmp_path: Path) -> None:
    text = CLIENT.format(head='state = "state"', source="", spool="", forward='limit = "2MiB/s"')
    state = tmp_path / "state"
    state.mkdir()
    file = tmp_path / "cdr.toml"
    before = as_document(parse_config(text, file))
    write_adopted(state, Adopted(7, "legal", "hq", "ab", 1, '[forward]\nlimit = "1MiB/s"'))
    assert as_document(parse_config(text, file))["tier"]["laptop"]["forward"]["limit"] == "1MiB/s"
    assert as_document(parse_config(text, file, inherit=False)) == before
    own = text.replace('"inherit"', '"own"')
    assert as_document(parse_config(own, file))["tier"]["laptop"]["forward"]["limit"] == "2MiB/s"


def test_an_adopted_policy_that_is_damaged_is_an_error_and_no_silent_loss_of_limits(tmp_path: Path) -> None:
    assert read_adopted(tmp_path) is None
    adopted_file(tmp_path).write_bytes(b'{"serial": 1')
    with pytest.raises(ConfigError, match=r"policy.json: damaged .*; remove it, 'cdr send' takes it anew"):
        read_adopted(tmp_path)
