"""The frame of the command line: options, errors, exit codes, output."""

import fcntl
import io
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cdr_plugin import __version__
from cdr_plugin.cli import registry
from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_age, format_bytes, format_duration, format_table, printable
from cdr_plugin.cli.main import main
from cdr_plugin.cli.output import Output
from cdr_plugin.cli.progress import in_words, share_done
from cdr_plugin.errors import CdrError, LockedError, NotConvenientError, UserError, WrongPasswordError

CONFIG = """\
[tier.laptop]
group = "legal"
[tier.laptop.source]
paths = ["docs"]
[tier.laptop.forward]
to = "inbox"
[tier.hq.receive]
inbox = "inbox"
[tier.hq.store]
repository = "repo"
"""

Run = Callable[[Context], int]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "cdr.toml"
    file.write_text(CONFIG)
    return file


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run], None]:
    """Puts a command ``probe`` in the registry that does what the test says."""

    def install(run: Run) -> None:
        def add_arguments(parser: Any) -> None:
            parser.add_argument("--flag", action="store_true")
            parser.add_argument("words", nargs="*")

        module = SimpleNamespace(HELP="A probe.", add_arguments=add_arguments, run=run)
        command = registry.Command("probe", "a probe")
        monkeypatch.setitem(sys.modules, "cdr_plugin.cli.commands.probe", module)  # type: ignore[arg-type]
        monkeypatch.setattr(registry.Command, "exists", True)
        monkeypatch.setitem(registry.COMMANDS, "probe", command)

    return install


def cdr(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cdr_plugin", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_version_is_told_and_starts_light() -> None:
    assert cdr("--version").stdout == f"cdr {__version__}\n"
    script = "import sys; from cdr_plugin.cli.main import main; main(['--version']); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    for heavy in ("argparse", "rich", "pluggy", "msgspec", "cryptography", "sqlite3", "zstandard"):
        assert heavy not in modules.split()


def test_help_imports_no_command() -> None:
    script = "import sys; from cdr_plugin.cli.main import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not [name for name in done.stdout.split() if name.startswith("cdr_plugin.cli.commands.")]
    assert "pluggy" not in done.stdout.split()


def test_every_registered_command_exists_and_offers_the_contract() -> None:
    for command in registry.COMMANDS.values():
        module = command.load()
        assert module.HELP
        assert callable(module.add_arguments)
        assert callable(module.run)
        assert main([command.name, "--help"]) == 0


def test_every_module_in_commands_is_registered() -> None:
    folder = Path(registry.__file__).parent / "commands"
    modules = {file.stem for file in folder.glob("*.py")} - {"__init__"}
    assert modules == {command.module or command.name for command in registry.COMMANDS.values()}


def test_common_options_stand_before_or_behind_the_command(probe: Callable[[Run], None]) -> None:
    seen: list[Any] = []

    def run(context: Context) -> int:
        seen.append(context.options)
        return 0

    probe(run)
    spellings = [
        ["-c", "f", "-T", "a", "-T", "b", "--json", "-q", "-vv", "probe", "--flag", "x"],
        ["probe", "x", "--flag", "-c", "f", "-T", "a", "--tier", "b", "--json", "-qvv"],
        ["-vT", "a", "probe", "-T", "b", "--config=f", "--flag", "-v", "x", "--json", "--quiet"],
    ]
    for spelling in spellings:
        assert main(spelling) == 0
        options = seen.pop()
        assert (options.config, options.tiers, options.verbose) == (Path("f"), ["a", "b"], 2)
        assert (options.json, options.quiet, options.flag, options.words) == (True, True, True, ["x"])
    assert main(["probe", "--", "--flag"]) == 0
    assert (seen[0].flag, seen[0].words, seen[0].tiers, seen[0].config) == (False, ["--flag"], [], None)


@pytest.mark.parametrize(
    ("error", "code"),
    [(UserError("a"), 1), (WrongPasswordError("a"), 12), (LockedError("a"), 11), (NotConvenientError("a"), 75)],
)
def test_errors_are_one_line_with_their_exit_code(
    probe: Callable[[Run], None], capsys: pytest.CaptureFixture[str], error: CdrError, code: int
) -> None:
    def run(context: Context) -> int:
        raise type(error)("no repository at\n  /srv; run 'cdr init'")

    probe(run)
    assert main(["probe"]) == code
    assert capsys.readouterr().err == "cdr: no repository at /srv; run 'cdr init'\n"
    assert main(["--json", "probe"]) == code
    said = json.loads(capsys.readouterr().err)
    assert (said["message_type"], said["error"], said["code"]) == (
        "exit_error",
        "no repository at /srv; run 'cdr init'",
        code,
    )
    assert main(["probe", "-v"]) == code
    assert "Traceback" not in capsys.readouterr().err
    assert main(["probe", "-vv"]) == code
    assert "Traceback" in capsys.readouterr().err


def test_a_crash_is_one_line_and_exit_code_2(
    probe: Callable[[Run], None], capsys: pytest.CaptureFixture[str]
) -> None:
    probe(lambda context: 1 // 0)
    assert main(["probe"]) == 2
    said = capsys.readouterr().err
    assert said == (
        "cdr: unexpected ZeroDivisionError: integer division or modulo by zero; this is a bug, '-vv' shows where\n"
    )
    assert main(["-vv", "probe"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_interruption_is_exit_code_130(
    probe: Callable[[Run], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def run(context: Context) -> int:
        raise KeyboardInterrupt

    probe(run)
    assert main(["probe"]) == 130
    assert capsys.readouterr().err == "cdr: interrupted\n"


def test_a_reader_that_goes_away_is_no_crash() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "cdr_plugin", "plugins"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plugin"], "cdr: there is no command 'plugin'; did you mean 'plugins'?; see 'cdr --help'\n"),
        (["xyz"], "cdr: there is no command 'xyz'; see 'cdr --help'\n"),
        (["plugins", "--bogus"], "cdr: unrecognized arguments: --bogus (see 'cdr plugins --help')\n"),
        (["--bogus", "plugins"], "cdr: unrecognized arguments: --bogus (see 'cdr --help')\n"),
        (["config"], "cdr: the following arguments are required: action (see 'cdr config --help')\n"),
        (["-c"], "cdr: argument -c/--config: expected one argument (see 'cdr --help')\n"),
        (
            ["-c", "/no/such", "config", "check"],
            "cdr: /no/such: No such file or directory; name a configuration with -c FILE or $CDR_CONFIG\n",
        ),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_1(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(arguments) == 1
    assert capsys.readouterr().err == said


def test_chosen_tiers_come_in_the_order_of_the_file(
    probe: Callable[[Run], None], config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names: list[list[str]] = []

    def run(context: Context) -> int:
        names.append([tier.name for tier in context.tiers])
        return 0

    probe(run)
    assert main(["-c", str(config), "probe"]) == 0
    assert main(["-c", str(config), "probe", "-T", "hq"]) == 0
    assert main(["-c", str(config), "probe", "-T", "hq", "-T", "laptop"]) == 0
    assert names == [["laptop", "hq"], ["hq"], ["laptop", "hq"]]
    assert main(["-c", str(config), "probe", "-T", "hp"]) == 1
    assert "there is no tier 'hp'" in capsys.readouterr().err


def test_config_check_tells_the_chain(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-c", str(config), "config", "check", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["message_type"] == "summary"
    assert summary["tiers"] == [
        {"name": "laptop", "role": "client", "from": [], "to": ["hq"]},
        {"name": "hq", "role": "top", "from": ["laptop"], "to": [str(config.parent / "repo")]},
    ]
    assert main(["-c", str(config), "config", "check"]) == 0
    assert capsys.readouterr().out.startswith(f"{config}: sound\n")


@pytest.mark.parametrize(
    ("addition", "said"),
    [
        ("[tier.laptop.reduce]\nmethods = ['lzma9']\n", "12: tier.laptop.reduce.methods: no plugin provides the"),
        ("[tier.laptop.reduce.zstd]\nlevel = 40\n", "11: tier.laptop.reduce.zstd: reduce.zstd: level must be"),
        ("[tier.hq.group.legal]\ninbox = 'gopher://x'\n", "12: tier.hq.group.legal.inbox: no plugin provides"),
    ],
)
def test_config_check_asks_the_plugins(
    config: Path, capsys: pytest.CaptureFixture[str], addition: str, said: str
) -> None:
    config.write_text(CONFIG + addition)
    assert main(["-c", str(config), "config", "check"]) == 1
    assert capsys.readouterr().err.startswith(f"cdr: {config}:{said}")


def test_config_check_names_every_problem_and_the_first_is_what_other_commands_say(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(CONFIG.replace("paths", "pathes") + "[tier.hq.forward]\nto = 3\n[tier.laptop.spol]\n")
    assert main(["-c", str(config), "config", "check"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert [line.split(": ", 2)[2].partition(";")[0] for line in said] == [
        "tier.laptop.source.pathes: unknown key",
        "tier.laptop.spol: unknown key",
        "tier.hq.forward.to: expected a storage URL or a path, not 3",
    ]
    assert main(["-c", str(config), "status"]) == 1
    assert capsys.readouterr().err.splitlines() == said[:1]
    assert main(["-c", str(config), "config", "check", "--json"]) == 1
    told = capsys.readouterr()
    assert [json.loads(line)["message"] for line in told.err.splitlines()] == [line[5:] for line in said]
    assert json.loads(told.out)["problems"] == [line[5:] for line in said]


def test_config_check_of_several_files_says_whether_they_fit(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    laptop, hq = config.parent / "laptop.toml", config.parent / "hq.toml"
    start = CONFIG.index("[tier.hq")
    laptop.write_text(CONFIG[:start])
    hq.write_text(CONFIG[start:] + "[tier.hq.group.legal]\n")
    assert main(["config", "check", str(laptop), str(hq), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["files"] == [str(laptop), str(hq)]
    assert [(tier["name"], tier["from"]) for tier in summary["tiers"]] == [("laptop", []), ("hq", ["laptop"])]
    laptop.write_text(CONFIG[:start].replace("inbox", "outbox"))
    assert main(["config", "check", str(laptop), str(hq)]) == 1
    assert "tier.laptop.forward.to: no inbox of these files is" in capsys.readouterr().err
    assert main(["config", "check", str(laptop)]) == 0
    assert "note: " in capsys.readouterr().err


def test_config_show_prints_a_file_that_means_the_same(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from cdr_plugin.config import load_config
    from cdr_plugin.config.load import parse_config

    assert main(["-c", str(config), "config", "show"]) == 0
    shown = capsys.readouterr().out
    assert parse_config(shown, config) == load_config(config)
    assert main(["-c", str(config), "--json", "config", "show", "-T", "hq"]) == 0
    assert list(json.loads(capsys.readouterr().out)["tier"]) == ["hq"]


def test_plugins_lists_each_with_its_origin_and_the_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    found = {(entry["kind"], entry["name"]) for entry in listed if entry["enabled"]}
    assert {("transport", "file"), ("reduction method", "zstd"), ("reduction method", "rabin")} <= found
    assert {"kind", "name", "version", "distribution", "enabled"} <= set(listed[0])
    assert [entry["name"] in ("c", "python") for entry in listed if entry["kind"] == "kernel"] == [True]


def test_plugins_tells_which_kernel_the_environment_chose() -> None:
    done = cdr("plugins", "--json", env={**os.environ, "CDR_KERNEL": "python"})
    assert [entry["name"] for entry in json.loads(done.stdout) if entry["kind"] == "kernel"] == ["python"]
    done = cdr("plugins", env={**os.environ, "CDR_KERNEL": "rust"})
    assert "CDR_KERNEL must be 'c' or 'python', not 'rust'" in done.stdout
    assert done.returncode == 0


# --- output -----------------------------------------------------------------------------------


def make(**options: Any) -> tuple[Output, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return Output(stdout=out, stderr=err, **options), out, err


def documents(stream: io.StringIO) -> list[Any]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_people_get_results_on_stdout_and_the_rest_on_stderr() -> None:
    output, out, err = make()
    output.note("a note")
    output.detail("not asked for")
    output.error("/a\x1b[2J\n", "archival", OSError("Permission denied"))
    output.line("a result\nof two lines")
    output.document({"not": "shown"})
    output.summary({"not": "shown"})
    assert out.getvalue() == "a result\nof two lines\n"
    assert err.getvalue() == "a note\ncdr: archival: /a\\x1b[2J\\n: Permission denied\n"
    assert output.errors == 1


def test_programs_get_json_only() -> None:
    output, out, err = make(as_json=True, verbose=1)
    output.note("a note")
    output.detail("more")
    output.error("/\udcff", "restore", "gone")
    output.line("for people")
    output.summary({"files_new": 3})
    assert documents(out) == [{"message_type": "summary", "files_new": 3}]
    assert documents(err) == [
        {"message_type": "note", "message": "a note"},
        {"message_type": "note", "message": "more"},
        {
            "message_type": "error", "error": {"message": "gone"}, "message": "gone",
            "during": "restore", "item": "/\udcff",
        },
    ]  # fmt: skip


def test_quiet_keeps_results_and_errors() -> None:
    output, out, err = make(quiet=True)
    output.note("a note")
    output.progress(files_done=1)
    output.error("/a", "scan", "gone")
    output.line("a result")
    assert (out.getvalue(), err.getvalue()) == ("a result\n", "cdr: scan: /a: gone\n")


def test_progress_is_cut_to_a_rate_and_keeps_the_newest_totals(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("cdr_plugin.cli.output.time.monotonic", lambda: clock[0])
    output, out, err = make(as_json=True)
    lines, _, lines_err = make()
    for _ in range(300):
        clock[0] += 0.5
        output.progress(files_done=int(clock[0]), total_files=250)
        lines.progress(files_done=int(clock[0]), total_files=250)
    statuses = documents(out)
    assert len(statuses) == 150
    assert statuses[-1] == {"message_type": "status", "files_done": 250, "total_files": 250}
    assert lines_err.getvalue().splitlines() == ["160 files of 250 files", "220 files of 250 files"]
    assert err.getvalue() == ""


def on_terminal(work: Callable[[Output], None], *, columns: int) -> str:
    """What a terminal is sent while ``work`` reports, then a note is printed and the bar is closed."""
    end, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    shown = bytearray()

    def read() -> None:
        try:
            while part := os.read(end, 65536):
                shown.extend(part)
        except OSError:  # how a terminal says that nobody writes any more
            return

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(side, "w") as terminal:
        output = Output(stdout=io.StringIO(), stderr=terminal)
        work(output)
        output.note("a note [bold]")
        output.close()
        output.close()
    reader.join()
    os.close(end)
    return shown.decode()


@pytest.fixture
def xterm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("xterm")
def test_a_terminal_gets_a_bar_that_vanishes() -> None:
    shown = on_terminal(lambda output: output.progress(bytes_done=1024, total_bytes=4096), columns=80)
    assert "25 %, 1.000 KiB of 4.000 KiB" in shown
    assert "a note [bold]" in shown
    assert shown.rstrip().endswith("\x1b[2K")


@pytest.mark.usefixtures("xterm")
def test_long_names_do_not_break_the_bar() -> None:
    shown = on_terminal(lambda output: output.progress(files_done=1, current="/" + "x" * 500), columns=60)
    assert "\u2026" in shown
    assert "\x1b[1A\x1b[2K\x1b[1A" not in shown


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    shown = on_terminal(lambda output: output.progress(files_done=1), columns=80)
    assert shown == "a note [bold]\r\n"


def test_progress_reads_like_a_sentence() -> None:
    fields = {"action": "archiving", "files_done": 3, "bytes_done": 1048576, "total_bytes": 4194304, "current": "/a\n"}
    assert in_words(fields) == "archiving: 25 %, 3 files, 1.000 MiB of 4.000 MiB, /a\\n"
    assert in_words({"percent_done": 0.5, "bytes_skipped": 10}) == "50 %, 10 B skipped"
    assert share_done({"bytes_done": 5}) is None
    assert share_done({"bytes_done": 9, "total_bytes": 5}) == 1.0


def test_tables_align_numbers_to_the_right() -> None:
    table = format_table(("name", "size"), [("a", 5), ("longer\x07", 12345)])
    assert table == "name         size\n----------  -----\na               5\nlonger\\x07  12345"
    assert format_table(("a", "b"), []) == "a  b\n-  -"


def test_figures_for_people() -> None:
    assert [format_bytes(n) for n in (0, 1023, 1024, 1536, 5 << 40)] == [
        "0 B",
        "1023 B",
        "1.000 KiB",
        "1.500 KiB",
        "5.000 TiB",
    ]
    assert [format_duration(s) for s in (0, 65.9, 7265)] == ["0:00", "1:05", "2:01:05"]
    assert [format_age(s) for s in (5, 60, 7200, 86400 * 3)] == ["now", "1 minute", "2 hours", "3 days"]
    assert printable("ä b\udcff") == "ä b\\udcff"
