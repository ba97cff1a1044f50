"""Sealing, keys and config against what restic 0.14 made, and against published vectors."""

from __future__ import annotations

import base64
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdr_plugin.contracts import RepositoryOptions
from cdr_plugin.errors import (
    AuthenticationError,
    ConfigError,
    FormatError,
    IntegrityError,
    NoRepositoryError,
    RemoteError,
    UnknownVersionError,
    UserError,
    WrongPasswordError,
)
from cdr_plugin.model.blobs import Buffer
from cdr_restic.config import decode_config, encode_config, load_config
from cdr_restic.crypto import OVERHEAD, KeyMaterial, Sealer
from cdr_restic.keys import MAX_KEYS, Scrypt, add_key, decode_key, encode_key, find_key, measured_scrypt
from cdr_restic.local import LocalStorage
from cdr_restic.plugin import ResticFormat
from cdr_restic.repository import ResticRepository, open_repository
from cdr_restic.storage import FileKind
from tests.restic.world import QUICK, Place

# restic 0.14: init with the password "golden"; then "cat masterkey" and "cat config".
KEY_FILE = (
    b'{"created":"2026-11-22T20:13:15.39344841Z","username":"root","hostname":"vm","kdf":"scrypt","N":'
    b'32768,"r":8,"p":3,"salt":"aHTv3SiAev+dCQOMoZ2adIJiF8ct+34lENVV/KGz70BtEgTAhm6Ec9THJykyzBXfExyltB'
    b'liXrRT86p2Uid9Lg==","data":"GmRn9AO3AOOs/1n/xuikWQSk8vRXxvGZXFnpvaZxeVQP1xRq4yf7hAwoUMNhoeOo0dHW'
    b'GVkX/bRiaPIpiHq6HUpsG9NWbIl2++InC5eJsf/ho0xCOF/LA2tOGx+RdqaBGSzf/Jf3em881ObhhCLL0p8KeGZmXRTwaEMH'
    b'PUMT2gDhb01hkfjOqwc+Xg/PrHjYL4CtwzdWitsUHG6MRakeDg=="}'
)
CONFIG_FILE = base64.b64decode(
    'qm2+pizS9vFQflpgKQW+xdATiTI8U+09omBEJnFaZuc8ueo/BAQvfTJqV3RqZTi9BR6ZJU3QUP6502m0hBsHt4HuvdZ0jiFJ'
    'K0CYdohkr+y6PSbLoA+0lrQJFwVVXqGtoywm8owhFuK9eDDqRS0+LEshTcJihM/gbFEQJYoB1FGrvIRgGBC9iUDpF5n55O7a'
    'deEztJRpMw44Hh0='
)
MASTER = KeyMaterial(
    base64.b64decode("NpFgtLsAHMqHn53kY0XL4w5WMJ/f70a1UOLisa+hgjw="),
    base64.b64decode("EtQf3Bs4Bkv5BPvpp7TWNw=="),
    base64.b64decode("xIDlAlyC2AccfLQGFB0DDw=="),
)
CONFIG_TEXT = (
    b'{"version":2,"id":"89b11d4408707603e375ef8741071dfc83a0c9fa780b9c7d82f86b6ba6b1af18",'
    b'"chunker_polynomial":"27c24da1d91ae3"}'
)


def test_a_key_file_of_restic_opens_with_its_password_only() -> None:
    assert decode_key(KEY_FILE, "golden") == MASTER
    with pytest.raises(AuthenticationError):
        decode_key(KEY_FILE, "Golden")


def test_a_config_of_restic_opens_and_encodes_to_the_same_bytes() -> None:
    plaintext = Sealer(MASTER).open(CONFIG_FILE)
    assert plaintext == CONFIG_TEXT
    assert encode_config(decode_config(plaintext)) == CONFIG_TEXT


def test_the_tag_is_poly1305_aes_of_the_paper() -> None:
    """Bernstein, The Poly1305-AES message-authentication code, appendix B."""
    key = KeyMaterial(
        bytes(31) + b"\1",
        bytes.fromhex("ec074c835580741701425b623235add6"),
        bytes.fromhex("851fc40c3467ac0be05cc20404f3f700"),
    )
    nonce, tag = "fb447350c4e868c52ac3275cf9d4327e", "f4c633c3044fc145f84f335cb81953de"
    assert len(Sealer(key).open(bytes.fromhex(nonce + "f3f6" + tag))) == 2
    with pytest.raises(AuthenticationError):
        Sealer(key).open(bytes.fromhex(nonce + "f3f7" + tag))


@given(st.lists(st.binary(max_size=300), max_size=100))
def test_sealing_and_opening_is_identity_and_never_repeats_an_iv(blobs: list[bytes]) -> None:
    sealer, opener = Sealer(MASTER), Sealer(MASTER)
    sealed = [sealer.seal(blob) for blob in blobs]
    assert [opener.open(box) for box in sealed] == blobs
    assert all(len(box) == len(blob) + OVERHEAD for box, blob in zip(sealed, blobs, strict=True))
    assert len({box[:16] for box in sealed}) == len(blobs)


@given(st.binary(max_size=100), st.data())
def test_no_changed_or_shortened_seal_opens(blob: bytes, data: st.DataObject) -> None:
    sealed = bytearray(Sealer(MASTER).seal(blob))
    place = data.draw(st.integers(0, len(sealed) - 1))
    with pytest.raises(AuthenticationError):
        Sealer(MASTER).open(sealed[:place])
    sealed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(AuthenticationError):
        Sealer(MASTER).open(sealed)


def test_an_empty_iv_is_refused() -> None:
    with pytest.raises(AuthenticationError, match="empty IV"):
        Sealer(MASTER).open(bytes(40))


@pytest.mark.parametrize(
    "parameters",
    [
        *((1, 8, 1), (3, 8, 1), (0, 8, 1), (1024, 0, 1), (1024, 8, 0)),
        *((2**31, 8, 1), (2**21, 8, 1), (2, 2**23, 1), (1024, 8, 2**27), (1024, 1, 2**24 + 1)),
        *((32768, 8, 2**13), (2, 1, 2**29 + 1)),
    ],
)
def test_scrypt_parameters_beyond_the_limits_are_refused_unused(parameters: tuple[int, int, int]) -> None:
    with pytest.raises(FormatError, match="scrypt"):
        Scrypt(*parameters).check()


def test_chosen_scrypt_parameters_are_legal() -> None:
    measured_scrypt().check()


def test_a_further_key_opens_the_same_repository(place2: Place) -> None:
    storage = LocalStorage(str(place2.folder))
    add_key(storage, place2.key, "another", QUICK)
    assert find_key(storage, "another").master == find_key(storage, place2.password).master == place2.key
    place2.password = "another"
    place2.restic("check")


def _many_keys(place: Place, count: int) -> list[str]:
    """Keys with the passwords 0, 1, ... beside the first one; their IDs."""
    storage = LocalStorage(str(place.folder))
    return [add_key(storage, place.key, str(number), Scrypt(2, 1, 1)) for number in range(count)]


def test_only_twenty_keys_are_tried(place2: Place) -> None:
    _many_keys(place2, MAX_KEYS + 1)
    storage = LocalStorage(str(place2.folder))
    with pytest.raises(WrongPasswordError, match=r"22 found; only 20 were tried, name another one with --key-hint"):
        find_key(storage, "none of these")
    with pytest.raises(WrongPasswordError, match="only 20 were tried"):
        find_key(storage, "none of these", place2.key_id)


def test_the_hinted_key_is_tried_first_also_beyond_the_twentieth(
    place2: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = _many_keys(place2, 25)
    storage = LocalStorage(str(place2.folder))
    last = max(ids)
    password = str(ids.index(last))
    with pytest.raises(WrongPasswordError):
        find_key(storage, password)
    monkeypatch.setattr("cdr_restic.keys.MAX_KEYS", 0)
    for hint in (last, last[:12]):
        assert find_key(storage, password, hint) == (last, place2.key)


@pytest.mark.parametrize("hint", ["", "f", "0123456789", "of another repository"])
def test_a_hint_that_names_no_single_key_changes_nothing(place2: Place, hint: str) -> None:
    ids = _many_keys(place2, 3)
    assert find_key(LocalStorage(str(place2.folder)), "1", hint) == (ids[1], place2.key)


def test_a_hinted_key_that_does_not_open_does_not_end_the_search(place2: Place) -> None:
    storage = LocalStorage(str(place2.folder))
    other = add_key(storage, place2.key, "other", Scrypt(2, 1, 1))
    assert find_key(storage, place2.password, other).id == place2.key_id
    damaged = b"no key at all"
    name = sha256(damaged).hexdigest()
    storage.save(FileKind.KEYS, name, damaged)
    assert find_key(storage, "other", name).id == other


@pytest.mark.parametrize(
    "parameters", [(2, 1, 1), (4, 5, 7), (16384, 8, 1), (65536, 2, 3), (32768, 1, 1), (2, 4096, 2), (2, 1, 9999)]
)
def test_keys_with_odd_scrypt_parameters_open_the_repository(place2: Place, parameters: tuple[int, int, int]) -> None:
    id_ = add_key(LocalStorage(str(place2.folder)), place2.key, "odd", Scrypt(*parameters))
    repository = _open(place2, "odd")
    assert isinstance(repository, ResticRepository)
    assert repository.key_id == id_ and repository.care().keys()[-1].current
    place2.password = "odd"
    place2.restic("cat", "config", "--no-lock", "--key-hint", id_)


def test_a_huge_key_file_is_not_loaded(place2: Place) -> None:
    with (place2.folder / "keys" / ("0" * 64)).open("wb") as file:
        file.truncate(1 << 29)
    with pytest.raises(IntegrityError, match="536870912 bytes are too many for a key"):
        find_key(LocalStorage(str(place2.folder)), place2.password)


def test_a_key_that_does_not_come_back_is_removed_and_the_others_stay(place2: Place) -> None:
    class Forgetful(LocalStorage):
        def save(self, kind: FileKind, name: str, data: Buffer) -> None:
            super().save(kind, name, bytes(data)[:-1])

    before = list(LocalStorage(str(place2.folder)).list(FileKind.KEYS))
    with pytest.raises(IntegrityError):
        add_key(Forgetful(str(place2.folder)), place2.key, "new", QUICK)
    assert list(LocalStorage(str(place2.folder)).list(FileKind.KEYS)) == before


@pytest.mark.parametrize("change", ["salt", "kdf", "json", "zero"])
def test_a_damaged_key_is_named_and_is_no_wrong_password(place2: Place, change: str) -> None:
    storage = LocalStorage(str(place2.folder))
    for name in storage.list(FileKind.KEYS):
        storage.remove(FileKind.KEYS, name)
    key = encode_key(KeyMaterial(bytes(32), *(b"x" * 16,) * 2), "pw", Scrypt(2, 1, 1))
    key = {"salt": key.replace(b'"salt":"', b'"salt":"AAAA'), "kdf": key.replace(b"scrypt", b"argon2"),
           "json": key[:-2], "zero": key}[change]  # fmt: skip
    storage.save(FileKind.KEYS, sha256(key).hexdigest(), key)
    with pytest.raises(FormatError, match=r"keys \w{10} of repository .* is damaged"):
        find_key(storage, "pw")


def _open(place: Place, password: str = "") -> object:
    options = RepositoryOptions(lambda: password or place.password)
    return ResticFormat().open(str(place.folder), options)


def test_a_wrong_password_is_one_clear_line(place2: Place) -> None:
    with pytest.raises(WrongPasswordError, match="the password opens no key of repository") as caught:
        _open(place2, "hunter2")
    assert caught.value.exit_code == 12 and "hunter2" not in str(caught.value)


def test_a_folder_without_config_is_no_repository_and_no_password_is_asked_for(tmp_path: Path) -> None:
    def ask() -> str:
        raise AssertionError("asked")

    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(NoRepositoryError, match="there is no repository at") as caught:
            ResticFormat().open(str(folder), RepositoryOptions(ask))
        assert str(folder) in str(caught.value)


def test_a_damaged_config_is_told_from_a_wrong_password(place2: Place) -> None:
    config = place2.folder / "config"
    data = bytearray(config.read_bytes())
    data[20] ^= 1
    config.chmod(0o600)
    config.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"config of repository .* is damaged, .*the password is right"):
        _open(place2)


def test_a_config_of_a_later_version_is_left_alone(place2: Place) -> None:
    storage = LocalStorage(str(place2.folder))
    storage.save(FileKind.CONFIG, "", Sealer(place2.key).seal(CONFIG_TEXT.replace(b":2,", b":3,")))
    with pytest.raises(UnknownVersionError, match="version 3"):
        load_config(storage, place2.key)


def test_a_foreign_chunker_may_be_read_but_not_written(place2: Place) -> None:
    storage = LocalStorage(str(place2.folder))
    text = CONFIG_TEXT[:-1] + b',"chunker":"fixed_size","append_only":true}'
    storage.save(FileKind.CONFIG, "", Sealer(place2.key).seal(text))
    repository = place2.repository()
    with repository.reading():
        pass
    with pytest.raises(UserError, match="chunker 'fixed_size'"):
        repository.writing().__enter__()


@pytest.mark.parametrize("location", ["sftp:host:/x", "rest:http://h/", "s3:s3.amazonaws.com/b", "local:", ""])
def test_other_kinds_of_places_are_refused_with_what_is_supported(location: str) -> None:
    with pytest.raises(UserError, match="only folders of this machine"):
        ResticFormat().open(location, RepositoryOptions(lambda: ""))


def test_local_folders_are_named_for_exclusion() -> None:
    assert ResticFormat().local_folder("/a/b") == ResticFormat().local_folder("local:/a/b") == Path("/a/b")
    assert ResticFormat().local_folder("sftp:host:/x") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"compression": "zip"},
        {"pack_size": 1000},
        {"settings": {"packs": 1}},
        {"settings": {"version": 3}},
    ],
)
def test_bad_options_are_config_errors(place2: Place, changes: dict[str, object]) -> None:
    options = place2.options(**{"pack_size": 4 << 20, **changes})
    with pytest.raises(ConfigError):
        open_repository(LocalStorage(str(place2.folder)), options)


def test_creating_refuses_what_is_there(place2: Place, tmp_path: Path) -> None:
    options = RepositoryOptions(lambda: "pw")
    with pytest.raises(UserError, match="there is a repository at"):
        ResticFormat().create(str(place2.folder), options, {})
    (place2.folder / "config").unlink()
    with pytest.raises(UserError, match="holds keys of a repository without config"):
        ResticFormat().create(str(place2.folder), options, {})


@pytest.mark.parametrize(
    "chunker", [{"name": "fixed"}, {"min_size": 1}, {"polynomial": "3da3358b4dc172"}, {"polynomial": "12"}, {"x": 1}]
)
def test_creating_refuses_chunkers_that_restic_lacks(tmp_path: Path, chunker: dict[str, object]) -> None:
    with pytest.raises(UserError):
        ResticFormat().create(str(tmp_path / "new"), RepositoryOptions(lambda: "pw"), chunker)
    assert not (tmp_path / "new").exists()


def test_an_empty_password_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="empty password"):
        ResticFormat().create(str(tmp_path / "new"), RepositoryOptions(lambda: ""), {})


def test_a_place_that_cannot_be_written_is_a_remote_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RemoteError, match="cannot create repository"):
        ResticFormat().create(str(tmp_path / "file" / "new"), RepositoryOptions(lambda: "pw"), {})
