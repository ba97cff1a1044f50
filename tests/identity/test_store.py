"""Identity folders: private, durable, and keeping what may still be needed."""

import os
from pathlib import Path

import pytest

from cdr_plugin.errors import ConfigError, FormatError, NotEnrolledError, UserError
from cdr_plugin.identity.keys import KemSuite
from cdr_plugin.identity.store import Identity


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "identity"


def test_an_identity_is_the_same_after_loading(folder: Path) -> None:
    made = Identity.create(folder, KemSuite.X25519)
    key = made.sealing_key("legal", create=True)
    again = Identity.load(folder)
    assert again.signing == made.signing
    assert again.suite is KemSuite.X25519
    assert again.sealing_key("legal") == key
    assert again.groups() == ["legal"]


def test_the_default_suite_is_the_hybrid_one(folder: Path) -> None:
    assert Identity.create(folder).sealing_key("g", create=True).suite is KemSuite.MLKEM768_X25519


def test_files_and_folder_are_private_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0)
    try:
        Identity.create(folder).sealing_key("legal", create=True)
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {p.stat().st_mode & 0o777 for p in folder.iterdir()} == {0o600}


def test_without_an_identity_the_error_says_how_to_make_one(folder: Path) -> None:
    with pytest.raises(NotEnrolledError, match="cdr init"):
        Identity.load(folder)


def test_a_second_identity_in_the_same_folder_is_refused(folder: Path) -> None:
    first = Identity.create(folder)
    with pytest.raises(UserError, match="already"):
        Identity.create(folder)
    assert Identity.load(folder).signing == first.signing


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
@pytest.mark.parametrize("name", ["identity.key", "sealing-legal.keys"])
def test_a_key_file_that_others_can_reach_is_refused(folder: Path, mode: int, name: str) -> None:
    Identity.create(folder).sealing_key("legal", create=True)
    (folder / name).chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        Identity.load(folder).sealing_keys("legal")


def test_a_key_file_that_is_a_link_or_a_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    Identity.create(folder)
    (folder / "identity.key").rename(tmp_path / "elsewhere")
    (folder / "identity.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"identity\.key"):
        Identity.load(folder)
    (folder / "identity.key").unlink()
    (folder / "identity.key").mkdir()
    with pytest.raises(ConfigError, match="not a plain file"):
        Identity.load(folder)


def test_a_key_file_of_another_user_is_refused(folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    Identity.create(folder)
    os.chown(folder / "identity.key", 12345, -1)
    with pytest.raises(ConfigError, match="12345"):
        Identity.load(folder)


def test_rotation_keeps_the_old_keys_behind_the_new_one(folder: Path) -> None:
    identity = Identity.create(folder, KemSuite.X25519)
    first = identity.sealing_key("legal", create=True)
    second = identity.rotate_sealing_key("legal")
    assert identity.sealing_key("legal", create=True) == second
    assert Identity.load(folder).sealing_keys("legal") == [second, first]


def test_groups_have_keys_of_their_own(folder: Path) -> None:
    identity = Identity.create(folder, KemSuite.X25519)
    assert identity.sealing_key("a", create=True) != identity.sealing_key("b", create=True)
    assert identity.sealing_keys("c") == []
    with pytest.raises(NotEnrolledError, match="group c"):
        identity.sealing_key("c")
    with pytest.raises(UserError):
        identity.sealing_key("../../etc/passwd", create=True)


@pytest.mark.parametrize("text", ["", "cdr-identity 2 x25519\n", "cdr-identity 1 x25519\ngarbage\n", "\udcff"])
def test_a_damaged_identity_is_a_format_error(folder: Path, text: str) -> None:
    Identity.create(folder)
    (folder / "identity.key").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(FormatError):
        Identity.load(folder)


def test_keys_of_another_suite_are_not_used(folder: Path, tmp_path: Path) -> None:
    Identity.create(folder, KemSuite.X25519)
    other = Identity.create(tmp_path / "other")
    other.sealing_key("legal", create=True)
    (tmp_path / "other" / "sealing-legal.keys").rename(folder / "sealing-legal.keys")
    with pytest.raises(FormatError, match="suite x25519"):
        Identity.load(folder).sealing_keys("legal")


def test_what_a_crash_left_half_written_does_not_stop_the_next_writer(folder: Path) -> None:
    identity = Identity.create(folder, KemSuite.X25519)
    (folder / ".sealing-legal.keys.new").write_text("cdr-seal-priv")
    key = identity.sealing_key("legal", create=True)
    assert Identity.load(folder).sealing_keys("legal") == [key]
    assert not (folder / ".sealing-legal.keys.new").exists()
