"""Measures CDR against restic and rsync in the same run, on the same files: ``python -m bench.run``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from bench.contestants import CONTESTANTS, Contestant, cdr_command
from bench.datasets import MAKERS, SEED, Dataset
from bench.measure import BenchError, Runner, read_all, write_rate
from bench.report import Record, markdown
from bench.verify import require_equal

WORK = Path("/var/tmp/cdr-bench")
RESULTS = Path(__file__).parent / "results"
STARTS = 10
SPACE_FACTOR = 5
"""A contestant's spool, inboxes, repository and restored files, beside the data set itself."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    add_options(parser, MAKERS)
    parser.add_argument("--only", default=",".join(CONTESTANTS), help="contestants, comma-separated (%(default)s)")
    return parser.parse_args()


def add_options(parser: argparse.ArgumentParser, sets: Iterable[str]) -> None:
    """What every benchmark of ``sets`` takes."""
    option = parser.add_argument
    option("--set", default="all", choices=[*sets, "all"], help="data set (%(default)s)")
    option("--scale", type=scale, default=1.0, help="size of the data sets, full being 1.0 (%(default)s)")
    option("--runs", type=int, default=3, help="how often everything is measured (%(default)s)")
    option("--seed", type=int, default=SEED, help="of the data and of the order of contestants")
    option("--work", type=Path, default=WORK, help="folder on the disk to be measured (%(default)s)")
    option("--output", type=Path, default=RESULTS, help="folder of the results (%(default)s)")
    option("--keep", action="store_true", help="leave data sets, repositories and logs in the work folder")


def scale(text: str) -> float:
    return 1.0 if text == "full" else float(text)


def main() -> int:
    args = arguments()
    return report(args, "", lambda: all_records(args, chosen_contestants(args.only)))


def report(
    args: argparse.Namespace,
    suffix: str,
    records: Callable[[], Iterator[Record]],
    tables: Callable[[Sequence[Record]], str] = markdown,
) -> int:
    """Measure everything, into files whose names end in ``suffix``; the exit code."""
    try:
        args.work.mkdir(parents=True, exist_ok=True)
        args.output.mkdir(parents=True, exist_ok=True)
        measure_all(records(), args.output / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}{suffix}.jsonl", tables)
    except BenchError as error:
        print(f"bench: {error}\nWhat was made so far is in {args.work}.", file=sys.stderr)
        return 1
    if not args.keep:
        shutil.rmtree(args.work)
    return 0


def chosen_contestants(only: str) -> list[str]:
    """Known names whose command is installed; a missing restic is an error, a missing rsync a remark."""
    names = only.split(",")
    for name in names:
        if name not in CONTESTANTS:
            raise BenchError(f"there is no contestant {name!r}; choose from {', '.join(CONTESTANTS)}")
    for name in {"restic", "rsync"} & set(names):
        if shutil.which(name):
            continue
        if name == "restic":
            raise BenchError("restic is not installed; it is what the others are compared with")
        print("bench: rsync is not installed and left out", file=sys.stderr)
        names.remove(name)
    return names


def measure_all(measured: Iterator[Record], report: Path, tables: Callable[[Sequence[Record]], str]) -> None:
    """Everything; each record is on disk as soon as it is known, the table is written at the end."""
    records: list[Record] = []
    for record in measured:
        records.append(record)
        with report.open("a") as file:
            file.write(json.dumps(record) + "\n")
        print(progress(record), file=sys.stderr)
    table = tables(records)
    report.with_suffix(".md").write_text(table)
    print(table)
    print(f"bench: {report} and {report.with_suffix('.md').name}", file=sys.stderr)


def all_records(args: argparse.Namespace, names: list[str]) -> Iterator[Record]:
    yield machine(names)
    yield from startups(names, args.work)
    order = Random(args.seed)
    for set_name in MAKERS if args.set == "all" else [args.set]:
        dataset = made(set_name, args)
        yield {"record": "dataset", **asdict(dataset)}
        for run in range(1, args.runs + 1):
            shuffled = order.sample(names, len(names))
            yield from one_run(dataset, run, shuffled, args)


def made(name: str, args: argparse.Namespace) -> Dataset:
    """Made by another process: the peak memory of whatever we start is at least our own."""
    target = args.work / name
    command = [sys.executable, "-m", "bench.datasets", name, str(target)]
    options = ["--scale", str(args.scale), "--seed", str(args.seed)]
    root = Path(__file__).parent.parent
    done = subprocess.run([*command, *options], capture_output=True, text=True, cwd=root)
    if done.returncode != 0:
        raise BenchError(f"the data set {name} cannot be made: {done.stderr.strip()}")
    dataset = Dataset(**json.loads(done.stdout))
    free, needed = shutil.disk_usage(args.work).free, dataset.size * SPACE_FACTOR
    if free < needed:
        raise BenchError(f"{args.work} has {free >> 20} MiB left; {needed >> 20} MiB are needed")
    return dataset


def one_run(dataset: Dataset, run: int, names: list[str], args: argparse.Namespace) -> Iterator[Record]:
    """All contestants once, one after the other, with the disk measured before each and at the end."""
    place = {"set": dataset.name, "run": run}
    for position, name in enumerate(names):
        yield {"record": "disk", **place, "bytes_per_s": write_rate(args.work)}
        work = args.work / f"{dataset.name}-{run}-{name}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        read_all(Path(dataset.path))
        contestant = CONTESTANTS[name](Path(dataset.path), work)
        for step in contestant.steps():
            yield {
                "record": "operation",
                **place,
                "contestant": name,
                "position": position,
                "operation": step.operation,
                **asdict(step.cost),
                "output_bytes": step.output_bytes,
            }
        judge(contestant, first=run == 1)
        if not args.keep:
            shutil.rmtree(work)
    yield {"record": "disk", **place, "bytes_per_s": write_rate(args.work)}


def judge(contestant: Contestant, *, first: bool) -> None:
    """Always ask the repository's own check; in the first run compare every restored byte too."""
    contestant.check()
    if first:
        require_equal(contestant.source, contestant.restored)


def startups(names: list[str], work: Path) -> Iterator[Record]:
    """What a command costs that does nothing."""
    commands = {"restic": ["restic", "version"], "cdr": [*cdr_command(), "--version"]}
    run = Runner(work / "startup.log")
    for name in (name for name in commands if name in names):
        command = commands[name]
        run(*command)
        times = [run(*command).wall_s for _ in range(STARTS)]
        yield {"record": "startup", "command": f"{name} {command[-1]}", "wall_s": times}


def machine(names: list[str]) -> Record:
    versions = {name: [name, "--version"] for name in ("rsync", "rdiff", "zstd")}
    versions |= {"restic": ["restic", "version"], "cdr": [*cdr_command(), "--version"], "xdelta3": ["xdelta3", "-V"]}
    return {
        "record": "machine",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpus": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: first_line(versions[name]) for name in names},
    }


def first_line(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise BenchError(f"{' '.join(command)}: {done.stderr.strip().splitlines()[-1:]}")
    return (done.stdout or done.stderr).splitlines()[0]


def progress(record: Record) -> str:
    """One line for a person who waits."""
    clock = time.strftime("%H:%M:%S")
    if record["record"] == "operation":
        where = f"{record['set']} run {record['run']} {record['contestant']} {record['operation']}"
        travels = f", {record['travel_bytes']:,} bytes travel" if "travel_bytes" in record else ""
        return f"{clock} {where}: {record['wall_s']:.2f} s, CPU {record['cpu_s']:.2f} s{travels}"
    return f"{clock} {json.dumps(record)}"


if __name__ == "__main__":
    raise SystemExit(main())
