"""An ext4 image made of a folder, and files changed inside it: neither needs a mount or root.

The folder stays beside the image's folder; debugfs copies from there what changed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from random import Random

from bench.content import Content
from bench.datasets import MB, real_files
from bench.measure import BenchError

_UUID = "6b2f3d0a-54c1-4f0e-9a57-0d1e2f3a4b5c"
_FILLED = 0.6
"""Of the image; half of that is copied from /usr, the rest generated."""
_FILES_PER_FOLDER = 100


def inside(image: Path) -> Path:
    """What the image holds."""
    return image.parent.with_name(f"{image.parent.name}-inside")


def make_image(image: Path, random: Random, size: int) -> None:
    folder = inside(image)
    shutil.rmtree(folder, ignore_errors=True)
    wanted, made, number = int(size * _FILLED), 0, 0
    content = Content(random)
    real = iter(real_files(random))
    while made < wanted:
        target = folder / f"d{number // _FILES_PER_FOLDER}" / f"f{number}"
        target.parent.mkdir(parents=True, exist_ok=True)
        copied = next(real, None) if made < wanted // 2 else None
        if copied is not None:
            shutil.copyfile(copied[0], target)
        else:
            length = min(random.randrange(10_000, 4 * MB), wanted - made)
            target.write_bytes(content.binary(length) if number % 2 else content.text(length))
        made += target.stat().st_size
        number += 1
    with image.open("wb") as file:
        file.truncate(size // 4096 * 4096)
    _run("mkfs.ext4", "-q", "-F", "-U", _UUID, "-E", f"hash_seed={_UUID}", "-d", str(folder), str(image))


def change_image(image: Path, random: Random, *, changed: int, new: int, removed: int) -> None:
    """Change, add and remove files in the folder, then the same in the image."""
    folder = inside(image)
    content = Content(random)
    chosen = random.sample(sorted(folder.glob("d*/f*")), changed + removed)
    commands = []
    for path in chosen[:removed]:
        path.unlink()
        commands += _commands("rm", folder, path)
    for path in chosen[removed:]:
        with path.open("r+b") as file:
            file.seek(random.randrange(path.stat().st_size + 1))
            file.write(content.text(random.randrange(100, 5_000)))
        commands += _commands("rm", folder, path) + _commands("write", folder, path)
    for index in range(new):
        path = folder / "d0" / f"f{random.getrandbits(48):x}-{index}"
        path.write_bytes(content.text(random.randrange(1_000, 100_000)))
        commands += _commands("write", folder, path)
    script = image.parent.with_name(f"{image.parent.name}.debugfs")
    script.write_text("\n".join(commands) + "\n")
    _run("debugfs", "-w", "-f", str(script), str(image))
    _run("e2fsck", "-f", "-n", str(image))


def _commands(what: str, folder: Path, path: Path) -> list[str]:
    """For debugfs, which writes only into the folder in which it is."""
    source = f"{path} " if what == "write" else ""
    return [f"cd /{path.parent.relative_to(folder)}", f"{what} {source}{path.name}"]


def _run(*command: str) -> None:
    """Tools for file systems are where only root's PATH leads."""
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    except FileNotFoundError:
        raise BenchError(f"{command[0]} is not installed (Debian: e2fsprogs)") from None
    except subprocess.CalledProcessError as error:
        raise BenchError(f"{' '.join(command)}: {error.stderr.strip()}") from None
