"""The pytest plugin: the application's log is the test's own, `settle()` waits, and the clock can be moved."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ensue import App, Backoff, Delivery, DomainEvent
from ensue.errors import DeclarationError, WrongDatabase
from ensue.testing.moving import Clock, log_at
from ensue.testing.settling import Settle, Since
from tests.patience import PATIENCE


class Joined(DomainEvent, key="who", name="test.plugin.joined"):
    who: str


class Welcomed(DomainEvent, key="who", name="test.plugin.welcomed"):
    who: str


class Reminded(DomainEvent, key="who", name="test.plugin.reminded"):
    who: str


class Night(DomainEvent, name="test.plugin.night"):
    pass


@pytest.fixture
def ensue_target(schema: str) -> App:
    """Return an application whose log is nowhere yet."""
    app = App("plugin", "sqlite:////nowhere/at/all.db", schema=schema)

    @app.on(Joined, start="beginning", retry=Backoff(first=60, most=60))
    def welcome(event: Joined, delivery: Delivery) -> None:
        if event.who == "flaky" and delivery.attempt < 3:
            raise ConnectionError("they are away")
        with app.transaction() as connection:
            app.record(Welcomed(who=event.who), via=connection)

    @app.on(Welcomed, start="beginning")
    async def remind_later(event: Welcomed) -> None:
        async with app.transaction() as connection:
            await app.after("3d", Reminded(who=event.who), via=connection)

    @app.schedule("0 3 * * *")
    def night(_: datetime) -> Night:
        return Night()

    return app


@pytest.fixture(params=["sqlite", "memory", "postgresql"])
def ensue_log(request: pytest.FixtureRequest, tmp_path: Path, schema: str) -> str:
    match request.param:
        case "sqlite":
            return f"sqlite:///{tmp_path / 'ensue.db'}"
        case "memory":
            return f"memory://{schema}"
        case _:
            url: str = request.getfixturevalue("postgres_url")
            return url


def join(app: App, *names: str) -> None:
    with app.transaction() as connection:
        app.record(*[Joined(who=who) for who in names], via=connection)


def test_everything_follows_and_what_waits_for_its_time_waits_for_the_clock(
    ensue_app: App, settle: Settle, ensue_clock: Clock, ensue_recorded: Since
) -> None:
    join(ensue_app, "ada", "bert")
    settle()
    assert sorted(each.who for each in ensue_recorded(Welcomed)) == ["ada", "bert"]
    assert ensue_recorded(Reminded) == []

    ensue_clock.move("2d")
    settle()
    assert ensue_recorded(Reminded) == []
    ensue_clock.move(timedelta(days=1))
    settle()
    assert sorted(each.who for each in ensue_recorded(Reminded)) == ["ada", "bert"]
    assert len(ensue_recorded(Night)) == 2, "the last tick of each stretch of time"
    assert timedelta(days=3) <= ensue_clock.now() - datetime.now(UTC) + timedelta(seconds=1)
    assert [each.type for each in ensue_recorded.whole(Joined)] == ["test.plugin.joined"] * 2


def test_retries_wait_for_the_clock(ensue_app: App, settle: Settle, ensue_clock: Clock, ensue_recorded: Since) -> None:
    join(ensue_app, "flaky")
    for _ in range(2):
        settle()
        assert ensue_recorded(Welcomed) == []
        ensue_clock.move(60)
    settle()
    assert ensue_recorded(Welcomed) == [Welcomed(who="flaky")]


async def test_in_an_event_loop_and_beside_a_worker_that_runs(
    ensue_app: App, settle_async: Callable[[], Awaitable[None]], settle: Settle, ensue_recorded: Since
) -> None:
    async with ensue_app.running():
        async with ensue_app.transaction() as connection:
            await ensue_app.record(Joined(who="ada"), via=connection)
        await settle_async()
        assert ensue_recorded(Welcomed) == [Welcomed(who="ada")]
    async with ensue_app.transaction() as connection:
        await ensue_app.record(Joined(who="bert"), via=connection)
    await settle_async()
    assert len(ensue_recorded(Welcomed)) == 2
    with pytest.raises(DeclarationError, match="await settle_async"):
        settle()


def test_what_is_left_is_said(ensue_app: App, settle: Settle) -> None:
    goes_on = threading.Event()

    @ensue_app.on(Joined, name="slow", start="beginning")
    def slow(_: Joined) -> None:
        goes_on.wait(PATIENCE)

    ensue_app.migrate()
    join(ensue_app, "ada")
    with pytest.raises(AssertionError, match=r"not everything has followed within 1 s\n(.*\n)*  slow: 1 behind"):
        settle(1.0)
    goes_on.set()
    settle()


def test_an_open_transaction_is_waited_for(ensue_app: App, settle: Settle, ensue_log: str) -> None:
    if not ensue_log.startswith("postgresql"):
        pytest.skip("SQLite has one writer at a time")
    with ensue_app.transaction() as connection:
        ensue_app.record(Joined(who="ada"), via=connection)
        with pytest.raises(AssertionError, match="a transaction that has recorded is still open"):
            settle(0.2)


def test_the_log_is_where_the_application_says_before_and_after(ensue_target: App, tmp_path: Path) -> None:
    before = ensue_target.log.place
    with log_at(ensue_target, f"sqlite:///{tmp_path}/other.db") as app:
        assert app is ensue_target
        join(app, "ada")
        assert len(list(app.read())) == 1
        with App("plugin", f"sqlite:///{tmp_path}/mine.db").transaction() as mine, pytest.raises(WrongDatabase):
            app.record(Joined(who="bert"), via=mine)
    assert ensue_target.log.place is before


def test_the_clock_goes_forward_only(ensue_clock: Clock) -> None:
    with pytest.raises(DeclarationError, match="this clock goes forward only"):
        ensue_clock.move(-1)


# --- in a project of its own

MODULE = """
from ensue import App, DomainEvent

app = App("own", "sqlite:///real.db")

class Asked(DomainEvent, name="own.asked"):
    pass

class Answered(DomainEvent, name="own.answered"):
    pass

@app.on(Asked)
def answer(_):
    with app.transaction() as connection:
        app.record(Answered(), via=connection)
"""
TEST = """
from own import Answered, Asked, app

def test_it(ensue_app, settle, ensue_recorded):
    assert ensue_app is app
    with app.transaction() as connection:
        app.record(Asked(), via=connection)
    settle()
    assert ensue_recorded(Answered) == [Answered()]
"""


@pytest.mark.parametrize(
    "named, code, says",
    [
        ("own:app", 0, "1 passed"),
        ("", 1, "name the application in pytest's configuration as module:name"),
    ],
)
def test_the_configuration_names_the_application(tmp_path: Path, named: str, code: int, says: str) -> None:
    (tmp_path / "own.py").write_text(MODULE)
    (tmp_path / "test_own.py").write_text(TEST)
    (tmp_path / "pyproject.toml").write_text(
        f'[tool.pytest.ini_options]\nensue_app = "{named}"\npythonpath = ["."]\nfilterwarnings = ["error"]\n'
        'asyncio_default_fixture_loop_scope = "function"\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert says in done.stdout
    assert not (tmp_path / "real.db").exists()
