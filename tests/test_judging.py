"""One judgement: the doctor, the console and `/readyz` say the same of the same trouble."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ensue import App, DomainEvent
from ensue.app import judging
from ensue.cli.findings import examine
from ensue.cli.target import Target
from ensue.console.health import health_of
from ensue.console.pulse import Pulse
from ensue.integrations.health import keeping_up


class Judged(DomainEvent, key="who", name="test.judging.judged"):
    who: str


@pytest.fixture(params=["sqlite", "postgresql"])
def app(request: pytest.FixtureRequest, tmp_path: Path, schema: str) -> App:
    url = f"sqlite:///{tmp_path}/log.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    app = App("judged", url, schema=schema)
    app.on(Judged, name="ping", start="beginning")(lambda event: None)
    app.migrate()
    return app


def told(app: App) -> tuple[set[str], set[str], set[str]]:
    """Return what is wrong, as the doctor, the console and the probe say it."""
    found = examine(Target(app, "judged:app", explicit=True))
    doctor = {each.what for each in found if each.level == "wrong"}
    health = health_of(app, Pulse(app).beat(), payloads=True)
    console = {each.what.rstrip(".") for each in health.problems if each.level == "wrong"}
    return doctor, {each[:1].lower() + each[1:] for each in console}, set(keeping_up(app).problems)


def execute(app: App, sql: str) -> None:
    """Change what only a worker changes."""
    separator = "_" if app.log.place.url.startswith("sqlite") else "."
    with app.transaction() as connection:
        connection.execute(sql.replace("ensue.", app.log.place.schema + separator))


def record(app: App) -> None:
    with app.transaction() as connection:
        app.record(Judged(who="ada"), via=connection)


def greet(app: App, worker: str) -> None:
    execute(
        app,
        f"insert into ensue.workers (id, host, pid, subscriptions) values ('{worker}', 'host', 1, '[\"other\"]')",
    )


@contextmanager
def held_open(app: App) -> Iterator[None]:
    with app.transaction() as connection:
        app.record(Judged(who="slow"), via=connection)
        yield


def test_no_worker(app: App) -> None:
    record(app)
    assert told(app) == ({"no worker is alive; 1 event waits for one"},) * 3


def test_a_worker_that_is_dead(app: App) -> None:
    execute(app, "update ensue.partitions set owner = 'host:1:dead', leased_until = '2000-01-01T00:00:00.000000Z'")
    greet(app, "host:2:alive")
    what = "1 lease on ping ran out and nobody took over; host:1:dead is dead or cut off from the database"
    assert told(app) == ({what},) * 3


def test_workers_that_do_not_know_a_subscription(app: App) -> None:
    greet(app, "host:2:older")
    assert told(app)[:2] == (set(), set()), "it may have just begun"
    assert told(app)[2] == {"nobody works on 1 of 1 partition of ping"}, "but it is not ready"
    record(app)
    doctor, console, probe = told(app)
    (what,) = doctor
    assert what.startswith("nobody works on 1 of 1 partition of ping, and 1 event waits, the oldest for 0.")
    assert len(console) == len(probe) == 1


def test_a_subscription_that_is_not_registered_yet(app: App) -> None:
    greet(app, "host:2:alive")
    execute(app, "update ensue.partitions set owner = 'host:2:alive', leased_until = '2100-01-01T00:00:00.000000Z'")
    app.on(Judged, name="second")(lambda event: None)
    what = "second was never registered: what is recorded now is not for it, unless it starts earlier"
    assert told(app) == ({what},) * 3


def test_a_handler_that_hangs(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "STUCK", 0.0)
    record(app)
    execute(app, "update ensue.partitions set owner = 'host:1:slow', leased_until = '2100-01-01T00:00:00.000000Z'")
    found = told(app)
    assert {len(each) for each in found} == {1}
    for (what,) in found:
        assert what.startswith("ping has not moved for ")
        assert "1 event waits: a handler hangs, or takes very long (worker host:1:slow)" in what


def test_a_long_transaction(postgres_url: str, schema: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = App("judged", postgres_url, schema=schema)
    app.migrate()
    monkeypatch.setattr(judging, "PATIENCE", 0.0)
    with held_open(app):
        doctor, console, probe = told(app)
    for (what,) in (doctor, console):
        assert "nothing behind position 0 can be delivered before it ends" in what
    assert probe == set(), "of a probe it is asked how long it may take"


def test_what_waits_for_a_person_makes_nobody_unready(app: App) -> None:
    execute(app, "update ensue.partitions set owner = 'host:2:alive', leased_until = '2100-01-01T00:00:00.000000Z'")
    moment = "'2026-01-01T00:00:00.000000Z'"
    execute(
        app,
        "insert into ensue.parked (subscription, key, slot, position, id, type, next_step, attempt, reason, parked_at, "
        f"tries_since, failed_at) values ('ping', 'k', 1, 1, 'x', 'y', 'wait', 1, 'Oops: secret', {moment}, {moment}, "
        f"{moment})",
    )
    what = "1 event of ping waits for a person: Oops: secret"
    assert told(app) == ({what}, {what}, set())
    veiled = health_of(app, Pulse(app).beat(), payloads=False)
    assert veiled.sentence == "1 event of ping waits for a person."


def test_a_pause_and_what_is_tried_again_are_notes(app: App) -> None:
    execute(app, "update ensue.partitions set owner = 'host:2:alive', leased_until = '2100-01-01T00:00:00.000000Z'")
    app.operations.pause("ping", actor="test", reason="")
    assert told(app) == (set(), set(), set())
    health = health_of(app, Pulse(app).beat(), payloads=True)
    assert (health.level, health.sentence) == ("note", "Nothing is wrong. ping is paused; 0 events wait.")
