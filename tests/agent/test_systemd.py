"""What is asked of systemd, with a runner in its place: it does not run as process 1 where tests do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cdr_plugin.agent.systemd import Manager, check_name
from cdr_plugin.agent.units import Unit
from cdr_plugin.errors import RemoteError, UserError

SHOWN = """\
LoadState=loaded
UnitFileState=enabled
ActiveState=active
SubState=running
Result=success
MainPID=4711
StatusText=working: backup of alice = now
Unasked=x
"""


@dataclass
class Systemctl:
    """Notes what it is asked, and answers."""

    answer: tuple[int, str] = (0, "")
    asked: list[str] = field(default_factory=list)

    def __call__(self, command: Sequence[str]) -> tuple[int, str]:
        self.asked.append(" ".join(command))
        return self.answer


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path / "config")}


def unit(*, timer: bool = False) -> Unit:
    return Unit("cdr", ["/usr/bin/cdr"], False, timer)


def test_a_service_is_written_enabled_and_started(home: dict[str, str], tmp_path: Path) -> None:
    systemctl = Systemctl()
    (file,) = Manager(False, systemctl, environment=home).install(unit())
    assert file == tmp_path / "config/systemd/user/cdr.service"
    assert file.read_text() == unit().files["cdr.service"]
    assert file.stat().st_mode & 0o777 == 0o644
    assert systemctl.asked == ["systemctl --user daemon-reload", "systemctl --user enable --now cdr.service"]


def test_a_timer_takes_the_place_of_a_service_and_is_removed_whole(home: dict[str, str]) -> None:
    systemctl = Systemctl()
    manager = Manager(False, systemctl, environment=home)
    manager.install(unit())
    systemctl.asked.clear()
    assert [path.name for path in manager.install(unit(timer=True))] == ["cdr.service", "cdr.timer"]
    assert systemctl.asked == [
        "systemctl --user disable --now cdr.service",
        "systemctl --user daemon-reload",
        "systemctl --user daemon-reload",
        "systemctl --user enable --now cdr.timer",
    ]
    systemctl.asked.clear()
    assert len(manager.remove("cdr")) == 2
    assert systemctl.asked == [
        "systemctl --user disable --now cdr.timer",
        "systemctl --user stop cdr.service",
        "systemctl --user daemon-reload",
    ]
    assert list(manager.folder.iterdir()) == []
    assert manager.remove("cdr") == []


@pytest.mark.parametrize("system", [True, False])
def test_a_package_gets_files_and_systemd_is_not_asked(tmp_path: Path, system: bool) -> None:
    systemctl = Systemctl()
    manager = Manager(system, systemctl, root=tmp_path)
    (file,) = manager.install(unit())
    assert file == tmp_path / "etc/systemd" / ("system" if system else "user") / "cdr.service"
    assert manager.remove("cdr") == [file]
    assert systemctl.asked == []


def test_the_status_is_what_systemd_says(home: dict[str, str]) -> None:
    manager = Manager(False, Systemctl((0, SHOWN)), environment=home)
    assert manager.status("cdr") == {}
    manager.install(unit())
    found = manager.status("cdr")
    assert (found["Unit"], found["ActiveState"], found["MainPID"]) == ("cdr.service", "active", "4711")
    assert found["StatusText"] == "working: backup of alice = now"
    assert "Unasked" not in found


def test_a_refusal_names_the_command_and_the_reason(home: dict[str, str]) -> None:
    manager = Manager(False, Systemctl((1, "Failed to connect to bus:\n No medium found\n")), environment=home)
    with pytest.raises(RemoteError) as failed:
        manager.install(unit())
    assert str(failed.value) == ("'systemctl --user daemon-reload' failed: Failed to connect to bus: No medium found")


@pytest.mark.parametrize("name", ["", "a/b", "ü", "x" * 101, "a b"])
def test_a_name_that_systemd_does_not_take_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="a unit's name"):
        check_name(name)


def test_a_name_may_have_its_suffix() -> None:
    assert check_name("cdr-alice.service") == "cdr-alice"
