"""A source folder that changes from version to version, the same way for the same seed."""

from __future__ import annotations

import random
from pathlib import Path


def small_tree(path: Path) -> None:
    """Five files: empty, small, repeated, incompressible, and one of several segments."""
    source = random.Random(5)
    (path / "sub").mkdir(parents=True)
    (path / "empty").touch()
    (path / "small").write_text("a few words\n")
    (path / "sub" / "same").write_text("a few words\n")
    (path / "sub" / "random").write_bytes(source.randbytes(9000))
    (path / "big").write_bytes(source.randbytes(50_000))


def change_small(path: Path) -> None:
    """One file of each fate: new, changed, gone, kept."""
    source = random.Random(6)
    (path / "sub" / "new").write_bytes(source.randbytes(40_000))
    (path / "big").write_bytes((path / "big").read_bytes()[:30_000] + source.randbytes(20_000))
    (path / "small").unlink(missing_ok=True)


def many_files(path: Path, source: random.Random, files: int = 250) -> None:
    """Files of 0 to 8 KB in folders of folders, and three of a few MB."""
    for number in range(files):
        folder = path / f"d{number % 7}" / f"e{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{number}").write_bytes(_content(source, source.randrange(8000)))
    for number in range(3):
        (path / f"large{number}").write_bytes(_content(source, source.randrange(1_500_000, 3_000_000)))


def change(path: Path, source: random.Random) -> None:
    """Some files new, changed, renamed, removed; a large one changed in the middle."""
    files = sorted(p for p in path.rglob("f*") if p.is_file())
    for file in source.sample(files, 12):
        file.write_bytes(_content(source, source.randrange(8000)))
    for file in source.sample(files, 4):
        file.rename(file.with_name(f"{file.name}m"))
    for file in source.sample(sorted(p for p in path.rglob("f*") if p.is_file()), 3):
        file.unlink()
    for number in range(6):
        folder = path / f"d{source.randrange(9)}"
        folder.mkdir(exist_ok=True)
        (folder / f"f{source.getrandbits(32):x}-{number}").write_bytes(_content(source, source.randrange(8000)))
    large = path / f"large{source.randrange(3)}"
    data = bytearray(large.read_bytes())
    at = source.randrange(len(data) - 1000)
    data[at : at + 1000] = source.randbytes(1000)
    large.write_bytes(data)


def _content(source: random.Random, size: int) -> bytes:
    """The first half compresses."""
    return (b"0123456789abcdef" * (size // 32 + 1))[: size // 2] + source.randbytes(size - size // 2)
