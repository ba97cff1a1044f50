"""When a client last made a version, as far as its state can be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdr_plugin.agent.newest import newest_version_s
from cdr_plugin.config import TierConfig
from cdr_plugin.config.load import parse_config


@pytest.fixture
def tier(tmp_path: Path) -> TierConfig:
    text = '[tier.alice]\ngroup = "g"\nstate = "state"\nsource.paths = ["x"]\nforward.to = "out"\n'
    (tmp_path / "state").mkdir()
    return parse_config(text, tmp_path / "cdr.toml").tiers["alice"]


def test_a_client_without_state_or_versions_has_made_none(tier: TierConfig) -> None:
    assert newest_version_s(tier) is None
    (tier.state / "state.db").touch()
    assert newest_version_s(tier) is None


@pytest.mark.parametrize("data", [b"no database" * 1000, b"SQLite format 3\0" + bytes(5000)])
def test_a_damaged_state_tells_nothing_and_stops_nothing(tier: TierConfig, data: bytes) -> None:
    (tier.state / "state.db").write_bytes(data)
    assert newest_version_s(tier) is None
