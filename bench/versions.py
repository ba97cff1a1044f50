"""Data sets with a next version, made and changed from a seed: what ``bench.delta`` lets travel.

db      an SQLite database of 512 MB; 2,000 of its 1.1 million rows get another text
vm      an ext4 image of 1 GB; 60 of its files change inside, 15 are new, 15 are removed
office  60 documents of 11 MB that hardly compress; 40 bytes are inserted near the start of each
mail    an mbox of 250 MB and a maildir of 8,000 messages; 2.5 MB of mail arrives, 200 messages are read
src     a release of Django (25 MB), then the next one; its size does not depend on the scale
many    116,000 small files, 1.8 GB, as in ``bench.datasets``; of every thousand one is edited
rename  a project of 2,000 files, 180 MB, whose folder gets another name; three of its files are edited

The figures are those of scale 1.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from bench.content import Content
from bench.datasets import MB, Writer, make_database, make_many
from bench.disk_image import change_image, make_image
from bench.releases import RELEASES, unpack_release

Step = Callable[[Path, Random, float, int], None]
"""(folder, random source, scale, number of the version)"""


@dataclass(frozen=True, slots=True)
class VersionedSet:
    """``make`` fills a new folder, ``change`` turns one version in it into the next of at most ``versions``."""

    make: Step
    change: Step
    versions: int = 1 << 30


@dataclass(frozen=True, slots=True)
class Size:
    """Of the regular files in a folder."""

    files: int
    size: int


def make_db(root: Path, random: Random, scale: float, number: int) -> None:
    make_database(root / "app.sqlite", Content(random), random, int(512 * MB * scale))


def change_db(root: Path, random: Random, scale: float, number: int) -> None:
    """Updates in place, as any program does: sizes stay, so that no row moves."""
    content = Content(random)
    database = sqlite3.connect(root / "app.sqlite")
    with database:
        (rows,) = database.execute("select max(id) from entry").fetchone()
        for row in random.sample(range(1, rows + 1), count(2000, scale)):
            (length,) = database.execute("select length(body) from entry where id=?", (row,)).fetchone()
            body = content.text(length).decode()
            database.execute("update entry set body=? where id=?", (body, row))
    database.close()


def make_vm(root: Path, random: Random, scale: float, number: int) -> None:
    make_image(root / "disk.img", random, int(1000 * MB * scale))


def change_vm(root: Path, random: Random, scale: float, number: int) -> None:
    change_image(root / "disk.img", random, changed=count(60, scale), new=count(15, scale), removed=count(15, scale))


def make_office(root: Path, random: Random, scale: float, number: int) -> None:
    content = Content(random)
    for index in range(count(60, scale)):
        body = content.text(MB) + content.noise(random.randrange(8 * MB, 12 * MB))
        (root / f"report {index}.docx").write_bytes(body)


def change_office(root: Path, random: Random, scale: float, number: int) -> None:
    for document in sorted(root.iterdir()):
        body = document.read_bytes()
        at = random.randrange(100, 20_000)
        replace(document, body[:at] + random.randbytes(40) + body[at:])


def make_mail(root: Path, random: Random, scale: float, number: int) -> None:
    content = Content(random)
    append_mail(root / "mbox", content, random, int(250 * MB * scale))
    for folder in ("new", "cur"):
        (root / "maildir" / folder).mkdir(parents=True)
    for index in range(count(8000, scale)):
        deliver(root / "maildir", content, random, f"{index}")


def change_mail(root: Path, random: Random, scale: float, number: int) -> None:
    content = Content(random)
    append_mail(root / "mbox", content, random, int(1.5 * MB * scale))
    unread = sorted((root / "maildir" / "new").iterdir())
    for message in random.sample(unread, min(count(200, scale), len(unread))):
        message.rename(root / "maildir" / "cur" / f"{message.name}:2,S")
    for index in range(count(100, scale)):
        deliver(root / "maildir", content, random, f"{number}.{index}")


def append_mail(mbox: Path, content: Content, random: Random, size: int) -> None:
    with mbox.open("ab") as file:
        while size > 0:
            size -= file.write(b"From someone@example.org\n" + make_message(content, random) + b"\n")


def deliver(maildir: Path, content: Content, random: Random, name: str) -> None:
    (maildir / "new" / f"{name}.example").write_bytes(make_message(content, random))


def make_message(content: Content, random: Random) -> bytes:
    """Headers and text; every fifth one has an attachment."""
    headers = f"Message-ID: <{random.getrandbits(96):x}@example.org>\nSubject: {random.getrandbits(40):x}\n\n"
    attachment = b""
    if random.random() < 0.2:
        encoded = content.noise(random.randrange(5_000, 30_000)).hex().encode()
        attachment = b"\n".join(encoded[at : at + 76] for at in range(0, len(encoded), 76))
    return headers.encode() + content.text(random.randrange(500, 8_000)) + attachment


def change_src(root: Path, random: Random, scale: float, number: int) -> None:
    """As an installer does: what was there goes, the next release is unpacked."""
    shutil.rmtree(root)
    unpack_release(RELEASES[number - 1], root)


def make_many_files(root: Path, random: Random, scale: float, number: int) -> None:
    make_many(Writer(root), random, scale)


def change_many(root: Path, random: Random, scale: float, number: int) -> None:
    edit_some(root, random, count(116, scale))


def make_project(root: Path, random: Random, scale: float, number: int) -> None:
    content, writer = Content(random), Writer(root)
    for index in range(count(2000, scale)):
        size = int(random.lognormvariate(10.2, 1.5)) + 1
        body = content.text(size) if index % 2 else content.binary(size)
        writer.write(f"project 1/{index // 50}/part {index}.dat", body)


def change_project(root: Path, random: Random, scale: float, number: int) -> None:
    renamed = root / f"project {number}"
    (root / f"project {number - 1}").rename(renamed)
    edit_some(renamed, random, 3)


def edit_some(root: Path, random: Random, files: int) -> None:
    """Replace 100 bytes of a file by 120 others, as an editor does that writes the file anew."""
    content = Content(random)
    everything = sorted(Path(parent, name) for parent, _, names in os.walk(root) for name in names)
    for path in random.sample(everything, min(files, len(everything))):
        body = path.read_bytes()
        at = random.randrange(len(body) + 1)
        replace(path, body[:at] + content.text(120) + body[at + 100 :])


def replace(path: Path, body: bytes) -> None:
    """Under another name first: the file gets a new inode."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_bytes(body)
    temporary.replace(path)


def count(full: int, scale: float) -> int:
    return max(int(full * scale), 3)


SETS: dict[str, VersionedSet] = {
    "db": VersionedSet(make_db, change_db),
    "vm": VersionedSet(make_vm, change_vm),
    "office": VersionedSet(make_office, change_office),
    "mail": VersionedSet(make_mail, change_mail),
    "src": VersionedSet(change_src, change_src, versions=len(RELEASES)),
    "many": VersionedSet(make_many_files, change_many),
    "rename": VersionedSet(make_project, change_project),
}


def make_version(name: str, root: Path, number: int, scale: float, seed: int) -> Size:
    """Version ``number`` in the folder ``root``, from 1; a later one is made of the one before."""
    random = Random(f"{name} {seed} {number}")
    if number == 1:
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        SETS[name].make(root, random, scale, number)
    else:
        SETS[name].change(root, random, scale, number)
    sizes = [os.lstat(os.path.join(parent, file)).st_size for parent, _, files in os.walk(root) for file in files]
    return Size(len(sizes), sum(sizes))
