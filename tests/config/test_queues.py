"""A client that replicates has a queue of its own for each storage."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdr_plugin.config import load_config
from cdr_plugin.config.queues import queues_of
from cdr_plugin.config.schema import TierConfig
from cdr_plugin.errors import ConfigError

_CLIENT = """
[tier.laptop]
source.paths = ["/home"]
spool.max_size = "1GiB"
[tier.laptop.forward]
to = {to}
{more}
"""


def client(folder: Path, to: str, more: str) -> TierConfig:
    path = folder / "cdr.toml"
    path.write_text(_CLIENT.format(to=to, more=more))
    return load_config(path).tier("laptop")


def test_one_queue_unless_all_are_to_get_every_version(tmp_path: Path) -> None:
    for to, mode in (('["/a", "/b"]', "first-reachable"), ('"/a"', "all")):
        tier = client(tmp_path, to, f'mode = "{mode}"')
        assert list(queues_of(tier)) == [tier]


def test_each_queue_has_its_own_state_and_ticket_and_the_client_one_name(tmp_path: Path) -> None:
    tier = client(tmp_path, '["/a", "/b/"]', 'mode = "all"\nticket = ["/t1", "/t2"]')
    first, second = queues_of(tier)
    assert (first.name, first.client, second.client) == ("laptop to /a", "laptop", "laptop")
    assert first.forward and second.forward
    assert (first.forward.to, first.forward.ticket) == (("/a",), (Path("/t1"),))
    assert (second.forward.to[0].rstrip("/"), second.forward.ticket) == ("/b", (Path("/t2"),))
    assert first.state != second.state
    assert first.state.parent == second.state.parent == tier.state
    assert first.identity == second.identity == tier.identity
    other_order = client(tmp_path, '["file:///b", "/a"]', 'mode = "all"')
    assert [queue.state for queue in queues_of(other_order)] == [second.state, first.state]


@pytest.mark.parametrize(("mode", "count"), [("all", 2), ("first-reachable", 1)])
def test_tickets_must_match_the_storages(tmp_path: Path, mode: str, count: int) -> None:
    tickets = ["/t"] * (3 - count)
    with pytest.raises(ConfigError, match=f"ticket: names {3 - count} tickets for {count} storages; give one for each"):
        client(tmp_path, '["/a", "/b"]', f'mode = "{mode}"\nticket = {tickets}')


def test_a_tier_that_receives_has_a_ticket_for_each_of_its_groups(tmp_path: Path) -> None:
    more = 'ticket = ["/t1", "/t2"]\n[tier.laptop.receive]\ninbox = "/i"\n'
    forward = client(tmp_path, '"/a"', more).forward
    assert forward and forward.ticket == (Path("/t1"), Path("/t2"))
