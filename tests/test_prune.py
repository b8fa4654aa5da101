"""Retention: what nobody needs any more is deleted, what anybody needs stays, and what is gone is written down."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ensue import Aggregate, App, DomainEvent, IntegrationEvent, Park, SourcedEvent, evolves
from ensue.errors import EnsueError, StillNeeded, UnknownName
from ensue.history import pruning
from ensue.subscriptions.operating import Filter
from tests.patience import until, until_sync
from tests.shop import Shop, open_shop

ANY_AGE = datetime(2100, 1, 1, tzinfo=UTC)


class Noted(DomainEvent, key="about", name="test.prune.noted"):
    about: str
    n: int = 0


class Told(IntegrationEvent, version=1, name="test.prune.told"):
    n: int = 0


class Grown(SourcedEvent, name="test.prune.grown"):
    by: int = 1


class Unread(DomainEvent, key="about", name="test.prune.unread"):
    about: str


class Plant(Aggregate, name="test_prune_plant"):
    size: int = 0

    @evolves
    def _grown(self, event: Grown) -> None:
        self.size += event.by


@pytest.fixture(params=["sqlite", "postgresql"])
def app(request: pytest.FixtureRequest, tmp_path: Path, schema: str) -> App:
    url = f"sqlite:///{tmp_path}/log.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    made = App("keeper", url, schema=schema)
    made.migrate()
    return made


@pytest.fixture
def postgres(postgres_url: str, schema: str) -> App:
    made = App("keeper", postgres_url, schema=schema)
    made.migrate()
    return made


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a batch be of ten events."""
    monkeypatch.setattr(pruning, "_BATCH", 10)


def record(app: App, *events: Any, **options: Any) -> Any:
    with app.transaction() as connection:
        return app.record(*events, via=connection, **options)


def positions(app: App) -> list[int]:
    return [each.position for each in app.read()]


async def work(app: App) -> None:
    """Let a worker run until its subscriptions have passed everything."""
    async with app.running(lease=1.0):
        head = app.operations.horizon()
        await until(lambda: all(each.checkpoint >= head for each in app.operations.standings()))


def prune(app: App, older_than: Any = ANY_AGE, **options: Any) -> Any:
    return app.history.prune(older_than, actor="anna", reason="tidy", **options)


def fill(app: App, number: int) -> None:
    record(app, *[Noted(about=f"k{n % 7}", n=n) for n in range(number)])


# --- what goes and what stays


def test_old_events_go_and_event_sourced_ones_stay(app: App) -> None:
    plants = app.repository(Plant)
    record(app, Noted(about="a"), Told(), Noted(about="b"))
    with plants.edit("1", create=True) as plant:
        plant.apply(Grown(by=2))
    record(app, Told(), Noted(about="a"), Told())
    plan = prune(app, dry_run=True)
    assert (plan.dry_run, plan.events, plan.until, plan.needs) == (True, 5, 6, ())
    assert positions(app) == [1, 2, 3, 4, 5, 6, 7]
    done = prune(app)
    assert [(each.type, each.events, each.first_position, each.last_position) for each in done.types] == [
        ("test.prune.noted", 3, 1, 6),
        ("test.prune.told.v1", 2, 2, 5),
    ]
    assert (done.dry_run, done.events) == (False, 5)
    assert positions(app) == [4, 7], "the last event of the log stays too"
    assert plants.get("1").size == 2
    assert prune(app).events == 0
    assert record(app, Told()).position == 8


def test_event_sourced_events_stay_also_where_their_class_is_not_known(app: App) -> None:
    plants = app.repository(Plant)
    with plants.edit("1", create=True) as plant:
        plant.apply(Grown())
        plant.apply(Grown())
    record(app, Told())
    place = app.log.place
    with app.transaction() as connection:
        events = f"{place.schema}{'.' if place.url.startswith('postgresql') else '_'}events"
        connection.execute(f"update {events} set type = 'test.prune.no class' where kind = 'sourced'")
    assert prune(app).events == 0
    assert positions(app) == [1, 2, 3]


def test_only_what_is_older_than_asked_goes(app: App) -> None:
    for n in range(4):
        record(app, Noted(about="a", n=n))
    third = list(app.read())[2].recorded_at
    assert prune(app, "90d").events == prune(app, timedelta(hours=1)).events == prune(app, 3600).events == 0
    done = prune(app, third)
    assert (done.events, done.until, done.recorded_before) == (2, 2, third)
    assert positions(app) == [3, 4]
    for wrong in (datetime(2026, 1, 1), -1, "soon"):  # noqa: DTZ001
        with pytest.raises(EnsueError):
            prune(app, wrong)


def test_an_age_counts_by_the_clock_of_the_database(app: App) -> None:
    record(app, Noted(about="a"), Noted(about="b"))
    before = datetime.now(UTC) - timedelta(days=2, minutes=1)
    assert before < prune(app, "2d").recorded_before < datetime.now(UTC) - timedelta(days=2) + timedelta(minutes=1)


def test_types_are_chosen(app: App) -> None:
    record(app, Noted(about="a"), Told(), Unread(about="a"), Told(), Noted(about="b"))
    assert prune(app, types=[Told, "test.prune.unread"]).events == 3
    assert positions(app) == [1, 5]
    for sourced in (Grown, "test.prune.grown"):
        with pytest.raises(StillNeeded, match=r"test\.prune\.grown is event-sourced"):
            prune(app, types=[sourced])
    assert prune(app, types=["nothing of this type"]).events == 0


def test_the_last_event_of_a_stream_stays_because_it_tells_the_version(app: App) -> None:
    for n in range(3):
        record(app, Noted(about="a", n=n), stream="note-1")
    record(app, Told())
    done = prune(app)
    assert (done.types[0].events, done.types[0].newest) == (2, 1)
    assert [(each.position, each.version) for each in app.read(stream="note-1")] == [(3, 3)]
    assert record(app, Noted(about="a", n=3), stream="note-1", expected=3).version == 4


def test_what_was_recorded_under_a_dedupe_key_is_not_recorded_again(app: App) -> None:
    first = record(app, Told(n=1), dedupe="once")
    record(app, Told(n=2))
    assert prune(app).events == 1
    again = record(app, Told(n=1), dedupe="once")
    assert (again.duplicate, again.ids, again.positions) == (True, first.ids, first.positions)
    assert positions(app) == [2]


async def test_pruning_in_an_event_loop(app: App) -> None:
    fill(app, 25)
    assert (await app.history.prune_async(ANY_AGE, actor="anna", dry_run=True)).events == 24
    assert (await app.history.prune_async(ANY_AGE, actor="anna")).events == 24
    assert [each.events for each in await app.history.pruned_async()] == [24]


def test_a_log_in_memory_is_pruned_too(schema: str) -> None:
    app = App("keeper", f"memory://{schema.replace('_', '-')}", migrate=True)
    fill(app, 5)
    assert prune(app).events == 4


# --- who still needs something


async def test_a_subscription_that_lags_makes_it_refuse(app: App) -> None:
    @app.on(Noted, name="slow", start="beginning", partitions=3)
    def slow(event: Noted) -> None:
        """Do nothing."""

    @app.on(Told, name="quick", start="beginning")
    def quick(event: Told) -> None:
        """Do nothing."""

    app.migrate()
    fill(app, 9)
    plan = prune(app, dry_run=True)
    assert [(each.kind, each.name, each.position) for each in plan.needs] == [
        ("subscription", "quick", 0),
        ("subscription", "slow", 0),
    ]
    with pytest.raises(StillNeeded, match=r"nothing was pruned: .*'slow' has done everything up to position 0 only"):
        prune(app)
    assert len(positions(app)) == 9
    assert app.history.pruned() == []
    assert app.operations.audit() == []
    await work(app)
    assert prune(app).events == 8


async def test_a_subscription_that_nobody_declares_any_more_counts_until_it_is_retired(app: App) -> None:
    other = App("keeper", app.log.place.url, schema=app.log.place.schema)

    @other.on(Unread, name="gone", start="beginning")
    def gone(event: Unread) -> None:
        """Do nothing."""

    other.migrate()
    fill(app, 3)
    with pytest.raises(StillNeeded, match="'gone'"):
        prune(app)
    app.operations.retire("gone", actor="anna", reason="it is gone")
    assert prune(app).events == 2


async def test_one_partition_that_lags_is_enough(app: App) -> None:
    @app.on(Noted, name="parts", start="beginning", partitions=2)
    def parts(event: Noted) -> None:
        """Do nothing."""

    app.migrate()
    fill(app, 5)
    await work(app)
    place = app.log.place
    table = f"{place.schema}{'.' if place.url.startswith('postgresql') else '_'}partitions"
    with app.transaction() as connection:
        connection.execute(f"update {table} set checkpoint = 2 where first_slot > 0")
    with pytest.raises(StillNeeded, match="up to position 2 only"):
        prune(app)
    assert prune(app, list(app.read())[2].recorded_at, types=[Told]).events == 0


async def test_what_is_parked_or_queues_behind_it_stays(app: App) -> None:
    failing = {2}

    @app.on(Noted, name="picky", start="beginning")
    def picky(event: Noted) -> Park | None:
        return Park("no") if event.n in failing else None

    app.migrate()
    record(app, *[Noted(about="ab"[n % 2], n=n) for n in range(8)], Unread(about="a"), Told())  # a: 1, 3, 5, 7
    await work(app)
    plan = prune(app, dry_run=True)
    assert [(each.type, each.events, each.waiting) for each in plan.types] == [
        ("test.prune.noted", 5, 3),
        ("test.prune.unread", 1, 0),
    ]
    assert prune(app).events == 6
    assert positions(app) == [3, 5, 7, 10]
    failing.clear()
    app.operations.decide(Filter(), "retry", actor="anna", reason="mended")
    async with app.running(lease=1.0):
        await until(lambda: not app.operations.dead_letters(Filter(waiting_only=False)))
    assert prune(app).events == 3
    assert positions(app) == [10]


async def test_what_is_parked_stays_though_its_type_is_wanted_no_more(app: App) -> None:
    @app.on(Noted, Unread, name="changing", start="beginning")
    def changing(event: Noted | Unread) -> Park:
        return Park("no")

    app.migrate()
    record(app, Unread(about="a"), Unread(about="b"))
    await work(app)
    later = App("keeper", app.log.place.url, schema=app.log.place.schema)
    later.on(Noted, name="changing")(changing)
    later.migrate()
    record(app, *[Told()] * 2)
    async with later.running(lease=1.0):
        head = later.operations.horizon()
        await until(lambda: all(each.checkpoint >= head for each in later.operations.standings()))
    assert prune(later).events == 1
    assert positions(later) == [1, 2, 4]


async def test_an_event_without_a_key_that_is_parked_stays(app: App) -> None:
    @app.on(Told, name="refusing", start="beginning")
    def refusing(event: Told) -> Park | None:
        return Park("no") if event.n == 1 else None

    @app.on(Unread, name="by_stream", start="beginning")
    def by_stream(event: Unread) -> None:
        """Do nothing."""

    app.migrate()
    record(app, Told(n=0), Told(n=1), Told(n=2), Told(n=3))
    await work(app)
    assert prune(app).events == 2
    assert positions(app) == [2, 4]


async def test_a_hold_keeps_what_lies_behind_it(app: App) -> None:
    fill(app, 9)
    assert app.history.hold("seal", 4, reason="sealed up to here") == []
    assert [(each.name, each.position, each.reason) for each in app.history.holds()] == [
        ("seal", 4, "sealed up to here")
    ]
    plan = prune(app, dry_run=True)
    assert [(each.kind, each.name, each.position) for each in plan.needs] == [("hold", "seal", 4)]
    with pytest.raises(StillNeeded, match="hold 'seal' keeps everything behind position 4: sealed up to here"):
        prune(app)
    await app.history.hold_async("seal", 8, reason="sealed up to here")
    assert [each.position for each in await app.history.holds_async()] == [8]
    assert prune(app).events == 8
    await app.history.lift_async("seal")
    with pytest.raises(UnknownName, match="there is no hold 'seal'"):
        app.history.lift("seal")
    assert app.history.holds() == []


def test_a_hold_says_what_is_missing_already(app: App) -> None:
    fill(app, 9)
    prune(app)
    (missing,) = app.history.hold("replay", 0, reason="from the beginning")
    assert (missing.first_position, missing.last_position, missing.events) == (1, 8, 8)
    assert app.history.hold("replay", 8, reason="from here on") == []


# --- what is written down


def test_what_is_gone_is_written_down(app: App) -> None:
    record(app, Noted(about="a"), Told(), Noted(about="b"), Told())
    done = prune(app)
    record(app, Told(), Told())
    second = prune(app, types=[Told])
    found = app.history.pruned()
    assert [(each.run, each.type, each.first_position, each.last_position, each.events) for each in found] == [
        (done.run, "test.prune.noted", 1, 3, 2),
        (done.run, "test.prune.told.v1", 2, 2, 1),
        (second.run, "test.prune.told.v1", 4, 5, 2),
    ]
    assert {(each.actor, each.reason) for each in found} == {("anna", "tidy")}
    assert found[0].recorded_before == done.recorded_before
    assert abs(found[0].pruned_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert [each.run for each in app.history.pruned(after=3)] == [second.run]
    assert app.history.pruned(types=["test.prune.noted"]) == found[:1]
    assert app.history.pruned(after=5) == []
    entries = app.operations.audit()
    assert [(each.actor, each.action, each.reason) for each in entries] == [("anna", "prune", "tidy")] * 2
    assert done.run in (entries[1].detail or "")


@pytest.mark.usefixtures("small")
def test_pruning_that_is_broken_off_has_written_down_what_is_gone(app: App) -> None:
    fill(app, 45)

    def break_off(done: int, of: int) -> None:
        assert of == 44
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prune(app, progress=break_off)
    assert positions(app) == list(range(21, 46))
    assert [(each.first_position, each.last_position, each.events) for each in app.history.pruned()] == [(1, 20, 20)]
    assert [each.action for each in app.operations.audit()] == ["prune"]
    assert prune(app).events == 24
    assert positions(app) == [45]
    assert sum(each.events for each in app.history.pruned()) == 44


@pytest.mark.usefixtures("small")
def test_pruning_stops_when_somebody_begins_to_need_what_is_left(app: App) -> None:
    fill(app, 45)

    def need(done: int, of: int) -> None:
        if done == 10:
            app.history.hold("replay", 30, reason="a replay has begun")
        if done == 20:
            app.history.hold("replay", 20, reason="a replay has begun")

    with pytest.raises(StillNeeded, match="pruning has stopped after 20 events: hold 'replay' keeps everything"):
        prune(app, progress=need)
    assert positions(app) == list(range(21, 46))
    assert app.history.pruned(after=20) == []


@pytest.mark.usefixtures("small")
def test_progress_is_told(app: App) -> None:
    fill(app, 25)
    told: list[tuple[int, int]] = []
    prune(app, progress=lambda done, of: told.append((done, of)))
    assert told == [(10, 24), (20, 24), (24, 24)]


# --- beside others


@pytest.mark.usefixtures("small")
def test_others_write_while_it_prunes(app: App) -> None:
    fill(app, 600)
    stop = threading.Event()
    recorded: list[int] = []

    def write() -> None:
        while not stop.wait(0.02):
            record(app, Told())
            recorded.append(1)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for each in writers:
        each.start()
    try:
        until_sync(lambda: len(recorded) > 4)
        assert prune(app, types=[Noted]).events == 600
    finally:
        stop.set()
        for each in writers:
            each.join()
    assert len(positions(app)) == len(recorded)


def test_a_hold_waits_for_the_batch_that_is_being_pruned(postgres: App) -> None:
    """What the hold does not call missing must be there, and stay."""
    fill(postgres, 5)
    lock = postgres.log.dialect.sql["lock_for_pruning"]
    events, done = f"{postgres.log.place.schema}.events", threading.Event()
    missing: list[Any] = []

    def hold() -> None:
        missing.extend(postgres.history.hold("replay", 0, reason="a replay begins"))
        done.set()

    with postgres.transaction() as batch:
        batch.execute(lock.source)
        thread = threading.Thread(target=hold)
        thread.start()
        with postgres.transaction() as looking:
            until_sync(
                lambda: looking.execute(
                    "select 1 from pg_locks where not granted and relation = %s::regclass",
                    (f"{postgres.log.place.schema}.holds",),
                ).fetchone(),
                "the hold waits",
            )
        assert not done.is_set()
        batch.execute(f"delete from {events} where position = 1")
        batch.execute(
            postgres.log.dialect.sql["note_pruned"].format,
            ("run", "test.prune.noted", 1, 1, 1, datetime.now(UTC).isoformat(), "anna", "tidy"),
        )
    thread.join()
    assert [each.events for each in missing] == [1]


def test_a_batch_waits_for_a_subscription_that_is_just_beginning(postgres: App) -> None:
    fill(postgres, 5)
    schema, result = postgres.log.place.schema, list[BaseException | None]()

    def prune_it() -> None:
        try:
            prune(postgres)
        except StillNeeded as error:
            result.append(error)
        else:
            result.append(None)

    with postgres.transaction() as beginning:
        beginning.execute(f"insert into {schema}.subscriptions (name, types, started_at) values ('new', '[]', 0)")
        beginning.execute(
            f"insert into {schema}.partitions (subscription, first_slot, last_slot, checkpoint) "
            "values ('new', 0, 65535, 0)"
        )
        thread = threading.Thread(target=prune_it)
        thread.start()
        with postgres.transaction() as looking:
            until_sync(
                lambda: looking.execute(
                    "select 1 from pg_locks where not granted and relation = %s::regclass", (f"{schema}.subscriptions",)
                ).fetchone(),
                "the batch waits",
            )
    thread.join()
    assert isinstance(result[0], StillNeeded)
    assert len(positions(postgres)) == 5


# --- who begins later


async def test_a_subscription_that_begins_where_events_are_missing_is_told(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    record(app, Noted(about="a"), Told(), Noted(about="b"), Told())
    prune(app)

    @app.on(Noted, name="late", start="beginning")
    def late(event: Noted) -> None:
        """Do nothing."""

    @app.on(Told, name="from_now")
    def from_now(event: Told) -> None:
        """Do nothing."""

    @app.on(Unread, name="unread", start="beginning")
    def unread(event: Unread) -> None:
        """Do nothing."""

    with caplog.at_level(logging.WARNING, "ensue"):
        app.migrate()
        app.migrate()
    (said,) = caplog.records
    assert "subscription 'late' begins at position 1" in said.getMessage()
    assert "up to 2 of test.prune.noted" in said.getMessage()


# --- on the command line


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    schema: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Shop]:
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/shop.db" if sqlite else request.getfixturevalue("postgres_url")
    yield from open_shop(tmp_path, url, schema, monkeypatch, capsys)


def test_prune_shows_asks_and_does_it(shop: Shop) -> None:
    shop.good("migrate")
    shop.fail_some()  # dead letters at 2 and 6, and 3 is tried again
    shop.app.history.hold("lake", 7, reason="exported up to here")
    dry = shop.good("prune", "--older-than", "2100-01-01", "--dry-run").out
    assert "up to position 6" in dry
    assert "Placed.v1       1     1   1                 5                 0" in dry
    assert "lake       7  exported up to here" in dry
    assert "would prune 1 event; nothing was done" in dry
    asked = shop("prune", "--older-than", "2100-01-01")
    assert asked.code == 1
    assert "Delete 1 event for good? Nobody can be asked here" in asked.err
    assert shop.good("prune", "--older-than", "90d").out.startswith("Nothing to prune that was recorded before 20")
    done = shop.good("prune", "--older-than", "2100-01-01", "--yes", "--reason", "tidy", "--actor", "anna").out
    assert done.startswith("pruned 1 event, recorded before 2100-01-01")
    assert shop.good("audit", "--json").json[0]["action"] == "prune"
    again = shop.good("prune", "--older-than", "2100-01-01", "--dry-run", "--json").json
    assert again["plan"]["events"] == 0
    assert [each["events"] for each in again["pruned"]] == [1]
    assert "Placed.v1       1     1   1  20" in shop.good("prune", "--older-than", "2100-01-01", "--dry-run").out


def test_prune_may_be_broken_off_with_ctrl_c(shop: Shop) -> None:
    shop.good("migrate")
    for name in ("mail", "stock"):
        shop.app.operations.retire(name, actor="anna", reason="nobody is to wait for them")
    for _ in range(5):
        shop.record(*["good"] * 2000)
    process = shop.start("prune", "--older-than", "2100-01-01", "--yes", "--app", "shop:app")
    until_sync(shop.app.history.pruned, "something is pruned")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    gone = sum(each.events for each in shop.app.history.pruned())
    assert len(positions(shop.app)) == 10_000 - gone
    assert process.returncode == 0 or "Broken off. What has been deleted is written down" in said
    assert "Traceback" not in said
    shop.good("prune", "--older-than", "2100-01-01", "--yes")
    assert positions(shop.app) == [10_000]


def test_prune_refuses_and_says_why(shop: Shop) -> None:
    shop.good("migrate")
    shop.record("good", "good")
    shop.app.history.hold("lake", 0, reason="nothing is exported yet")
    dry = shop("prune", "--older-than", "2100-01-01", "--dry-run")
    assert dry.code == 1
    assert "would refuse: subscription 'mail' has done everything up to position 0 only" in dry.out
    assert "would refuse: hold 'lake' keeps everything behind position 0: nothing is exported yet" in dry.out
    done = shop("prune", "--older-than", "2100-01-01", "--yes")
    assert done.code == 1
    assert "nothing was pruned" in done.err
    shop.work_off(dead=0)
    shop.app.history.lift("lake")
    assert (
        shop.good("prune", "--older-than", "2100-01-01", "--type", "Placed.v1", "--yes", "--json").json["events"] == 1
    )
    assert "is no moment" in shop("prune", "--older-than", "soon").err
