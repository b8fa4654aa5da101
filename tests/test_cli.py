"""The command line: how it finds the application, what it says, and that nothing of it is undocumented."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer

from ensue import App
from ensue.cli import cli
from ensue.cli.output import clean, moment, parse_moment, pretty, raw, span, table
from tests.shop import MODULE, Shop, open_shop

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "command-line.md"
NO_SUCH_THING = {
    "ensue demo",
    "ensue diff",
    "ensue projection list",
    "ensue projection compare",
    "ensue keys list",
    "ensue process list",
    "ensue process show",
    "ensue process cancel",
}
"""This shop has no aggregate, no projection, no process and nothing personal."""
LISTINGS = [
    ("tail", "--no-follow"),
    ("show", "1"),
    ("trace", "1"),
    ("prune", "--older-than", "90d", "--dry-run"),
    ("forget", "u7", "--report"),
    ("keys", "rotate", "--dry-run"),
    ("lag",),
    ("dead", "list"),
    ("dead", "show", "2"),
    ("dead", "retry", "--all", "--dry-run"),
    ("dead", "skip", "--all", "--dry-run"),
    ("dead", "discard", "--all", "--dry-run"),
    ("replay", "mail", "--with-effects", "--since", "0", "--yes"),
    ("lake", "collect", "lake"),
    ("lake", "gather", "other", "--from", "memory://here", "--topic", "Placed.v1", "--quiet", "0.1s"),
    ("lake", "check", "lake"),
    ("lake", "sources", "lake"),
    ("lake", "sql", "lake", "select count(*) from events"),
    ("lake", "compact", "lake"),
    ("lake", "erase", "lake", "--subject", "good", "--yes"),
    ("events", "check"),
    ("seal", "--make-key", "seal.key"),
    ("seal", "--key", "seal.key"),
    ("verify", "--public-key", "seal.key.pub"),
    ("prove", "1", "--public-key", "seal.key.pub"),
    ("contracts", "lock"),
    ("contracts", "check"),
    ("contracts", "show", "Placed"),
    ("contracts", "readers", "contracts"),
    ("audit",),
    ("doctor",),
    ("migrate",),
    ("version",),
]


@pytest.fixture
def shop(
    tmp_path: Path, schema: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Shop]:
    yield from open_shop(tmp_path, f"sqlite:///{tmp_path}/shop.db", schema, monkeypatch, capsys)


# --- nothing is undocumented


def commands() -> dict[str, Any]:
    found: dict[str, Any] = {}

    def collect(command: Any, name: str) -> None:
        found[name] = command
        for word, inner in getattr(command, "commands", {}).items():
            collect(inner, f"{name} {word}")

    collect(typer.main.get_command(cli), "ensue")
    return found


def sections() -> dict[str, str]:
    """Return the text below each heading of the page that names a command."""
    parts = re.split(r"^#+ `(ensue[^`]*)`.*$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("name", commands())
def test_every_command_is_explained(name: str) -> None:
    command = commands()[name]
    assert command.help
    for parameter in command.params:
        assert parameter.help, f"{name} {parameter.name}"
    if name != "ensue":
        assert len(command.get_short_help_str(200)) <= 60, "one line of the list of commands"


@pytest.mark.parametrize("name", commands())
def test_every_command_stands_in_the_reference(name: str) -> None:
    found = sections()
    assert name in found
    if name == "ensue":
        return
    for parameter in commands()[name].params:
        option = next((each for each in parameter.opts if each.startswith("--")), None)
        if option is not None:
            assert f"`{option}" in found[name], f"{name} {option}"
    assert f"$ {name}" in found[name] or name in (
        "ensue dead",
        "ensue events",
        "ensue contracts",
        "ensue projection",
        "ensue keys",
        "ensue process",
        "ensue lake",
    ), "an example"


def test_the_reference_names_no_command_that_is_gone() -> None:
    assert sections().keys() == commands().keys()


def test_every_listing_has_json_that_parses(shop: Shop) -> None:
    listings = {name for name, command in commands().items() if any("--json" in each.opts for each in command.params)}
    listed = {
        max((name for name in commands() if f"ensue {' '.join(words)} ".startswith(f"{name} ")), key=len)
        for words in LISTINGS
    }
    assert listings == listed | NO_SUCH_THING
    shop.good("migrate")
    shop.record("good", "bad-1")
    shop.work_off(dead=1)
    shop.good("resume", "stock")
    for words in LISTINGS:
        done = shop(*words, "--json", app=not _of_no_application(words))
        for text in done.out.splitlines() if words[0] == "tail" else [done.out]:
            assert done._replace(out=text).json, words


def _of_no_application(words: tuple[str, ...]) -> bool:
    return words[0] == "version" or words[:2] in {("lake", each) for each in ("sources", "sql", "compact", "erase")}


@pytest.mark.parametrize("words", [(), ("dead",)])
def test_no_arguments_show_the_help(shop: Shop, words: tuple[str, ...]) -> None:
    done = shop(*words, app=False)
    said = done.out + done.err  # typer has moved it from one to the other
    assert said.startswith("Usage: ensue")
    assert "list" in said or "doctor" in said


def test_versions(shop: Shop) -> None:
    assert shop.good("version", app=False).out.startswith("ensue ")
    assert shop.good("--version", app=False).out.strip() in shop.good("version", app=False).out


# --- finding the application


@pytest.mark.parametrize(
    "module, spec, says",
    [
        (None, "nothing:app", "there is no module 'nothing'"),
        (None, "shop.inner:app", "there is no module 'shop.inner'"),
        (
            "import nowhere_to_be_found",
            "shop:app",
            "module 'shop' cannot be imported: No module named 'nowhere_to_be_found'",
        ),
        ("x = 1\ny = x / 0", "shop:app", "ZeroDivisionError: division by zero ({folder}/shop.py:2)"),
        ("def f(:", "shop:app", "SyntaxError"),
        ("raise SystemExit(3)", "shop:app", "SystemExit: 3"),
        ("from ensue import App\nApp('x', 'mysql://x')", "shop:app", "'mysql://x' is not the URL of a log"),
        (MODULE, "shop:application", "module 'shop' has no 'application'; it has shop:app"),
        (MODULE, "shop:mail", "shop:mail is no ensue.App but a function; did you mean shop:app?"),
        (MODULE, "shop:app.nothing", "has no 'app.nothing'"),
        (MODULE + "\nother = App('other', 'memory://x')", "shop", "2 applications; say which: shop:app, shop:other"),
        ("x = 1", "shop", "holds no applications"),
        ("x = 1", "shop:app", "has no 'app'; it makes no App"),
        (None, "shop.py", "write module:name"),
        (None, "shop:", "write module:name"),
        (None, "./shop:app", "write module:name"),
    ],
)
def test_a_target_that_is_none(shop: Shop, module: str | None, spec: str, says: str) -> None:
    if module is not None:
        shop.write(module.format(url=shop.url, schema=shop.schema) if module.startswith(MODULE) else module)
    done = shop("migrate", spec, app=False)
    assert done.code == 1
    assert done.err.startswith("error: ")
    assert says.format(folder=shop.folder) in done.err
    assert len(done.err.splitlines()) <= 2
    assert "Traceback" not in done.err


def test_a_module_with_one_app_needs_no_name(shop: Shop) -> None:
    assert "applied migration" in shop.good("migrate", "shop", app=False).out


def test_the_app_is_named_by_pyproject_of_a_parent_folder(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    (shop.folder / "pyproject.toml").write_text('[tool.ensue]\napp = "shop:app"\n')
    inner = shop.folder / "inner" / "most"
    inner.mkdir(parents=True)
    (inner / "pyproject.toml").write_text("[tool.other]\n")
    monkeypatch.chdir(inner)
    monkeypatch.setattr(sys, "path", sys.path[1:])
    assert "registered subscription mail" in shop.good("migrate", app=False).out
    assert shop("doctor", app=False).out.count("mend: ensue run\n") == 1, "what is proposed need not name it either"


@pytest.mark.parametrize(
    "text, says",
    [("[tool.ensue", "cannot be read"), ("[tool.ensue]\napp = 3", "must be text"), ("", "which application?")],
)
def test_a_pyproject_that_names_none(shop: Shop, text: str, says: str) -> None:
    (shop.folder / "pyproject.toml").write_text(text)
    done = shop("lag", app=False)
    assert done.code == 1
    assert says in done.err


def test_the_environment_names_the_app(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSUE_APP", "shop:app")
    shop.good("migrate", app=False)
    assert "mail" in shop.good("lag", app=False).out


# --- errors


def test_a_log_that_is_not_there_is_not_made_by_looking(shop: Shop) -> None:
    done = shop("lag")
    assert done.code == 1
    assert "`ensue migrate shop:app`" in done.err
    assert not (shop.folder / "shop.db").exists()


def test_a_log_in_memory_belongs_to_its_process(shop: Shop) -> None:
    shop.write(MODULE.format(url=f"memory://{shop.schema}", schema=shop.schema))
    assert "memory of another process" in shop("lag").err


@pytest.mark.parametrize("how", ["option", "environment"])
def test_debugging_shows_the_traceback(shop: Shop, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if how == "environment":
        monkeypatch.setenv("ENSUE_DEBUG", "1")
    with pytest.raises(Exception, match="no database yet"):
        shop(*(("--debug",) if how == "option" else ()), "lag")


def test_a_command_that_is_not_understood(shop: Shop) -> None:
    for words in (("nothing",), ("lag", "--nothing"), ("tail", "--since", "yesterday"), ("dead", "retry")):
        done = shop(*words)
        assert done.code == 2
        assert "Traceback" not in done.err


def test_an_application_where_none_is_taken_is_told_where_it_belongs(shop: Shop) -> None:
    done = shop("lag", "shop:app")
    assert done.code == 2
    assert "name the application with --app shop:app" in done.err


def test_a_pipe_that_ends_early_is_no_drama(shop: Shop) -> None:
    shop.good("migrate")
    shop.record(*["good"] * 3000)
    command = f"{sys.executable} -m ensue.cli tail --app shop:app --after 0 --no-follow | head -n 1"
    done = subprocess.run(command, shell=True, cwd=shop.folder, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 1
    assert not done.stderr


# --- small things


@pytest.mark.parametrize(
    "url, shown",
    [
        (
            "postgresql://anna:se%40cret@host:5433/db?sslmode=require",
            "postgresql://anna:***@host:5433/db?sslmode=require",
        ),
        ("postgresql://host/db?user=anna&password=secret", "postgresql://host/db?user=anna&password=***"),
        ("postgresql://anna@host/db", "postgresql://anna@host/db"),
        ("sqlite:////tmp/x.db", "sqlite:////tmp/x.db"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert App("x", url).log.place.shown == shown
    assert App("x", url, schema="other").log.place.shown == f"{shown} (other)"


def test_times() -> None:
    assert [span(each) for each in (0.04, 9.94, 10, 61, 60, 3600, 90061, 3 * 86400)] == [
        "0.0 s",
        "9.9 s",
        "10 s",
        "1 min 1 s",
        "1 min",
        "1 h",
        "1 d 1 h",
        "3 d",
    ]
    assert parse_moment("2026-03-01") == datetime(2026, 3, 1, tzinfo=UTC)
    assert parse_moment("2026-03-01T09:30+02:00") == datetime(2026, 3, 1, 7, 30, tzinfo=UTC)
    assert abs(parse_moment("2h") - datetime.now(UTC) + timedelta(hours=2)) < timedelta(seconds=5)
    assert moment(datetime(2026, 3, 1, 9, 30, 1, 5, tzinfo=UTC)) == "2026-03-01 09:30:01Z"


def test_text_cannot_steer_the_terminal() -> None:
    assert clean("a\x1b[31m\x9b\x07\tb\n") == "a\\x1b[31m\\x9b\\x07\tb\n"


def test_json_is_kept_to_the_letter() -> None:
    assert pretty('{"a":12345678901234567890.10}') == '{\n  "a": 12345678901234567890.10\n}'
    assert pretty("no json") == "no json"
    assert raw("no json") == "no json"


def test_a_table_is_never_cut_where_there_is_no_terminal() -> None:
    long = "x" * 500
    assert table(["name", ">n", "~text"], [["a", 1, long], ["bb", 22, "[red]two\nlines"]]) == (
        f"name   n  text\na      1  {long}\nbb    22  [red]two lines"
    )
