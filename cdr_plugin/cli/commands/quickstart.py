"""``cdr quickstart``: a whole hierarchy in a new folder, one version through it, verified."""

from __future__ import annotations

import argparse
import shlex
import sys
from contextlib import closing
from pathlib import Path

from cdr_plugin.assembly import client_tier, intermediate_tier, own_folders, top_tiers
from cdr_plugin.cli.commands.init import initialise
from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_bytes, format_duration
from cdr_plugin.client.backup import BackupOptions, BackupResult, backup
from cdr_plugin.client.send import send
from cdr_plugin.client.source import archive_options
from cdr_plugin.client.tier import ClientTier
from cdr_plugin.errors import CdrError
from cdr_plugin.model.blobs import BlobId
from cdr_plugin.quickstart import prepare
from cdr_plugin.restore.readback import ReadBack, read_back
from cdr_plugin.top.receive import receive
from cdr_plugin.top.tier import TopTier

HELP = """Make a whole hierarchy (client, intermediate tier, top tier with a restic repository) in a new folder,
run one version of SOURCE through it, read it back, and tell how to restore. A demonstration."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sources", nargs="+", metavar="SOURCE", type=Path)
    parser.add_argument("--at", type=Path, default=Path("cdr-demo"), metavar="DIR", help="default: ./cdr-demo")


def run(context: Context) -> int:
    options = context.options
    folder = options.at.expanduser().absolute()
    options.config = prepare(folder, [path.expanduser().absolute() for path in options.sources])
    options.tiers = []
    say = context.output.line
    say(f"This is a demonstration: three tiers in one folder, {folder}\n")
    for done in initialise(context):
        say(f"  {done}")
    config = context.config
    client = client_tier(config.tier("laptop"), context.plugins)
    branch = intermediate_tier(config.tier("branch"), context.plugins)
    (top,) = top_tiers(config, config.tier("hq"), context.plugins, context.output)

    result = _backup(context, client)
    counts = result.archive.counts
    say(
        f"\n1. laptop  made version {result.version}: {counts.total_files_processed} files, "
        f"{format_bytes(counts.total_bytes_processed)} in {format_duration(result.duration_s)}; "
        f"{format_bytes(result.spool.spooled_bytes)} to travel, sealed for hq"
    )
    sent = send(client, context.output)
    say(f"2. laptop  put {sent.segments_sent} segments into the inbox of branch")
    branch.receive(context.output)
    moved = branch.send(context.output)
    say(f"3. branch  passed {moved.segments} segments on, unopened")
    stored = receive(top, context.output)
    if not stored.snapshots:
        raise CdrError(f"the version did not arrive; look at 'cdr status -c {options.config}'")
    say(f"4. hq      verified and stored {stored.blobs_new} blobs, wrote snapshot {stored.snapshots[0][:8]}")
    branch.send(context.output)
    send(client, context.output)
    say("5. laptop  got the receipt and freed its spool")
    checked = _read_back(top, result.archive.root_tree)
    say(f"6. hq      read back {checked.blobs + checked.trees} blobs, {format_bytes(checked.bytes)}: all verified")

    password = folder / "hq" / "password"
    _say_how_to_restore(context, top, password)
    context.output.summary(
        {
            "config": str(options.config),
            "repository": top.repository,
            "password_file": str(password),
            "client": client.name,
            "version": result.version,
            "snapshot_id": stored.snapshots[0],
            "tree": result.archive.root_tree.hex(),
        }
    )
    return 3 if result.archive.incomplete else 0


def _backup(context: Context, client: ClientTier) -> BackupResult:
    source = context.config.tier("laptop").source
    assert source is not None  # the configuration was made a moment ago
    own = own_folders(context.config, context.plugins)
    options = archive_options(source, zone=client.zone_name, own=own)
    return backup(client, BackupOptions(archive=options, excludes=source.exclude), context.output)


def _read_back(top: TopTier, root: BlobId) -> ReadBack:
    with closing(top.open_repository()) as repository, repository.reading() as reader:
        return read_back(reader, root)


def _say_how_to_restore(context: Context, top: TopTier, password: Path) -> None:
    cdr = "cdr" if Path(sys.argv[0]).name == "cdr" and "/.venv/" not in sys.argv[0] else sys.argv[0]
    if Path(sys.argv[0]).name != "cdr":
        cdr = f"{sys.executable} -m cdr_plugin"
    config, repository = shlex.quote(str(context.options.config)), shlex.quote(top.repository)
    context.output.line(
        "\nRestore it:\n"
        f"  {cdr} restore latest --target /tmp/restored -c {config}\n"
        f"  restic -r {repository} -p {shlex.quote(str(password))} restore latest --target /tmp/restored\n"
        "Check it with restic:\n"
        f"  restic -r {repository} -p {shlex.quote(str(password))} check --read-data\n"
        "Make the next version, and send it all the way up:\n"
        f"  {cdr} backup -c {config} && {cdr} send -T laptop -c {config} && {cdr} receive -T branch -c {config} && "
        f"{cdr} send -T branch -c {config} && {cdr} receive -T hq -c {config}"
    )
