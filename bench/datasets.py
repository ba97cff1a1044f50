"""The data sets, made from a seed. ``python -m bench.datasets many /tmp/many`` makes one by hand.

many    116,000 small files, 1.8 GB: about half copied from this machine's /usr (files of at most
        256 KiB, chosen by the seed), the rest generated (log-normal sizes, two thirds text), and
        35 % of all files are copies of another one, as in real homes and source trees.
random  2 GB of incompressible bytes in 5 files.
mixed   1.1 GB as on a desk: zipped office documents, sources of /usr, big logs, an SQLite database.

What is generated is the same everywhere; what is copied is the same for every contestant of one machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import stat
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from bench.content import Content

SEED = 20240229
USR = Path("/usr")
LARGEST_COPY = 256 << 10
FILES_PER_FOLDER = 24
FIXED_TIME_NS = 1_600_000_000_123_456_789
MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Dataset:
    """What was made: counts of regular files, bytes of content, and of both how much is a copy."""

    name: str
    path: str
    files: int
    size: int
    copied_files: int
    copied_size: int


class Writer:
    """Writes the files of one data set and counts them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = self.size = self.copied_files = self.copied_size = 0

    def path(self, name: str) -> Path:
        """Where ``name`` goes; its folder exists afterwards."""
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def count(self, target: Path, *, copied: bool = False) -> None:
        """Take a finished file into the sums, and give it a fixed time."""
        size = target.stat().st_size
        os.utime(target, ns=(FIXED_TIME_NS + self.files, FIXED_TIME_NS + self.files))
        self.files += 1
        self.size += size
        self.copied_files += copied
        self.copied_size += size if copied else 0

    def write(self, name: str, content: bytes) -> Path:
        target = self.path(name)
        target.write_bytes(content)
        self.count(target)
        return target

    def stream(self, name: str, pieces: Iterator[bytes]) -> None:
        target = self.path(name)
        with target.open("wb") as file:
            file.writelines(pieces)
        self.count(target)

    def copy(self, source: Path, name: str, *, duplicate: bool = False) -> Path:
        target = self.path(name)
        shutil.copyfile(source, target)
        self.count(target, copied=duplicate)
        return target


def real_files(random: Random, suffixes: tuple[str, ...] = ()) -> list[tuple[Path, int]]:
    """Readable regular files of /usr and their sizes, in an order that the seed gives."""
    found = []
    for folder, folders, names in os.walk(USR):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            facts = path.lstat()
            wanted = stat.S_ISREG(facts.st_mode) and 0 < facts.st_size <= LARGEST_COPY
            if wanted and name.endswith(suffixes or ("",)) and os.access(path, os.R_OK):
                found.append((path, facts.st_size))
    random.shuffle(found)
    return found


def make_many(writer: Writer, random: Random, scale: float) -> None:
    """See the top of this file."""
    content = Content(random)
    files, size = int(116_000 * scale), int(1_800 * MB * scale)
    originals = int(files * 0.65)
    real = real_files(random)[: int(files * 0.4)]
    made: list[Path] = []
    for index, (path, _) in enumerate(real):
        made.append(writer.copy(path, f"real/{index // FILES_PER_FOLDER}/{path.name}"))

    shapes = [random.lognormvariate(0, 1.8) for _ in range(originals - len(real))]
    # Copies are as big as originals on average, so the originals must hold their share of the whole.
    remaining = max(size * 0.65 - sum(length for _, length in real), size * 0.1)
    unit = remaining / sum(shapes)
    for index, shape in enumerate(shapes):
        length = min(int(shape * unit), 16 * MB)
        body = content.text(length) if index % 3 else content.binary(length)
        made.append(writer.write(f"made/{index // 600}/{index // FILES_PER_FOLDER}/file {index}.dat", body))

    for index in range(files - originals):
        source = random.choice(made)
        name = f"copies/{index // 600}/{index // FILES_PER_FOLDER}/{index} {source.name}"
        writer.copy(source, name, duplicate=True)


def make_random(writer: Writer, random: Random, scale: float) -> None:
    """See the top of this file."""
    pieces = max(int(2_000 * scale / 5), 1)
    for index in range(5):
        writer.stream(f"random {index}.bin", (random.randbytes(MB) for _ in range(pieces)))


def make_mixed(writer: Writer, random: Random, scale: float) -> None:
    """See the top of this file."""
    content = Content(random)
    for index in range(max(int(120 * scale), 3)):
        document = writer.path(f"office/{index // 20}/report {index}.docx")
        make_document(document, content, random)
        writer.count(document)
    sources = real_files(random, (".py", ".h", ".c", ".pl", ".pm", ".js", ".rb", ".txt"))
    wanted = 100 * MB * scale
    for index, (path, size) in enumerate(sources):
        writer.copy(path, f"src/{index // FILES_PER_FOLDER}/{path.name}")
        wanted -= size
        if wanted <= 0:
            break
    for index in range(3):
        writer.stream(f"log/service-{index}.log", content.log_lines(int(100 * MB * scale)))
    database = writer.path("data/app.sqlite")
    make_database(database, content, random, int(300 * MB * scale))
    writer.count(database)


def make_document(target: Path, content: Content, random: Random) -> None:
    """A zip archive of deflated text and of pictures that are stored, 0.2 to 5 MB."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("word/document.xml"), content.text(random.randint(50_000, 3 * MB)))
        for picture in range(random.randint(0, 6)):
            picture_name = zipfile.ZipInfo(f"word/media/image{picture}.jpeg")
            archive.writestr(picture_name, content.noise(random.randint(50_000, MB)), zipfile.ZIP_STORED)


def make_database(target: Path, content: Content, random: Random, size: int) -> None:
    """One table with an index, of about ``size`` bytes."""
    target.unlink(missing_ok=True)
    database = sqlite3.connect(target)
    with database:
        database.execute("create table entry (id integer primary key, hash blob, author text, body text)")
        database.execute("create index by_author on entry (author)")
        rows = (make_row(content, random) for _ in range(max(size // 470, 1)))
        database.executemany("insert into entry (hash, author, body) values (?, ?, ?)", rows)
    database.close()


def make_row(content: Content, random: Random) -> tuple[bytes, str, str]:
    """Hash, author and body of an entry."""
    body = content.text(random.randint(100, 700)).decode()
    return random.randbytes(16), f"user{random.randrange(5000)}", body


MAKERS: dict[str, Callable[[Writer, Random, float], None]] = {
    "many": make_many,
    "random": make_random,
    "mixed": make_mixed,
}


def make(name: str, target: Path, *, scale: float = 1.0, seed: int = SEED) -> Dataset:
    """Make a data set in the folder ``target``, or say what is there when it was finished before."""
    stamp = target.with_name(f"{target.name}.json")
    wanted = {"name": name, "scale": scale, "seed": seed}
    if stamp.exists():
        known = json.loads(stamp.read_text())
        if known["wanted"] == wanted:
            return Dataset(**known["made"])
        stamp.unlink()
    shutil.rmtree(target, ignore_errors=True)
    writer = Writer(target)
    # Not Random((name, seed)): the hash of a string differs between processes.
    MAKERS[name](writer, Random(f"{name} {seed}"), scale)
    made = Dataset(name, str(target), writer.files, writer.size, writer.copied_files, writer.copied_size)
    stamp.write_text(json.dumps({"wanted": wanted, "made": asdict(made)}))
    return made


def main() -> None:
    """Make one data set and print what was made, as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.datasets", description=main.__doc__)
    parser.add_argument("name", choices=sorted(MAKERS))
    parser.add_argument("target", type=Path)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args()
    print(json.dumps(asdict(make(args.name, args.target, scale=args.scale, seed=args.seed))))


if __name__ == "__main__":
    main()
