"""Commands around a backup, and the one whose output is backed up."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from cdr_plugin.client.commands import command_output, commands_around
from cdr_plugin.errors import UserError
from tests.support.chain import Recorder


def test_both_run_in_order_with_the_variables(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with commands_around("echo before $CDR_TIER", "echo after $CDR_TIER", {"CDR_TIER": "t"}, Recorder()):
        print("inside", file=sys.stderr, flush=True)
    assert capfd.readouterr() == ("", "before t\ninside\nafter t\n")


def test_a_failing_before_stops_the_backup_and_after_runs(capfd: pytest.CaptureFixture[str]) -> None:
    with (
        pytest.raises(UserError, match=r"before the backup failed \(3\): exit 3; no version"),
        commands_around("exit 3", "echo after", {}, Recorder()),
    ):
        pytest.fail("the backup ran")
    assert capfd.readouterr().err == "after\n"


@pytest.mark.parametrize("error", [UserError("e"), KeyboardInterrupt(), OSError("e")])
def test_after_runs_whatever_happened(error: BaseException, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(type(error)), commands_around(None, "echo after", {}, Recorder()):
        raise error
    assert capfd.readouterr().err == "after\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_after_runs_when_the_run_is_told_to_end(number: int, capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), commands_around(None, "echo after", {}, Recorder()):
        os.kill(os.getpid(), number)
        signal.pause()
    assert capfd.readouterr().err == "after\n"
    assert signal.getsignal(number) is before


def test_a_failing_after_is_told_and_changes_nothing() -> None:
    heard = Recorder()
    with commands_around(None, "exit 4", {}, heard):
        pass
    assert heard.notes == ["the command after the backup failed (4): exit 4"]


def test_commands_read_nothing_of_ours(capfd: pytest.CaptureFixture[str]) -> None:
    """Standard input may be what is backed up."""
    with commands_around("wc -c", None, {}, Recorder()):
        pass
    assert capfd.readouterr().err.strip() == "0"


def test_the_output_of_a_command_is_read_to_its_end() -> None:
    with command_output(["printf", "a b"]) as (descriptor, finish):
        assert os.read(descriptor, 100) == b"a b"
        assert os.read(descriptor, 100) == b""
        finish()


@pytest.mark.parametrize(("script", "how"), [("exit 7", "with exit code 7"), ("kill -9 $$", "by signal 9")])
def test_a_command_that_fails_is_told_with_its_code(script: str, how: str) -> None:
    with command_output(["sh", "-c", script]) as (_, finish), pytest.raises(UserError, match=how):
        finish()


def test_a_command_that_is_not_there_is_told() -> None:
    why = r"cannot be run \(No such file or directory\): no-such-command -x"
    with pytest.raises(UserError, match=why), command_output(["no-such-command", "-x"]):
        pytest.fail("it ran")


def test_a_command_whose_output_is_not_wanted_any_more_is_ended() -> None:
    with command_output(["sh", "-c", "echo $$; exec sleep 600"]) as (descriptor, _):
        process = int(os.read(descriptor, 100))
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
