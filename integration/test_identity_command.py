"""``cdr identity`` as operators type it: what it says, what it refuses, and what ``cdr status`` shows of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from .command import Shell
from .hosts import Hierarchy, files_in
from .in_process import run_in_process

PASS = {"CDR_PASSPHRASE": "five words of your own choice"}

BOTH = """
[tier.laptop]
group = "default"
state = "laptop/state"
identity = "laptop/identity"
source.paths = ["files"]
forward.to = "file:inbox"

[tier.relay]
state = "relay/state"
identity = "relay/identity"
receive.inbox = "file:relay/inbox"
forward.to = "file:inbox"

[tier.hq]
state = "hq/state"
identity = "hq/identity"
receive.inbox = "file:inbox"
store = { repository = "repository", password_file = "password" }
"""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Three tiers of one file."""
    run_in_process(monkeypatch)
    files_in(tmp_path, **{"cdr.toml": BOTH, "password": "p\n", "files__letter": "Dear all,\n"})
    shell = Shell(tmp_path)
    shell.cdr("init")
    return shell


def test_show_names_the_keys_that_others_see(host: Shell) -> None:
    host.cdr("send", "-T", "laptop")
    host.cdr("receive", "-T", "hq")
    host.cdr("identity", "rotate", "-T", "hq")
    shown = {tier["name"]: tier for tier in host.json("identity", "show")["tiers"]}
    assert shown.keys() == {"laptop", "hq"}
    (group,) = shown["hq"]["groups"]
    assert (group["name"], group["older_keys"]) == ("default", 1)
    (client,) = host.cdr("clients", "--json").documents[0]
    assert client["fingerprint"].startswith(shown["laptop"]["fingerprint"])
    ticket = host.cdr("ticket").out
    assert f"Issuer: {'-'.join(shown['hq']['fingerprint'][at : at + 4] for at in range(0, 16, 4))}\n" in ticket
    assert shown["hq"]["fingerprint"] in host.cdr("identity", "show").out


def test_status_tells_when_the_keys_were_kept_and_that_they_have_changed(host: Shell) -> None:
    def told() -> tuple[bool, bool]:
        (tier,) = host.json("status", "-T", "hq")["tiers"]
        return tier["identity_exported"] is not None, tier["identity_changed"]

    assert told() == (False, False)
    made = host.json("identity", "export", "kept", "-T", "hq", **PASS)
    assert made["holds"] == ["identity.key", "register.db", "sealing-default.keys"]
    assert told() == (True, False)
    assert "keys changed" not in host.cdr("status", "-T", "hq").out
    host.cdr("identity", "rotate", "-T", "hq")
    assert told() == (True, True)
    assert "its keys changed since 'cdr identity export'" in host.cdr("status", "-T", "hq").out
    host.cdr("identity", "export", "kept", "-T", "hq", **PASS)
    assert told() == (True, False)


def test_what_an_export_of_a_client_holds(host: Shell) -> None:
    made = host.json("identity", "export", "kept", "-T", "laptop", **PASS)
    assert made["holds"][:2] == ["identity.key", "sealing-default.keys"]
    assert made["holds"][2].startswith("state .: enrolment, group, ticket")
    assert "timezone" in made["holds"][2]


REFUSED = {
    ("export", "-T", "hq"): "'export' and 'recover' take the name of a file",
    ("show", "file"): "take the name of a file, and nothing else does",
    ("export", "kept"): "choose one tier with -T (there are: laptop, hq)",
    ("export", "kept", "-T", "relay"): "relay: no identity to work with; a tier that moves segments unopened has none",
    ("export", "kept", "-T", "hq"): "no passphrase: give --passphrase-file or --passphrase-command, or set CDR_PASS",
    ("export", "kept", "-T", "hq", "--passphrase-file", "gone"): "passphrase file gone: No such file or directory",
    ("export", "no/folder", "-T", "hq", "--passphrase-command", "echo p"): "no/folder: No such file or directory",
    ("export", "password", "-T", "hq", "--passphrase-command", "echo p"): "which is no export; choose another name",
    ("recover", "gone", "-T", "hq"): "gone: No such file or directory",
    ("recover", "password", "-T", "hq", "--passphrase-command", "echo p"): "identity export: this file is none",
    ("show", "--signing"): "--group, --signing and --drop-old belong to 'rotate'",
    ("rotate", "-T", "laptop"): "tier laptop: a client's keys are replaced together",
    ("rotate", "-T", "hq", "--group", "legal"): "tier hq: no key for group legal; see 'cdr identity show'",
    ("rotate", "-T", "hq", "--group", "../x"): "'../x' is no group name",
    ("rotate", "-T", "hq", "--signing", "--drop-old"): "--drop-old makes no new key",
}


@pytest.mark.parametrize("arguments", REFUSED, ids=" ".join)
def test_what_cannot_be_done_is_said_in_one_line(host: Shell, arguments: tuple[str, ...]) -> None:
    before = {path: path.read_bytes() for path in host.folder.rglob("*.key*")}
    assert REFUSED[arguments] in host.cdr("identity", *arguments, code=1).error
    assert {path: path.read_bytes() for path in host.folder.rglob("*.key*")} == before
    assert not (host.folder / "kept").exists()


def test_recovery_names_what_does_not_fit_and_changes_nothing(host: Shell) -> None:
    host.cdr("identity", "export", "kept", "-T", "hq", **PASS)
    wrong = {"CDR_PASSPHRASE": "another"}
    assert "the passphrase is wrong" in host.cdr("identity", "recover", "kept", "-T", "hq", code=1, **wrong).error
    said = host.cdr("identity", "recover", "kept", "-T", "laptop", code=1, **PASS).error
    assert "an export of hq (top), while the configuration has laptop (client)" in said
    said = host.cdr("identity", "recover", "kept", "-T", "hq", code=1, **PASS).error
    assert "there is an identity already; move it away yourself if it may go" in said
    (host.folder / "hq" / "identity").rename(host.folder / "away")
    recovered = host.json("identity", "recover", "kept", "-T", "hq", **PASS)
    assert Path(recovered["files"][-1]) == host.folder / "hq" / "identity" / "identity.key"
    assert host.json("receive", "-T", "hq")["versions_stored"] == 0


def test_a_passphrase_never_stands_in_what_is_printed_or_written(host: Shell) -> None:
    files_in(host.folder, passphrase=PASS["CDR_PASSPHRASE"] + "\n")
    for where in (("--passphrase-file", "passphrase"), ("--passphrase-command", "cat passphrase")):
        done = host.cdr("identity", "export", "kept", "-T", "hq", "-vv", *where)
        assert PASS["CDR_PASSPHRASE"] not in done.out + done.err
    (host.folder / "passphrase").unlink()
    kept = (host.folder / "kept").read_bytes()
    assert kept.startswith(b"cdr-identity-export 1\n")
    for secret in (PASS["CDR_PASSPHRASE"].encode(), b"cdr-sign-private", b"laptop", b"default"):
        assert secret not in kept
    (host.folder / "hq" / "identity").rename(host.folder / "away")
    host.cdr("identity", "recover", "kept", "-T", "hq", **PASS)


def test_a_real_process_asks_for_nothing_without_a_terminal(tmp_path: Path) -> None:
    """Standard input is empty; a question would be an error of another kind."""
    hierarchy = Hierarchy(tmp_path).init()
    assert "no passphrase" in hierarchy.hq.cdr("identity", "export", "kept", code=1).error
    exported = hierarchy.hq.json("identity", "export", "kept", **PASS)
    assert exported["tier"] == "hq"
