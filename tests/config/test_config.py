import dataclasses
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdr_plugin.config import Config, Role, load_config
from cdr_plugin.config import chain as chain_module
from cdr_plugin.config.effective import as_document, as_toml
from cdr_plugin.config.lines import key_lines
from cdr_plugin.config.load import parse_config
from cdr_plugin.errors import ConfigError, UserError
from cdr_plugin.model.quantities import (
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_rate,
    parse_size,
)

FILE = Path("/etc/cdr/cdr.toml")
PAGE = (Path(__file__).parent / "page.toml").read_text()

CHAIN = """\
[tier.laptop]
group = "legal"
[tier.laptop.source]
paths = ["docs"]
[tier.laptop.forward]
to = "file:in"

[tier.branch.receive]
inbox = "file:/etc/cdr/in/"
[tier.branch.forward]
to = ["./up", "https://example.org/in"]

[tier.hq.receive]
inbox = "file:///etc/cdr/up"
[tier.hq.store]
repository = "repo"
password_file = "pw"
"""


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    for name in ("CDR_CONFIG", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)


def parse(text: str) -> Config:
    return parse_config(text, FILE)


def message(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return str(caught.value)


def chain(old: str, new: str) -> str:
    assert old in CHAIN
    return CHAIN.replace(old, new)


def test_the_documented_file_is_understood() -> None:
    tiers = parse(PAGE).tiers
    laptop, branch, hq = tiers["alice-laptop"], tiers["branch"], tiers["hq"]
    assert (laptop.role, branch.role, hq.role) == (Role.CLIENT, Role.INTERMEDIATE, Role.TOP)
    assert laptop.source is not None and laptop.forward is not None
    assert laptop.source.paths == (Path("/home/alice/Documents"), Path("/home/alice/Mail"))
    assert laptop.source.map == {"/mnt/snap/home": "/home"}
    assert (laptop.reduce.methods, laptop.reduce.settings) == (("delta", "zstd"), {"zstd": {"level": 3}})
    assert laptop.spool.max_size == 4 * 1024**3
    assert (laptop.forward.limit, laptop.forward.ticket) == (2 * 1024**2, (Path("/etc/cdr/legal.ticket"),))
    assert laptop.forward.when["every"] == "1h"
    assert branch.receive is not None
    assert branch.receive.inbox == ("file:/srv/cdr", "smb://nas2/drop")
    assert (branch.receive.retain.for_s, branch.receive.retain.max_size) == (14 * 86400, 200 * 1024**3)
    assert hq.receive is not None and hq.store is not None
    assert hq.receive.agentless[0].client == "printer"
    assert hq.groups["legal"].match == {"site": "berlin"}
    assert hq.store.repository_of("legal") == "/srv/repos/legal"
    assert hq.store.password_file_of("legal") == Path("/etc/cdr/legal.pass")
    assert hq.store.forget is not None and hq.store.check is not None
    assert (hq.store.forget.keep_monthly, hq.store.forget.prune) == (12, False)
    assert (hq.store.check.every_s, hq.store.check.read_data_subset) == (7 * 86400, "5%")


@pytest.mark.parametrize("text", [PAGE, CHAIN])
def test_what_is_shown_loads_to_the_same(text: str) -> None:
    config = parse(text)
    assert parse(as_toml(config)) == config
    assert set(as_document(config)["tier"]) == set(config.tiers)


def test_defaults_are_the_safe_choice() -> None:
    tiers = parse(CHAIN).tiers
    laptop, branch, hq = tiers["laptop"], tiers["branch"], tiers["hq"]
    assert laptop.forward is not None and branch.receive is not None and hq.store is not None
    assert (laptop.forward.release, laptop.forward.mode, laptop.forward.when) == (
        "committed",
        "first-reachable",
        {},
    )
    assert branch.receive.layout == "per-client"
    assert (hq.store.format, hq.store.reduce, hq.store.forget, hq.store.pin_for_s) == (
        "restic",
        "inline",
        None,
        180 * 86400,
    )
    assert laptop.state == Path("/home/alice/.local/state/cdr/laptop")
    assert laptop.identity == Path("/home/alice/.config/cdr/laptop")
    assert (laptop.reduce.methods, branch.reduce.methods) == (("delta", "zstd"), ())


def test_xdg_folders_are_used_when_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/var/state")
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative/is/ignored")
    tier = parse(CHAIN).tiers["hq"]
    assert (tier.state, tier.identity) == (Path("/var/state/cdr/hq"), Path("/home/alice/.config/cdr/hq"))


def test_tiers_are_chained_whatever_the_spelling_of_the_inbox() -> None:
    config = parse(CHAIN)
    laptop, branch, hq = config.tiers.values()
    assert config.tier_above(laptop) is branch
    assert config.tier_above(branch) is hq
    assert config.tier_above(hq) is None
    assert config.tiers_below(hq) == [branch]
    assert config.tiers_below(branch) == [laptop]
    assert config.tiers_below(laptop) == []


def test_relative_places_start_at_the_file() -> None:
    tiers = parse(CHAIN).tiers
    assert tiers["laptop"].source is not None and tiers["laptop"].forward is not None
    assert tiers["branch"].forward is not None and tiers["hq"].store is not None
    assert tiers["laptop"].source.paths == (Path("/etc/cdr/docs"),)
    assert tiers["laptop"].forward.to == ("file:/etc/cdr/in",)
    assert tiers["branch"].forward.to == ("/etc/cdr/up", "https://example.org/in")
    assert tiers["hq"].store.repository == "/etc/cdr/repo"
    assert tiers["hq"].store.password_file == Path("/etc/cdr/pw")


def test_relative_urls_below_odd_folders_stay_urls() -> None:
    text = chain('"file:in"', '"file:a%20b"').replace("file:/etc/cdr/in/", "/x%y z/a b")
    config = parse_config(text, Path("/x%y z/cdr.toml"))
    laptop = config.tiers["laptop"]
    assert laptop.forward is not None
    assert laptop.forward.to == ("file:/x%25y%20z/a%20b",)
    assert config.tier_above(laptop) is config.tiers["branch"]


def test_repository_locations_are_restics() -> None:
    for location, expected in {
        "sftp:user@host:/repo": "sftp:user@host:/repo",
        "rest:https://host/": "rest:https://host/",
        "s3:s3.example.org/bucket": "s3:s3.example.org/bucket",
        "local:sub/repo": "/etc/cdr/sub/repo",
        "~/repo": "/home/alice/repo",
    }.items():
        store = parse(chain('"repo"', f'"{location}"')).tiers["hq"].store
        assert store is not None
        assert store.repository == expected


def test_a_tier_may_receive_and_have_a_source() -> None:
    both = chain(
        "[tier.branch.receive]",
        '[tier.branch]\ngroup = "legal"\nsource = { paths = ["/srv"] }\n[tier.branch.receive]',
    )
    tier = parse(both).tiers["branch"]
    assert (tier.role, tier.roles) == (Role.INTERMEDIATE, (Role.CLIENT, Role.INTERMEDIATE))
    assert tier.reduce.methods == ("delta", "zstd")


ERRORS = [
    # what is wrong, where it stands, what is said
    (chain("paths", "path"), "4: tier.laptop.source.path: unknown key; did you mean 'paths'?"),
    (chain("[tier.hq.store]", "[tier.hq.stor]"), "15: tier.hq.stor: unknown key; did you mean 'store'?"),
    ("[teir.a]\n", "1: teir: unknown key; did you mean 'tier'?"),
    (
        chain('repository = "repo"', 'xyzzy = "repo"'),
        ("16: tier.hq.store.xyzzy: unknown key; known here: check, compression, forget, format, pack_size, "
        "password_command, password_file, pin_for, reduce, repository, restic, when"),
    ),
    (chain('"legal"', "7"), "2: tier.laptop.group: expected a name of A-Z a-z 0-9 . _ - (at most 64), not 7"),
    (
        chain('"legal"', '"../legal"'),
        '2: tier.laptop.group: expected a name of A-Z a-z 0-9 . _ - (at most 64), not "../legal"',
    ),
    (chain('["docs"]', '"docs"'), '4: tier.laptop.source.paths: expected a list, not "docs"'),
    (chain('["docs"]', '["docs", 3]'), "4: tier.laptop.source.paths.1: expected a path, not 3"),
    (
        chain('["docs"]', '["docs"]\nexclude_caches = "yes"'),
        '5: tier.laptop.source.exclude_caches: expected true or false, not "yes"',
    ),
    (
        chain('["docs"]', '["docs"]\ntimezone = "Mars/Base"'),
        '5: tier.laptop.source.timezone: expected a time zone such as "Europe/Berlin", not "Mars/Base"',
    ),
    (
        chain('["docs"]', '["docs"]\nmap = { "a" = "/b" }'),
        '5: tier.laptop.source.map: expected an absolute path, not "a"',
    ),
    (chain('["docs"]', '["docs"]\nbefore = ""'), '5: tier.laptop.source.before: expected a command, not ""'),
    (chain('paths = ["docs"]\n', ""), "3: tier.laptop.source: 'paths' is missing"),
    (chain('to = "file:in"', "to = []"), "6: tier.laptop.forward.to: an empty list; name at least one"),
    (
        chain('"file:in"', '"sftp://joe:secret@host/in"'),
        ("6: tier.laptop.forward.to: a password stands in the URL; use a *_file or *_command key, or "
        "the environment"),
    ),
    (
        chain('"file:in"', '"file:in"\nrelease = "commited"'),
        '7: tier.laptop.forward.release: "commited" is not a choice; did you mean "committed"?',
    ),
    (
        chain('"file:in"', '"file:in"\nmode = "zzz"'),
        '7: tier.laptop.forward.mode: "zzz" is not a choice; choose from first-reachable, all',
    ),
    (
        chain('"file:in"', '"file:in"\nlimit = "2MiB"'),
        '7: tier.laptop.forward.limit: expected a rate such as "2MiB/s", not "2MiB"',
    ),
    (
        chain('"file:in"', '"file:in"\nwhen = "always"'),
        '7: tier.laptop.forward.when: expected a table of conditions, not "always"',
    ),
    (
        chain('"file:in"', '"file:in"\nwhen = { windw = "Mon" }'),
        "7: tier.laptop.forward.when.windw: unknown key; did you mean 'window'?",
    ),
    (
        chain('"file:in"', '"file:in"\nwhen.window = "Mon 8-18"'),
        '7: tier.laptop.forward.when.window: expected a window such as "Mon-Fri 08:00-18:00", not "Mon 8-18"',
    ),
    (
        chain('"file:in"', '"file:in"\nwhen.every = "soon"'),
        '7: tier.laptop.forward.when.every: expected a duration such as "14d", "1h" or "5m", not "soon"',
    ),
    (
        chain('"file:in"', '"file:in"\nwhen.load_below = true'),
        "7: tier.laptop.forward.when.load_below: expected a load such as 1.5, not true",
    ),
    (
        chain('"file:in"', '"file:in"\nwhen.on_battery = 1'),
        "7: tier.laptop.forward.when.on_battery: expected true or false, not 1",
    ),
    (
        CHAIN + "[tier.laptop.spool]\nmax_size = '4 Gigs'\n",
        '19: tier.laptop.spool.max_size: expected a size such as "4GiB", not "4 Gigs"',
    ),
    (
        CHAIN + "[tier.laptop.reduce.zstdd]\nlevel = 3\n",
        "18: tier.laptop.reduce.zstdd: unknown key; did you mean 'zstd'?",
    ),
    (
        CHAIN + "[tier.laptop.forward.sftp]\nkey = 3\n",
        "18: tier.laptop.forward.sftp: unknown key; known here: file, limit, mode, release, ticket, to, when",
    ),
    (
        CHAIN
        + '[[tier.hq.receive.agentless]]\nclient = "a"\ngroup = "g"\nfolder = "/a"\n'
        + '[[tier.hq.receive.agentless]]\nclient = "b/"\n',
        '23: tier.hq.receive.agentless.1.client: expected a name of A-Z a-z 0-9 . _ - (at most 64), not "b/"',
    ),
    (
        CHAIN + "[tier.hq.store.forget]\nkeep_daily = '7'\n",
        '19: tier.hq.store.forget.keep_daily: expected a number of versions (-1: all), not "7"',
    ),
    (
        CHAIN + "[tier.hq.store.check]\nread_data_subset = '0/3'\n",
        '19: tier.hq.store.check.read_data_subset: expected a part such as "5%", "1/10" or "500M", not "0/3"',
    ),
    (
        chain('"repo"', '"repo/{grp}"'),
        "16: tier.hq.store.repository: unknown placeholder '{grp}'; there is '{group}'",
    ),
    ("tier = 3\n", "no tier; a file needs at least one [tier.NAME]"),
    ("", "no tier; a file needs at least one [tier.NAME]"),
    ("[tier]\na = 1\n", "2: tier.a: expected a table, not 1"),
    ('[tier."a b"]\n', '1: tier.a b: expected a name of A-Z a-z 0-9 . _ - (at most 64), not "a b"'),
    ("[tier.a\n", "1: not TOML: expected ']' at the end of a table declaration"),
    ("[tier.a]\nstate = \n", "2: not TOML: invalid value"),
    ("[tier.a]\nstate = '''\n", "3: not TOML: "),
    # chains that cannot be
    (
        "[tier.a]\n",
        "1: tier.a: does nothing; give it [source] (a client) or [receive] (an intermediate or top tier)",
    ),
    (
        "[tier.a.store]\nrepository = 'r'\n[tier.a.source]\npaths = ['p']\n",
        "1: tier.a.store: nothing to store; a top tier needs [receive] with 'inbox'",
    ),
    (
        chain("[tier.hq.store]", "[tier.hq.forward]\nto = '/x'\n[tier.hq.store]"),
        "15: tier.hq.forward: a tier either stores or forwards; make two tiers of it",
    ),
    (
        "[tier.a.source]\npaths = ['p']\n",
        "1: tier.a.source: versions have nowhere to go; a client needs [forward] with 'to'",
    ),
    (
        "[tier.a.receive]\ninbox = '/i'\n",
        "1: tier.a.receive: parcels have nowhere to go; add [forward] or [store]",
    ),
    (
        chain("[tier.laptop.source]", "[tier.laptop.group.x]\n[tier.laptop.source]").replace(
            'group = "legal"\n', ""
        ),
        '2: tier.laptop.group: groups belong to a tier that receives; for a client write group = "NAME"',
    ),
    (
        chain('group = "legal"\n', ""),
        "1: tier.laptop: 'group' is missing; no ticket says it when the tier above is in the same file",
    ),
    (
        CHAIN + "[tier.hq.group.sales]\n",
        ("16: tier.hq.store.repository: the groups legal, sales would share one repository; put "
        "{group} into the location"),
    ),
    (
        chain('"file:///etc/cdr/up"', '"in"'),
        "14: tier.hq.receive.inbox: tier branch has the same inbox; give each tier its own",
    ),
    (
        chain('group = "legal"\n', 'group = "legal"\nstate = "/s"\n') + "[tier.hq]\nidentity = '/s/../s'\n",
        "20: tier.hq.identity: tier laptop has the same state or identity folder; give each tier its own",
    ),
    (
        chain('["./up", "https://example.org/in"]', '["./up", "file:///etc/cdr/up/"]'),
        "11: tier.branch.forward.to: /etc/cdr/up is named twice; once is enough",
    ),
    (
        chain('"file:/etc/cdr/in/"', '["in", "x", "/etc/cdr/in"]'),
        "9: tier.branch.receive.inbox: /etc/cdr/in is named twice; once is enough",
    ),
    (
        CHAIN + 'password_command = "pass cdr"\n',
        "18: tier.hq.store.password_command: a password file and a password command are given; choose one",
    ),
    (
        chain('["./up", "https://example.org/in"]', '["in"]'),
        "11: tier.branch.forward.to: parcels would go in a circle: branch -> branch",
    ),
]


@pytest.mark.parametrize(("text", "expected"), ERRORS)
def test_errors_name_file_line_and_key_and_say_what_would_be_right(text: str, expected: str) -> None:
    said = message(text)
    prefix = f"{FILE}:" if expected[0].isdigit() else f"{FILE}: "
    assert said.startswith(prefix + expected) if expected.endswith(": ") else said == prefix + expected


def test_what_loading_costs_grows_with_the_tiers_and_not_with_their_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    def calls(count: int) -> int:
        clients = [
            f'[tier.c{n}]\ngroup = "legal"\nsource.paths = ["a"]\nforward.to = "file:in"\n' for n in range(count)
        ]
        seen.clear()
        config = parse("".join(clients) + CHAIN)
        assert len(config.tiers_below(config.tiers["branch"])) == count + 1
        return len(seen)

    seen: list[str] = []
    real = chain_module.same_place

    def counted(url: str) -> str:
        seen.append(url)
        return real(url)

    monkeypatch.setattr(chain_module, "same_place", counted)
    few = calls(10)
    assert calls(100) <= 10 * few


def test_files_are_searched_in_the_documented_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    (home / ".config/cdr").mkdir(parents=True)
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    with pytest.raises(
        ConfigError, match=re.escape(f"there is no cdr.toml or {home}/.config/cdr/cdr.toml; name one")
    ):
        load_config()
    for place in (home / ".config/cdr/cdr.toml", work / "cdr.toml", tmp_path / "named.toml"):
        if place.name == "named.toml":
            monkeypatch.setenv("CDR_CONFIG", str(place))
            with pytest.raises(ConfigError, match=re.escape(f"{place}: No such file or directory")):
                load_config()
        place.write_text(CHAIN)
        assert load_config().path == place
    assert load_config(Path("cdr.toml")).path == work / "cdr.toml"


def test_files_that_cannot_be_a_configuration_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "cdr.toml"
    file.write_bytes(b"[tier.a]\nstate = '\xff'\n")
    with pytest.raises(ConfigError, match=re.escape(f"{file}:2: not UTF-8 text, as TOML must be")):
        load_config(file)
    with file.open("wb") as opened:
        opened.truncate(5 * 1024 * 1024)
    with pytest.raises(ConfigError, match="larger than 4194304 bytes; this is no configuration"):
        load_config(file)
    with pytest.raises(ConfigError, match="Is a directory"):
        load_config(tmp_path)


def test_an_unknown_tier_is_the_users_fault() -> None:
    with pytest.raises(UserError, match=r"there is no tier 'hp' in .*; there are: laptop, branch, hq"):
        parse(CHAIN).tier("hp")


def test_values_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse(CHAIN).tiers["hq"].group = "other"  # type: ignore[misc]


def test_lines_are_found_whatever_stands_around_them() -> None:
    text = '''\
# [tier.fake]
top = """
[not.a.table]
key = 1
"""
list = [
  "[", # ]
  { inner = 1 },
]
[ "quoted.key" . 'x' ]   # comment
a.b = 1
[[many]]
k = 1
[many.sub]
k = 2
[[many]]
k = 3
'''
    lines = key_lines(text)
    assert lines == {
        ("top",): 2,
        ("list",): 6,
        ("quoted.key",): 10,
        ("quoted.key", "x"): 10,
        ("quoted.key", "x", "a"): 11,
        ("quoted.key", "x", "a", "b"): 11,
        ("many",): 12,
        ("many", 0): 12,
        ("many", 0, "k"): 13,
        ("many", 0, "sub"): 14,
        ("many", 0, "sub", "k"): 15,
        ("many", 1): 16,
        ("many", 1, "k"): 17,
    }


@given(st.integers(1, 2**60))
def test_sizes_and_rates_round_trip(number: int) -> None:
    assert parse_size(format_size(number)) == number
    assert parse_rate(format_rate(number)) == number


@given(st.integers(1, 10**9))
def test_durations_round_trip(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GiB", 4 << 30),
        ("4 G", 4 << 30),
        ("1.5KiB", 1536),
        ("2MB", 2_000_000),
        ("10B", 10),
        ("7", 7),
        (9, 9),
        ("1tib", 1 << 40),
    ],
)
def test_sizes_are_read(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "value", ["", "4X", "-1", "0", 0, -5, True, 1.5, "1e9", "GiB", None, "0.1B", "9" * 400]
)
def test_what_is_no_size_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        parse_size(value)


@pytest.mark.parametrize(
    ("text", "seconds"), [("14d", 1209600), ("1h30m", 5400), ("2w", 1209600), ("90s", 90)]
)
def test_durations_are_read(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("value", ["", "d", "1x", "0s", 5, True, "1 h", "-1h", "1.5h"])
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(value)


@given(st.text(alphabet="[]tier.a\"'=\n #{}\\", max_size=60))
def test_any_text_loads_or_is_a_config_error(text: str) -> None:
    try:
        parse(text)
    except ConfigError as error:
        assert str(error).startswith(str(FILE))
