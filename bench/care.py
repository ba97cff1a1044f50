"""Measures reading back and care of one repository: ``python -m bench.care``.

restic writes the repository: two versions of a data set, of which every third file (or every third
stretch of 4 MB of a big file) differs. Each contestant then works on a copy of its own, in random order:
restore of the newest version, check with all data read, list of versions, list of files, and, once the
older version is forgotten, prune.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import TypeVar

from bench.contestants import PASSWORD, cdr_command
from bench.datasets import Dataset
from bench.measure import Cost, Runner, read_all, size_of, write_rate
from bench.report import Record
from bench.run import add_options, machine, made, report
from bench.verify import require_equal

_Result = TypeVar("_Result")

CONTESTANTS = ("restic", "cdr")
SETS = ("many", "random")
STRETCH = 4_000_000
"""Bytes; every third one of a big file is replaced, so that pruning has to repack."""


class Tool:
    """A contestant with its own copy of the repository."""

    def __init__(self, name: str, work: Path, repository: Path) -> None:
        self.name = name
        self.work = work
        self.repository = work / "repository"
        self.run = Runner(work / "log.txt")
        shutil.copytree(repository, self.repository)
        (work / "password").write_text(PASSWORD + "\n")

        self.options = (f"--repo={self.repository}", f"--password-file={work / 'password'}")

    def __call__(self, *command: str) -> Cost:
        """Run ``command`` with this contestant's defaults."""
        program = ["restic", f"--cache-dir={self.work / 'cache'}"] if self.name == "restic" else cdr_command()
        return self.run(*program, *command, *self.options)

    def id_of(self, tag: str) -> str:
        """Of the version with that tag, as restic says; not measured."""
        command = ["restic", "--no-cache", "snapshots", "--tag", tag, "--json", *self.options]
        found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        return str(found[0]["id"])

    def judge(self) -> None:
        """Not measured: restic finds no errors; raises BenchError."""
        self.run("restic", "--no-cache", "check", *self.options)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.care", description=__doc__)
    add_options(parser, SETS)
    args = parser.parse_args()
    return report(args, "-care", lambda: all_records(args))


def all_records(args: argparse.Namespace) -> Iterator[Record]:
    yield machine(list(CONTESTANTS))
    order = Random(args.seed)
    for name in SETS if args.set == "all" else [args.set]:
        dataset = made(name, args)
        yield {"record": "dataset", **asdict(dataset)}
        source = apart(changed_copy, dataset, args.work / f"{name}-changed")
        repository = written_by_restic(Path(dataset.path), source, args.work / f"{name}-repository")
        for run in range(1, args.runs + 1):
            names = order.sample(CONTESTANTS, len(CONTESTANTS))
            yield from one_run(name, run, names, source, repository, args)


def apart(work: Callable[..., _Result], *given: object) -> _Result:
    """Done by another process: the peak memory of whatever we start is at least our own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *given).result()


def changed_copy(dataset: Dataset, target: Path) -> Path:
    """The next version of the data set, in a folder of the same name."""
    shutil.rmtree(target, ignore_errors=True)
    copy = target / Path(dataset.path).name
    shutil.copytree(dataset.path, copy)
    random = Random(f"next {dataset.name}")
    for number, path in enumerate(sorted(path for path in copy.rglob("*") if path.is_file())):
        if path.stat().st_size >= 3 * STRETCH:
            replace_stretches(path, random)
        elif number % 3 == 0:
            path.write_bytes(random.randbytes(path.stat().st_size))
    return copy


def replace_stretches(path: Path, random: Random) -> None:
    with path.open("r+b") as file:
        for offset in range(0, path.stat().st_size - STRETCH, 3 * STRETCH):
            file.seek(offset)
            file.write(random.randbytes(STRETCH))


def written_by_restic(first: Path, second: Path, target: Path) -> Path:
    """A repository with a version of each, tagged ``first`` and ``second``."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    (target / "password").write_text(PASSWORD + "\n")
    restic = Runner(target / "log.txt")
    options = (f"--repo={target / 'repository'}", f"--password-file={target / 'password'}", "--no-cache")
    restic("restic", "init", *options)
    for tag, source in (("first", first), ("second", second)):
        restic("restic", "backup", "--quiet", "--tag", tag, str(source), *options)
    return target / "repository"


def one_run(
    dataset: str, run: int, names: list[str], source: Path, repository: Path, args: argparse.Namespace
) -> Iterator[Record]:
    place = {"set": dataset, "run": run}
    for position, name in enumerate(names):
        yield {"record": "disk", **place, "bytes_per_s": write_rate(args.work)}
        work = args.work / f"{dataset}-care-{run}-{name}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        tool = Tool(name, work, repository)
        apart(read_all, tool.repository)
        for operation, cost in steps(tool):
            yield {
                "record": "operation", **place, "contestant": name, "position": position, "operation": operation,
                **asdict(cost), "output_bytes": size_of(tool.repository) if operation == "prune" else 0,
            }  # fmt: skip
        tool.judge()
        if run == 1:
            apart(require_equal, source, work / "restored" / str(source).lstrip("/"))
        if not args.keep:
            shutil.rmtree(work)


def steps(tool: Tool) -> Iterator[tuple[str, Cost]]:
    """The operations, each measured."""
    newest = ("--tag", "second")
    older = tool.id_of("first")
    measured: dict[str, Callable[[], Cost]] = {
        "restore": lambda: tool("restore", "latest", *newest, f"--target={tool.work / 'restored'}"),
        "check --read-data": lambda: tool("check", "--read-data"),
        "snapshots": lambda: tool("snapshots"),
        "ls": lambda: tool("ls", "latest", *newest),
        "forget": lambda: tool("forget", older),
        "prune": lambda: tool("prune"),
    }
    for operation, measure in measured.items():
        yield operation, measure()


if __name__ == "__main__":
    raise SystemExit(main())
