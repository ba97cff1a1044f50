"""``cdr stats`` says what ``restic stats`` says, in every mode."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from tests.cli.repository_commands import commands_for
from tests.restic.world import make_place
from tests.support.changing import change, many_files
from tests.support.direct import backup_into

MODES = ("restore-size", "files-by-contents", "blobs-per-file", "raw-data")


@pytest.mark.parametrize("version", [1, 2])
def test_all_modes_agree_with_restic(
    tmp_path: Path, version: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = make_place(tmp_path, version)
    commands = commands_for(place, monkeypatch, capsys)
    source, rng = tmp_path / "source", random.Random(version)
    source.mkdir()
    many_files(source, rng, files=60)
    (source / "big").write_bytes(rng.randbytes(3_000_000))
    os.link(source / "big", source / "second name")
    os.symlink("big", source / "link")
    (source / "empty").touch()
    for number in range(4):
        if number % 2:
            place.restic("backup", "--quiet", str(source), "--host", "r")
        else:
            backup_into(place.repository(), source, time=f"2024-01-0{number + 1}T00:00:00Z", host="c")
        change(source, rng)
    newest = place.snapshots()[-1]["id"]
    for mode in MODES:
        # Which of equal files is counted depends on the order of versions, and restic has none.
        selections = ([str(newest)],) if mode == "blobs-per-file" else ([], [str(newest)], ["--host", "c"])
        for selection in selections:
            expected = json.loads(place.restic("stats", "--json", "--mode", mode, *selection))
            (found,) = commands.lines("stats", "--mode", mode, *selection)
            found.setdefault("total_file_count", 0)
            assert {name: found[name] for name in expected} == expected, (mode, selection)
    assert "blobs:" in commands.cdr("stats", "--mode", "raw-data")
    (raw,) = commands.lines("stats", "--mode", "raw-data")
    of_compression = {name for name in raw if "compress" in name}
    assert len(of_compression) == (4 if version == 2 else 0)
    assert version == 1 or raw["total_size"] < raw["total_uncompressed_size"]
