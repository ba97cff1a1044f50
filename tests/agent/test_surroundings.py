"""The agent notices another network and another configuration by cheap looks."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdr_plugin.agent import surroundings
from cdr_plugin.agent.surroundings import default_routes, read_clock, stamp

V4 = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
wlan0\t00000000\t0102A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
wlan0\t0002A8C0\t00000000\t0001\t0\t0\t600\t00FFFFFF\t0\t0\t0
"""
ZERO = "0" * 32
V6 = f"""\
{ZERO} 00 {ZERO} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003    wlan0
{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 00000001 00000000 00200200       lo
fe800000000000000000000000000000 40 {ZERO} 00 {ZERO} 00000100 00000001 00000000 00000001    wlan0
"""


def test_the_default_routes_of_both_protocols_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / "route", tmp_path / "ipv6_route"]
    monkeypatch.setattr(surroundings, "_ROUTES", files)
    assert default_routes() == frozenset()
    files[0].write_text(V4)
    files[1].write_text(V6)
    assert default_routes() == {("wlan0", "0102A8C0"), ("wlan0", "fe800000000000000000000000000001")}


def test_the_routes_of_this_machine_can_be_read_and_stay() -> None:
    assert default_routes() == default_routes()


def test_a_file_that_was_replaced_or_removed_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "cdr.toml"
    assert stamp(file) == ()
    file.write_text("a")
    before = stamp(file)
    assert before == stamp(file)
    (tmp_path / "new").write_text("b")
    (tmp_path / "new").replace(file)
    assert stamp(file) != before


def test_the_steady_clock_never_goes_back() -> None:
    looks = [read_clock().steady_s for _ in range(100)]
    assert looks == sorted(looks)
