"""Each condition on a machine made of files, clocks and answers that the test gives."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from cdr_conditions.command import Command
from cdr_conditions.every import Every
from cdr_conditions.idle import DiskIdle, NetworkIdle
from cdr_conditions.load import LoadBelow
from cdr_conditions.metered import Metered
from cdr_conditions.plugin import BUILT_IN, Later
from cdr_conditions.power import OnBattery
from cdr_conditions.reachable import Reachable, connects
from cdr_conditions.running import Answer, run, run_silently
from cdr_plugin.contracts import Condition, Occasion, Verdict
from cdr_plugin.errors import ConfigError
from cdr_plugin.plugins import installed

NOW = Occasion(1_000_000.0)
YES = Verdict(True)


# --- every ---


def ask_every(last_s: float | None, *, under_way: bool = False) -> Verdict:
    return Every().ask("1h", Occasion(1_000_000.0, last_s, is_under_way=under_way))


def test_what_was_never_done_and_what_was_done_long_ago_is_due() -> None:
    for last_s in (None, 1_000_000.0 - 3600, 0.0):
        assert ask_every(last_s).convenient


def test_what_was_done_just_now_waits_for_the_rest_of_the_interval() -> None:
    expected = Verdict(False, "waiting for 1h to pass since the last time (10m left)", 600)
    assert ask_every(1_000_000.0 - 3000) == expected
    assert ask_every(1_000_000.0).ask_again_s == 3600
    assert ask_every(1_000_000.0 - 3000, under_way=True).convenient


@pytest.mark.parametrize("back_s", [1, 3601, 86400, 30 * 365 * 86400])
def test_a_clock_that_was_put_back_blocks_for_no_longer_than_the_interval(back_s: float) -> None:
    assert ask_every(1_000_000.0 + back_s).convenient


# --- load_below ---


@pytest.mark.parametrize(("load", "convenient"), [("1.49", True), ("1.50", False), ("22.1", False)])
def test_the_load_of_the_last_minute_counts(tmp_path: Path, load: str, convenient: bool) -> None:
    (tmp_path / "loadavg").write_text(f"{load} 9.00 9.00 1/100 4242\n")
    verdict = LoadBelow(tmp_path / "loadavg").ask(1.5, NOW)
    assert verdict == (YES if convenient else Verdict(False, f"waiting for a load below 1.5 (now {float(load):.2f})"))


def test_a_system_that_tells_no_load_is_not_waited_for(tmp_path: Path) -> None:
    assert LoadBelow(tmp_path / "absent").ask(1.5, NOW) == YES


# --- on_battery ---

MAINS_ON = {"type": "Mains", "online": "1"}
MAINS_OFF = {"type": "Mains", "online": "0"}
BATTERY = {"type": "Battery", "status": "Discharging"}


@pytest.mark.parametrize(
    ("supplies", "convenient"),
    [
        ([], True),
        ([MAINS_OFF], True),  # no battery: however it is called, this is where the power comes from
        ([MAINS_ON, BATTERY], True),
        ([MAINS_OFF, BATTERY], False),
        ([MAINS_OFF, {"type": "Battery", "status": "Unknown"}], False),
        ([MAINS_OFF, {"type": "USB", "online": "2"}, BATTERY], True),
        ([BATTERY], False),
        ([{"type": "Battery", "status": "Charging"}], True),
        ([{"type": "UPS", "status": "Discharging"}], False),
        ([{"type": "Battery", "scope": "Device", "status": "Discharging"}], True),  # of a mouse
        ([MAINS_OFF, {"type": "Battery", "scope": "System", "status": "Discharging"}], False),
    ],
)
def test_power_comes_from_where_the_supplies_say(
    tmp_path: Path, supplies: Sequence[Mapping[str, str]], convenient: bool
) -> None:
    for number, facts in enumerate(supplies):
        folder = tmp_path / f"supply{number}"
        folder.mkdir()
        for name, value in facts.items():
            (folder / name).write_text(f"{value}\n")
    condition = OnBattery(tmp_path)
    assert condition.ask(False, NOW) == (YES if convenient else Verdict(False, "waiting for mains power"))
    assert condition.ask(True, NOW) == YES


def test_a_machine_without_power_supplies_is_on_mains(tmp_path: Path) -> None:
    assert OnBattery(tmp_path / "absent").ask(False, NOW) == YES


# --- metered ---


def answering(**answers: Answer) -> Callable[[Sequence[str], float], Answer]:
    return lambda arguments, _limit: answers.get(arguments[0], Answer(127))


@pytest.mark.parametrize(
    ("answers", "convenient"),
    [
        ({}, True),
        ({"busctl": Answer(0, "u 0\n")}, True),
        ({"busctl": Answer(0, "u 1\n")}, False),
        ({"busctl": Answer(0, "u 2\n")}, True),
        ({"busctl": Answer(0, "u 3\n")}, False),
        ({"busctl": Answer(0, "u 4\n")}, True),
        ({"busctl": Answer(0, "u 2\n"), "nmcli": Answer(0, "yes\n")}, True),
        ({"busctl": Answer(1), "nmcli": Answer(0, "no (guessed)\n\nyes (guessed)\n")}, False),
        ({"nmcli": Answer(0, "no\n\nunknown\n")}, True),
        ({"nmcli": Answer(8, "yes")}, True),
        ({"busctl": Answer(None), "nmcli": Answer(None)}, True),
    ],
)
def test_network_manager_says_what_is_metered(answers: Mapping[str, Answer], convenient: bool) -> None:
    condition = Metered(answering(**answers))
    no = Verdict(False, "waiting for a connection that is not metered")
    assert condition.ask(False, NOW) == (YES if convenient else no)
    assert condition.ask(True, NOW) == YES


# --- disk_idle, network_idle ---


class Machine:
    """Counters that move while somebody sleeps."""

    def __init__(self, folder: Path, before: str, after: str) -> None:
        self.counters, self.devices = folder / "counters", folder / "devices"
        self.counters.write_text(before)
        self._after = after
        self._now_s = 0.0

    def clock(self) -> float:
        return self._now_s

    def sleep(self, seconds: float) -> None:
        self._now_s += seconds
        self.counters.write_text(self._after)

    def has_hardware(self, *names: str) -> None:
        for name in names:
            (self.devices / name / "device").mkdir(parents=True)


def disks(sda: int, sda1: int) -> str:
    """Sectors read and written."""
    return f"   8  0 sda 9 0 {sda} 5 9 0 {sda} 5 0 5 5\n   8  1 sda1 9 0 {sda1} 5 9 0 {sda1} 5 0 5 5\n"


def network(lo: int, eth0: int, bridge: int) -> str:
    """Bytes received and sent."""
    head = "Inter-|   Receive  |  Transmit\n face |bytes packets |bytes packets\n"
    rows = (f"{n:>6}: {b} 1 0 0 0 0 0 0 {b} 1 0 0 0 0 0 0\n" for n, b in (("lo", lo), ("eth0", eth0), ("br0", bridge)))
    return head + "".join(rows)


def test_disks_are_idle_below_the_rate_and_partitions_do_not_count_twice(tmp_path: Path) -> None:
    machine = Machine(tmp_path, disks(1000, 1000), disks(1000 + 256, 1000 + 256))  # 256 KiB in 250 ms: 1 MiB/s
    machine.has_hardware("sda")
    condition = DiskIdle(machine.counters, machine.devices, machine.clock, machine.sleep)
    assert condition.ask("1048577B/s", NOW) == YES
    machine = Machine(tmp_path, disks(1000, 1000), disks(1000 + 256, 1000 + 256))
    condition = DiskIdle(machine.counters, machine.devices, machine.clock, machine.sleep)
    expected = Verdict(False, "waiting for the disks to move less than 1MiB/s (now 1024KiB/s)")
    assert condition.ask("1MiB/s", NOW) == expected


def test_the_network_is_idle_whatever_a_machine_says_to_itself(tmp_path: Path) -> None:
    machine = Machine(tmp_path, network(0, 500, 500), network(10**9, 500 + 512, 500 + 512))  # 4 KiB/s
    machine.has_hardware("eth0")
    condition = NetworkIdle(machine.counters, machine.devices, machine.clock, machine.sleep)
    assert condition.ask("5KiB/s", NOW) == YES
    expected = "waiting for the network to move less than 4KiB/s (now 4KiB/s)"
    machine.counters.write_text(network(0, 500, 500))
    assert condition.ask("4KiB/s", NOW).reason == expected


def test_without_any_hardware_all_devices_count(tmp_path: Path) -> None:
    machine = Machine(tmp_path, network(0, 0, 0), network(0, 512, 512))
    condition = NetworkIdle(machine.counters, machine.devices, machine.clock, machine.sleep)
    assert not condition.ask("8KiB/s", NOW).convenient


def test_devices_that_come_go_or_begin_anew_say_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path, disks(10**9, 0), disks(5, 0) + "8 16 sdb 9 0 99999999 5 9 0 9 5 0 5 5\n")
    condition = DiskIdle(machine.counters, machine.devices, machine.clock, machine.sleep)
    assert condition.ask("1B/s", NOW) == YES


@pytest.mark.parametrize("kind", [DiskIdle, NetworkIdle])
def test_the_work_itself_is_no_reason_to_end_it(
    tmp_path: Path, kind: type[DiskIdle] | type[NetworkIdle]
) -> None:
    machine = Machine(tmp_path, "", "")
    condition = kind(machine.counters, machine.devices, machine.clock, machine.sleep)
    assert condition.ask("1B/s", Occasion(0, is_under_way=True)) == YES
    assert machine.clock() == 0


# --- command ---


def test_a_command_says_yes_by_its_exit_code(tmp_path: Path) -> None:
    condition = Command()
    assert condition.ask(f"touch {tmp_path}/ran; exit 0", NOW) == YES
    assert (tmp_path / "ran").exists()
    expected = "waiting for the command 'echo no; exit 3' to agree (exit code 3)"
    assert condition.ask("echo no; exit 3", NOW) == Verdict(False, expected)


def test_a_command_that_does_not_end_is_ended_with_its_children(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    script = f"mkfifo {fifo}; (exec 3>{fifo}; sleep 1000) & cat {fifo}"
    assert run_silently(["/bin/sh", "-c", script], 0.2) == Answer(None)
    assert run(["/bin/sh", "-c", "sleep 1000 & exec sleep 1000"], 0.2) == Answer(None)
    ending = Command(lambda _arguments, _limit: Answer(None))
    assert ending.ask("x", NOW).reason == "waiting for the command 'x' to agree (no answer within 30 s)"


def test_programs_answer_or_are_not_there() -> None:
    assert run(["/bin/echo", "u 1"], 10) == Answer(0, "u 1\n")
    assert run(["/nowhere/at/all"], 10) == Answer(127)


# --- reachable ---


def test_any_storage_that_answers_is_enough() -> None:
    def occasion(*up: str) -> Occasion:
        return Occasion(0, storages=["sftp://a/x", "/b"], answers=lambda url: url in up)

    assert Reachable().ask(True, occasion("/b")) == YES
    expected = Verdict(False, "waiting for the storage to answer (sftp://a/x or /b)")
    assert Reachable().ask(True, occasion()) == expected
    assert Reachable().ask(True, Occasion(0)) == YES


def test_places_are_tried_in_turn_with_a_limit() -> None:
    tried: list[tuple[tuple[str, int], float]] = []

    def connect(place: tuple[str, int], limit_s: float) -> bool:
        tried.append((place, limit_s))
        return place[0] == "::1"

    condition = Reachable(connect)
    assert condition.ask(["nas:2222", "https://example.org/x", "[::1]:80", "never:1"], NOW) == YES
    assert tried == [(("nas", 2222), 3.0), (("example.org", 443), 3.0), (("::1", 80), 3.0)]
    assert condition.ask("nas:22", NOW) == Verdict(False, "waiting for an answer of nas:22")


def test_somebody_listens_or_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = ("127.0.0.1", server.getsockname()[1])
        accepting = threading.Thread(target=lambda: server.accept()[0].close())
        accepting.start()
        assert connects(place, 10)
        accepting.join()
    assert not connects(place, 10)
    assert not connects(("a" * 300, 1), 10)


# --- what values may be ---


@pytest.mark.parametrize(
    ("name", "good", "bad", "expected"),
    [
        ("above", ["ready"], [True, "busy", 1], 'expected "ready", not '),
        ("command", ["true"], ["", " ", 1, True, "a\0b"], "expected a command, not "),
        ("disk_idle", ["1MiB/s"], ["1MiB", 5, True, ""], 'expected a rate such as "2MiB/s", not '),
        ("every", ["1h30m"], ["soon", 5, "0s", True], 'expected a duration such as "14d", "1h" or "5m", not '),
        ("load_below", [1, 1.5], [0, -1, True, "2"], "expected a load such as 1.5, not "),
        ("metered", [True, False], [0, "no"], "expected true or false, not "),
        ("network_idle", ["1MiB/s"], ["1MiB", 5, True, ""], 'expected a rate such as "2MiB/s", not '),
        ("on_battery", [True, False], [0, "no"], "expected true or false, not "),
        (
            "reachable",
            [True, "nas:22", "https://x", ["nas:22", "sftp://nas/a"]],
            [False, "nas", "gopher://x", "a:99999", ["nas:22", 5], {}, "https://me:secret@x"],
            'expected true, "host:port", a URL such as "https://example.org", or a list, not ',
        ),
    ],
)
def test_each_condition_checks_its_own_value(
    name: str, good: Sequence[object], bad: Sequence[object], expected: str
) -> None:
    condition: Condition = installed().condition(name)
    for value in good:
        condition.check(value)
    for value in bad:
        with pytest.raises(ConfigError) as caught:
            condition.check(value)
        assert str(caught.value).startswith(expected)
        assert "secret" not in str(caught.value)


def test_an_empty_list_of_places_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected places to reach, not an empty list"):
        Reachable().check([])


def test_conditions_are_registered_under_their_own_names_before_they_are_imported() -> None:
    assert all(later.name == later.condition.name for later in map(Later, BUILT_IN))


def test_every_condition_of_the_documentation_is_registered() -> None:
    names = {info.name for info in installed().infos() if info.kind == "condition"}
    assert names >= {
        *("window", "every", "reachable", "load_below", "on_battery"),
        *("metered", "disk_idle", "network_idle", "command"),
    }
