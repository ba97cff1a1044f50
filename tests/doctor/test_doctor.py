"""``cdr doctor`` finds what was broken on purpose, says what to do next, and cries about nothing else."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdr_plugin.agent.elapsed import Moment
from cdr_plugin.agent.jobs import JobKind
from cdr_plugin.agent.ledger import write_ledger
from cdr_plugin.agent.scheduler import Record
from cdr_plugin.agent.systemd import Manager
from cdr_plugin.contracts import Hooks
from cdr_plugin.doctor import machine, places
from cdr_plugin.doctor.finding import Severity, from_error
from cdr_plugin.errors import RemoteError
from cdr_plugin.plugins import Plugins
from tests.cli.test_status_and_policies import Host, host

__all__ = ["host"]


def findings(host: Host, code: int) -> dict[str, tuple[str, str, str]]:
    """Object -> severity, cause, next step; without what depends on this machine."""
    found = host.json("doctor", code=code)["findings"]
    assert all(one["next_step"] for one in found if one["severity"] != "note"), found
    mine = [one for one in found if one["object"] not in ("service", "kernel")]
    return {_short(host, one["object"]): (one["severity"], one["cause"], one["next_step"]) for one in mine}


def _short(host: Host, about: str) -> str:
    return about.replace(f"{host.folder}/", "").replace("file:", "")


@pytest.fixture
def sound(host: Host) -> Host:
    """A hierarchy of three tiers that has carried a version."""
    host.make(branch="")
    for step in ("send -T laptop", "receive -T branch", "send -T branch", "receive -T hq", "send"):
        host.cdr(*step.split())
    host.cdr("send", "-T", "laptop")
    return host


def test_nothing_is_wrong_where_nothing_is(sound: Host) -> None:
    before = sorted(path for path in sound.folder.rglob("*") if not path.name.endswith(("-wal", "-shm")))
    assert findings(sound, 0) == {}
    out, _ = sound.cdr("doctor")
    assert out.endswith("nothing is wrong\n")
    after = sorted(path for path in sound.folder.rglob("*") if not path.name.endswith(("-wal", "-shm")))
    assert after == before


def test_what_is_not_set_up_is_said_once_for_each_tier(host: Host) -> None:
    host.write(branch="")
    summary = host.json("doctor", code=1)
    said = [(one["tier"], one["next_step"]) for one in summary["findings"] if one["object"] == "set-up"]
    assert said == [(tier, f"run 'cdr init -T {tier}'") for tier in ("laptop", "branch", "hq")]
    assert summary["broken"] == 3


def test_a_configuration_with_faults_is_all_that_is_looked_at(host: Host) -> None:
    host.write(laptop="relaese = 'stored'\nlimit = 3")
    summary = host.json("doctor", code=1)
    causes = [one["cause"] for one in summary["findings"] if one["object"] == "configuration"]
    assert [cause.split(": ", 1)[1] for cause in causes] == [
        'tier.laptop.forward.limit: expected a rate such as "2MiB/s", not 3',
        "tier.laptop.forward.relaese: unknown key; did you mean 'release'?",
    ]


def test_no_configuration_at_all_is_a_finding_too(host: Host) -> None:
    summary = host.json("doctor", code=1)
    assert "No such file or directory" in str([one["cause"] for one in summary["findings"]])


# --- keys, state, space ---


def test_keys_that_others_can_read(sound: Host) -> None:
    (sound.folder / "laptop-identity/identity.key").chmod(0o644)
    (sound.folder / "hq-identity").chmod(0o755)
    found = findings(sound, 1)
    severity, cause, step = found["identity laptop-identity"]
    assert (severity, step) == ("broken", f"run 'chmod 600 {sound.folder}/laptop-identity/identity.key'")
    assert "mode 0644 lets others in" in cause
    assert found["identity hq-identity"][0] == "warning"


def test_keys_that_were_replaced_since_they_were_exported(sound: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDR_PASSPHRASE", "five words")
    sound.cdr("identity", "export", str(sound.folder / "kept"), "-T", "hq")
    assert findings(sound, 0) == {}
    sound.cdr("identity", "rotate", "-T", "hq")
    severity, cause, step = findings(sound, 0)["identity hq-identity"]
    assert (severity, cause) == ("warning", "keys were made or replaced since it was exported")
    assert step.startswith("run 'cdr identity export FILE -T hq'")


def test_a_recovery_that_was_cut_off_is_not_taken_for_a_missing_identity(sound: Host) -> None:
    (sound.folder / "hq-identity/identity.key").unlink()
    (sound.folder / "hq-identity/.recovering").touch()
    severity, _, step = findings(sound, 1)["identity hq-identity"]
    assert (severity, step) == ("broken", "run 'cdr identity recover' again")
    _, said = sound.cdr("init", code=1)
    assert "a recovery was cut off here" in said


def test_an_identity_that_is_gone_and_a_key_of_a_group_that_is_gone(sound: Host) -> None:
    (sound.folder / "laptop-identity/identity.key").unlink()
    (sound.folder / "hq-identity/sealing-home.keys").unlink()
    found = findings(sound, 1)
    cause = f"identity {sound.folder}/laptop-identity: not there"
    assert found["identity laptop-identity"] == ("broken", cause, "run 'cdr init'")
    assert found["identity hq-identity"] == ("broken", "no key for group home", "run 'cdr init -T hq'")


def test_a_top_tier_without_state_or_register_is_found_and_nothing_made(sound: Host) -> None:
    import shutil

    shutil.rmtree(sound.folder / "hq/home")
    severity, cause, step = findings(sound, 0)["group home"]
    assert (severity, step) == ("warning", "run 'cdr receive -T hq'")
    assert "made anew from the repository" in cause
    assert not (sound.folder / "hq/home/state.db").exists()
    for path in (sound.folder / "hq-identity").glob("register.db*"):
        path.unlink()
    assert findings(sound, 1)["group home"][:2] == ("broken", "the register of its clients is gone")
    assert not (sound.folder / "hq-identity/register.db").exists()


def test_an_intermediate_tier_without_its_spool(sound: Host) -> None:
    import shutil

    shutil.rmtree(sound.folder / "branch/spool")
    cause = f"{sound.folder}/branch/spool is not there"
    assert findings(sound, 1)["spool"] == ("broken", cause, "run 'cdr init -T branch'")
    assert not (sound.folder / "branch/spool").exists()


def test_a_state_that_is_damaged(sound: Host) -> None:
    for path in (sound.folder / "laptop").glob("state.db*"):
        path.write_bytes(b"rubbish" * 99)
    severity, cause, step = findings(sound, 1)["client"]
    assert severity == "broken"
    assert "not a usable state database" in cause
    assert step == "move it away to start anew"


def test_little_room_is_a_warning_and_none_is_broken(sound: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = {"free": 2**20}

    def disk_usage(_path: Path) -> Any:
        return type("Usage", (), {"total": 2**40, **usage})()

    monkeypatch.setattr(places.shutil, "disk_usage", disk_usage)
    assert findings(sound, 1)["state laptop"][0] == "broken"
    usage["free"] = 2**32
    assert findings(sound, 0)["repository repository"][0] == "warning"


def test_a_clock_that_was_put_back(sound: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = time.time()
    monkeypatch.setattr("time.time", lambda: now_s - 86400)
    severity, cause, step = findings(sound, 0)["clock"]
    assert (severity, step.partition(",")[0]) == ("warning", "set it")
    assert "behind" in cause
    ((finding),) = machine.clock(0.0)
    assert (finding.severity, finding.cause) == (Severity.BROKEN, "it shows 1970-01-01")


def test_a_pause_is_not_forgotten(sound: Host) -> None:
    sound.cdr("pause", "-T", "laptop")
    assert findings(sound, 0)["agent"] == ("warning", "the tier is paused", "'cdr resume -T laptop' ends that")


# --- tiers that reduce ---

REDUCES = '[tier.branch.group.home]\n[tier.branch.reduce]\nmethods = ["commonality"]\n'


def test_nothing_is_wrong_with_a_tier_that_reduces(host: Host) -> None:
    host.make(branch=REDUCES)
    for step in ("send -T laptop", "receive -T branch", "send -T branch", "receive -T hq", "send -T branch"):
        host.cdr(*step.split())
    host.cdr("send", "-T", "laptop")
    assert findings(host, 0) == {}


def test_a_tier_that_reduces_needs_a_ticket_of_its_own(host: Host) -> None:
    host.write(branch=REDUCES)
    text = (host.folder / "cdr.toml").read_text()
    alone = "".join(part for part in text.partition("[tier.branch]")[1:]).partition("[tier.hq]")[0]
    (host.folder / "cdr.toml").write_text(alone)
    host.cdr("init")
    (found,) = [one for about, one in findings(host, 1).items() if about.startswith("enrolment")]
    assert found[:2] == ("broken", "no ticket was adopted")
    assert found[2] == "'cdr ticket --for-tier' above prints a ticket; then 'cdr enroll TICKET -T branch'"


# --- storages ---


def test_a_storage_that_is_away_matters_when_it_was_never_there(sound: Host) -> None:
    (sound.folder / "lower").rename(sound.folder / "unmounted")
    found = sound.json("doctor", code=1)["findings"]
    said = {one["tier"]: one["severity"] for one in found if one["object"].endswith("/lower")}
    assert said == {"laptop": "warning", "branch": "broken"}  # the laptop reached it before; the branch's own is gone


def test_a_storage_that_may_not_be_written_is_found_by_writing(sound: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: object, name: str, _data: bytes, **_options: Any) -> None:
        raise RemoteError(f"storing {name}: Permission denied")

    monkeypatch.setattr(type(_opened(sound)), "put", refuse)
    severity, cause, step = findings(sound, 1)["storage inbox"]
    assert (severity, step) == ("broken", "let this user read, write and delete there")
    assert "Permission denied" in cause


def _opened(host: Host) -> object:
    from cdr_plugin.plugins import installed

    return installed().transport(str(host.folder / "inbox"))


def test_what_is_not_of_cdr_in_an_inbox(sound: Host) -> None:
    (sound.folder / "inbox/holiday.jpg").touch()
    assert findings(sound, 0)["inbox inbox"] == (
        "warning",
        "1 objects that CDR did not put there, the first: holiday.jpg",
        "move them away; CDR leaves them alone",
    )


def test_the_notes_of_an_inbox_with_a_limit_are_of_cdr(host: Host) -> None:
    host.make(branch='[tier.branch.spool]\nmax_size = "1GiB"', hq='max_size = "1GiB"')
    host.cdr("receive", "-T", "hq")
    assert list((host.folder / "inbox").rglob("room")) != []
    assert [about for about in findings(host, 0) if about.startswith("inbox")] == []


def test_a_source_that_is_not_there(sound: Host) -> None:
    (sound.folder / "files").rename(sound.folder / "elsewhere")
    assert findings(sound, 0)["source files"][:2] == ("warning", "it is not there")


# --- repository ---


def test_a_wrong_password_a_missing_one_and_a_missing_repository(sound: Host) -> None:
    password = sound.folder / "password"
    password.write_text("wrong")
    assert findings(sound, 1)["repository repository"][0] == "broken"
    password.unlink()
    assert "No such file" in findings(sound, 1)["repository repository"][1]
    password.write_text("secret")
    (sound.folder / "repository").rename(sound.folder / "gone")
    severity, cause, step = findings(sound, 1)["repository repository"]
    assert severity == "broken" and cause and step


def test_locks_are_named_stale_ones_with_what_removes_them(sound: Host) -> None:
    (sound.folder / "repository/locks").mkdir(exist_ok=True)
    place = ["-r", str(sound.folder / "repository"), "-p", str(sound.folder / "password")]
    lock = _lock_of_a_dead_process(sound)
    severity, cause, step = findings(sound, 0)["repository repository"]
    assert severity == "warning"
    assert "is locked exclusively by" in cause
    assert "the lock is stale, remove it with 'cdr unlock'" in step
    sound.cdr("unlock", *place)
    assert not lock.exists()
    assert findings(sound, 0) == {}


def _lock_of_a_dead_process(host: Host) -> Path:
    """An exclusive lock that was left behind."""
    from cdr_plugin.assembly import top_tiers
    from cdr_plugin.cli.context import Context
    from cdr_plugin.cli.parser import parse
    from cdr_restic.lock_files import our_lock
    from cdr_restic.storage import FileKind

    _, options = parse(["status", "-c", str(host.folder / "cdr.toml")])
    context = Context(options)
    (top,) = top_tiers(context.config, context.config.tier("hq"), context.plugins, context.output)
    repository = top.open_repository()
    files = repository.files()  # type: ignore[attr-defined]
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    text = our_lock(exclusive=True).replace(b'"pid":%d' % os.getpid(), b'"pid":%d' % child)
    files.save(FileKind.LOCKS, text)
    top.close()
    (lock,) = (host.folder / "repository/locks").iterdir()
    return lock


def test_another_repository_in_its_place(sound: Host) -> None:
    state = sqlite3.connect(sound.folder / "hq/home/state.db")
    state.execute("UPDATE meta SET value=? WHERE key='repository'", (b"0" * 64,))
    state.commit()
    state.close()
    severity, cause, _ = findings(sound, 1)["repository repository"]
    assert severity == "broken"
    assert cause.endswith("another repository is in its place")


# --- what is stuck ---


def age(host: Host, days: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that follows happens so much later."""
    now_s = time.time() + days * 86400
    monkeypatch.setattr("time.time", lambda: now_s)


def test_a_version_that_does_not_arrive(sound: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    sound.cdr("backup", "--force")
    assert findings(sound, 0) == {}
    age(sound, 20, monkeypatch)
    found = findings(sound, 0)
    assert found["version 2"][1].startswith("captured for 20 days; 1 segments")
    assert "'cdr send --now' overrides it" in found["version 2"][2]
    assert found["contact"][1] == "the last receipt came 20 days ago"
    assert found["client laptop of group home"][1] == "nothing new for 20 days"


def test_a_queue_that_does_not_move(sound: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    sound.cdr("backup", "--force")
    sound.cdr("send", "-T", "laptop")
    sound.cdr("receive", "-T", "branch")
    age(sound, 8, monkeypatch)
    found = findings(sound, 0)
    assert found["queue"][1].endswith("wait, and nothing was sent for 8 days")
    assert found["version 2"][1].startswith("in transit for 8 days")
    assert found["version 2"][2] == "all was sent: run 'cdr doctor' on the tiers above"


def test_a_client_that_is_not_enrolled_or_was_never_answered(host: Host) -> None:
    host.write()
    (host.folder / "password").write_text("secret")
    (host.folder / "files").mkdir()
    text = (host.folder / "cdr.toml").read_text()
    host.cdr("init")
    assert findings(host, 0)["enrolment"][0] == "note"
    host.cdr("backup")
    host.cdr("send")
    assert findings(host, 0)["enrolment"][0] == "warning"
    (host.folder / "cdr.toml").write_text(text.replace('state = "laptop"', 'state = "other"').partition("[tier.hq]")[0])
    host.cdr("init")
    assert findings(host, 1)["enrolment"][:2] == ("broken", "no ticket was adopted")


def test_jobs_that_fail(sound: Host) -> None:
    write_ledger(sound.folder / "laptop", {JobKind.SEND: Record(Moment(0.0, 0.0), 3, "no route to host")})
    severity, cause, step = findings(sound, 1)["job send"]
    assert (severity, step) == ("broken", "run 'cdr send -T laptop' and see")
    assert cause == "failed 3 times in a row: no route to host"


# --- the machine ---


def test_a_broken_plugin_is_named() -> None:
    class Entry:
        name, dist = "broken", None

        def load(self) -> object:
            raise ImportError("no module named x")

    found = list(machine.plugins(Plugins(lambda: [Entry()])))  # type: ignore[list-item]
    assert [(one.severity, one.about) for one in found] == [(Severity.BROKEN, "plugin broken")]
    assert "no module named x" in found[0].cause
    assert hasattr(Hooks, "cdr_transports")


def test_a_service_that_failed_one_that_runs_and_none(tmp_path: Path) -> None:
    def manager(state: str) -> Manager:
        said = f"LoadState=loaded\nActiveState={state}\nResult=exit-code\n"
        return Manager(system=True, run=lambda _command: (0, said), root=tmp_path)

    def severities(state: str, *, here: bool = True) -> Iterator[Severity]:
        return (one.severity for one in machine.service(manager(state), "cdr", is_systemd_here=here))

    assert list(severities("active")) == [Severity.NOTE]  # not installed
    unit = tmp_path / "etc/systemd/system/cdr.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Install]\n")
    assert list(severities("active")) == []
    assert list(severities("failed")) == [Severity.BROKEN]
    assert list(severities("failed", here=False)) == [Severity.NOTE]


def test_the_slow_kernel_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdr_plugin.kernel.in_use", "python")
    assert [one.severity for one in machine.kernel()] == [Severity.WARNING]
    monkeypatch.setattr("cdr_plugin.kernel.in_use", "c")
    assert list(machine.kernel()) == []


def test_an_error_becomes_cause_and_next_step() -> None:
    found = from_error("t", "x", RemoteError("a; b; do c"), "or d")
    assert (found.cause, found.next_step) == ("a; b", "do c")
    assert from_error("t", "x", RemoteError("a"), "or d").next_step == "or d"


def test_findings_are_shown_with_what_is_broken_first(sound: Host) -> None:
    (sound.folder / "inbox/holiday.jpg").touch()
    (sound.folder / "laptop-identity/identity.key").chmod(0o644)
    out, _ = sound.cdr("doctor", code=1)
    lines = out.splitlines()
    assert lines[0].startswith(f"broken   laptop: identity {sound.folder}/laptop-identity: ")
    assert lines[1] == f"         -> run 'chmod 600 {sound.folder}/laptop-identity/identity.key'"
    assert lines[2].startswith("warning  hq: inbox ")
    assert lines[-1] == "1 broken, 1 warnings"
    assert json.dumps(lines)
