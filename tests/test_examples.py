"""The example of a third party's plugin: installed as users do it, found and used like ours."""

import json
import os
import random
import subprocess
import sys
import textwrap
from itertools import pairwise
from pathlib import Path

import pytest

from cdr_plugin.contracts import ReductionMethod, Splitter
from cdr_plugin.errors import FormatError, NotFoundError, PayloadError, UserError
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.plugins import Plugins

EXAMPLE = Path(__file__).parent.parent / "examples" / "cdr-linesplit"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed example: made by pip from its sources, without a network."""
    target = tmp_path_factory.mktemp("example") / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-index", "--no-build-isolation", "--no-deps", "--no-warn-script-location"]
    subprocess.run([*pip, *offline, "--target", target, EXAMPLE], check=True)
    return target


@pytest.fixture
def method(installed: Path, monkeypatch: pytest.MonkeyPatch) -> ReductionMethod:
    monkeypatch.syspath_prepend(str(installed))
    return Plugins().reduction_method("linesplit/1")


def text_of(lines: int, seed: int = 1) -> bytes:
    source = random.Random(seed)
    return b"".join(b"%d %x some words on a line\n" % (n, source.getrandbits(64)) for n in range(lines))


def split(splitter: Splitter, data: bytes, step: int) -> list[bytes]:
    """The blobs of ``data`` when it is fed in buffers of ``step`` bytes."""
    splitter.reset()
    ends = [at + cut for at in range(0, len(data), step) for cut in splitter.feed(data[at : at + step])]
    edges = [0, *ends, *([len(data)] if not ends or ends[-1] < len(data) else [])]
    return [data[start:end] for start, end in pairwise(edges)]


def no_bases(type_: BlobType, id_: BlobId) -> bytes:
    raise NotFoundError("asks for no bases")


def test_cdr_plugins_lists_it_like_ours(installed: Path) -> None:
    path = os.pathsep.join([str(installed), *filter(None, sys.path)])
    command = [sys.executable, "-m", "cdr_plugin", "plugins", "--json"]
    done = subprocess.run(command, capture_output=True, check=True, env={**os.environ, "PYTHONPATH": path})
    listed = {entry["name"]: entry for entry in json.loads(done.stdout)}
    assert listed["linesplit"] == {
        "kind": "reduction method",
        "name": "linesplit",
        "version": "1",
        "distribution": "cdr-linesplit",
        "enabled": True,
        "error": "",
    }
    assert listed["linesplit"].keys() == listed["zstd"].keys()


def test_it_can_be_disabled_by_name(installed: Path) -> None:
    path = os.pathsep.join([str(installed), *filter(None, sys.path)])
    script = textwrap.dedent("""
        from cdr_plugin.errors import PluginError
        from cdr_plugin.plugins import installed
        try:
            installed().reduction_method("linesplit")
        except PluginError as error:
            print(error)
    """)
    environment = {**os.environ, "PYTHONPATH": path, "CDR_DISABLE_PLUGINS": "linesplit"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.startswith("no plugin provides the reduction method 'linesplit'")


def test_split_encode_decode_is_the_identity(method: ReductionMethod) -> None:
    splitter, encoder, decoder = method.splitter(method.chunker_parameters({})), method.encoder({}), method.decoder()
    assert splitter is not None and encoder is not None and decoder is not None
    data = text_of(20_000)
    blobs = split(splitter, data, 65536)
    assert b"".join(blobs) == data
    assert len(blobs) > 20
    for blob in blobs:
        payload = encoder.encode(blob)
        assert payload is not None and len(payload) < len(blob)
        assert decoder.decode(payload, len(blob), no_bases) == blob


@pytest.mark.parametrize("step", [1, 7, 4096, 100_000])
def test_any_division_into_buffers_gives_the_same_blobs(method: ReductionMethod, step: int) -> None:
    splitter = method.splitter({"min_size": 200, "max_size": 1000, "lines": 4})
    assert splitter is not None
    data = text_of(300) + b"x" * 5000 + text_of(300, seed=2)
    blobs = split(splitter, data, step)
    assert blobs == split(splitter, data, len(data))
    assert all(len(blob) <= 1000 for blob in blobs)
    assert all(len(blob) >= 200 for blob in blobs[:-1])


def test_a_line_that_is_added_changes_only_the_blobs_around_it(method: ReductionMethod) -> None:
    splitter = method.splitter(method.chunker_parameters({}))
    assert splitter is not None
    data = text_of(20_000)
    middle = data.index(b"\n", len(data) // 2) + 1
    old = split(splitter, data, 65536)
    new = split(splitter, data[:middle] + b"an added line\n" + data[middle:], 65536)
    assert len(set(new) - set(old)) <= 2


def test_hostile_payloads_are_refused(method: ReductionMethod) -> None:
    encoder, decoder = method.encoder({}), method.decoder()
    assert encoder is not None and decoder is not None
    blob = bytes(50_000_000)
    payload = encoder.encode(blob)
    assert payload is not None
    good = bytes(payload)
    for bad, length in ((good, 1000), (good + b"x", len(blob)), (good[:-1], len(blob)), (b"junk", 4), (b"", 0)):
        with pytest.raises(PayloadError):
            decoder.decode(bad, length, no_bases)


def test_bad_parameters_and_settings_are_refused(method: ReductionMethod) -> None:
    sound = {"min_size": 1, "max_size": 1000, "lines": 1}
    assert method.splitter(sound) is not None
    for change in ({"min_size": 0}, {"max_size": 1 << 40}, {"lines": 0}, {"lines": "7"}, {"min_size": 2000}):
        with pytest.raises(FormatError):
            method.splitter({**sound, **change})
    with pytest.raises(UserError, match="level must be"):
        method.encoder({"level": 10})


def test_it_is_under_100_lines() -> None:
    assert len((EXAMPLE / "cdr_linesplit.py").read_text().splitlines()) < 100
