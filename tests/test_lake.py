"""Lakes in every format: collected once, checked, asked, compacted, erased; and what a check has to find."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import nats
import pytest

from ensue import App, DomainEvent, IntegrationEvent, context
from ensue.errors import DeclarationError, LakeError, Overtaken, ProjectionError
from ensue.lake import Checkpoint, Collector, Gatherer, Lake, compare, source_of
from ensue.lake.columns import rows_of
from tests.broker_servers import shared_nats
from tests.lake_files import contents
from tests.patience import until

FORMATS = ["delta", "iceberg", "parquet", "jsonl"]


class Address(IntegrationEvent, version=1, name="lake.Address"):
    city: str


class BookLent(IntegrationEvent, version=1, key="reader", name="lake.BookLent"):
    reader: str
    book: str
    days: int
    fee: Decimal
    back_at: datetime | None = None
    tags: tuple[str, ...] = ()
    id: int = 0


class ShelfChecked(DomainEvent, name="lake.ShelfChecked"):
    shelf: str


@pytest.fixture(params=["sqlite", "postgres"])
def app(request: pytest.FixtureRequest, tmp_path: Path, schema: str) -> App:
    url = f"sqlite:///{tmp_path}/log.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    made = App("library", url, schema=schema, migrate=True)
    made.migrate()
    return made


@pytest.fixture
def sqlite(tmp_path: Path) -> App:
    made = App("library", f"sqlite:///{tmp_path}/log.db", migrate=True)
    made.migrate()
    return made


def lend(app: App, count: int, *, reader: str = "r{}", first: int = 0) -> None:
    with app.transaction() as connection:
        for number in range(first, first + count):
            event = BookLent(
                reader=reader.format(number % 5),
                book=f'book "{number}" Ä\n漢',
                days=number,
                fee=Decimal(number) / 4,
                back_at=datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=number),
                tags=("a", "b"),
                id=number,
            )
            with context(actor="ann", headers={"tenant": "north"}):
                app.record(event, via=connection)
            app.record(ShelfChecked(shelf=f"s{number}"), via=connection)


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_collected_is_what_the_log_holds(format: str, app: App, tmp_path: Path) -> None:
    lake = Lake(f"{format}+{tmp_path}/lake")
    lend(app, 30)
    assert Collector(app.log, lake, rows=7).collect() == 30
    lend(app, 5, first=30)
    assert Collector(app.log, lake).collect() == 5
    assert Collector(app.log, lake).collect() == 0

    (standing,) = lake.sources()
    assert (standing.source, standing.events, standing.sequence) == ("urn:ensue:library", 35, 35)
    assert lake.check() == []
    assert compare(lake.events, standing.source, app.log, ("integration",)) == []
    recorded = list(app.read(types=[BookLent]))
    collected = list(lake.read(standing.source))
    for mine, theirs in zip(collected, recorded, strict=True):
        assert mine.event == theirs.event
        assert mine.metadata == theirs.metadata
        for name in ("position", "id_text", "type", "kind", "stream", "version", "key", "data", "recorded_at"):
            assert getattr(mine, name) == getattr(theirs, name)
    (row,) = lake.sql("select * from events where sequence = 3").to_pylist()
    assert row["contract_version"] == 1
    assert row["actor"] == "ann"
    assert json.loads(row["headers"]) == {"tenant": "north"}
    assert row["date"] == row["recorded_at"].date()

    (typed,) = lake.sql("select * from lake_book_lent_v1 where sequence = 3").to_pylist()
    assert (typed["reader"], typed["days"], typed["fee"], typed["id_"]) == ("r2", 2, Decimal("0.5"), 2)
    assert typed["back_at"] == datetime(2026, 3, 1, 2, tzinfo=UTC)
    assert (json.loads(typed["tags"]), typed["misfits"]) == (["a", "b"], None)


@pytest.mark.parametrize("format", FORMATS)
def test_small_files_are_put_together_in_order(format: str, sqlite: App, tmp_path: Path) -> None:
    lake = Lake(f"{format}+{tmp_path}/lake")
    for number in range(4):
        lend(sqlite, 10, first=10 * number)
        Collector(sqlite.log, lake).collect()
    done = lake.compact()
    assert (done["events"].before, done["events"].after) == (4, 1)
    assert lake.events.data().to_table().column("sequence").to_pylist() == list(range(1, 41))
    assert lake.compact()["events"].before == 0
    lend(sqlite, 10, first=40)
    assert Collector(sqlite.log, lake).collect() == 10
    assert lake.check() == []
    assert lake.sql("select count(*) as n, sum(days) as days from lake_book_lent_v1").to_pylist() == [
        {"n": 50, "days": sum(range(50))}
    ]


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_erased_is_nowhere_and_leaves_a_tombstone(format: str, sqlite: App, tmp_path: Path) -> None:
    lake = Lake(f"{format}+{tmp_path}/lake")
    lend(sqlite, 10)
    lend(sqlite, 1, reader="reader-to-forget")
    Collector(sqlite.log, lake).collect()
    assert any(b"reader-to-for" in each for each in contents(tmp_path / "lake"))
    assert len(lake.erase("reader-to-forget", dry_run=True)) == 1
    assert len(lake.erase("reader-to-forget")) == 1
    assert not any(b"reader-to-for" in each for each in contents(tmp_path / "lake"))
    assert lake.erase("reader-to-forget") == []
    assert lake.check() == []
    assert compare(lake.events, source_of("library"), sqlite.log, ("integration",)) == []
    (standing,) = lake.sources()
    assert (standing.events, standing.erased) == (11, 1)
    (row,) = lake.sql("select * from events where erased_at is not null").to_pylist()
    assert (row["sequence"], row["type"], row["payload"], row["key"]) == (11, "lake.BookLent.v1", None, None)
    assert lake.sql("select count(*) as n from lake_book_lent_v1").to_pylist() == [{"n": 10}]
    assert len(lake.erase("7", field="id")) == 1
    lend(sqlite, 3, first=20)
    assert Collector(sqlite.log, lake).collect() == 3
    assert lake.check() == []
    assert lake.sql("select count(*) as n from lake_book_lent_v1").to_pylist() == [{"n": 12}]


@pytest.mark.parametrize("format", FORMATS)
def test_of_two_collectors_only_one_advances(format: str, sqlite: App, tmp_path: Path) -> None:
    lake, other = Lake(f"{format}+{tmp_path}/lake"), Lake(f"{format}+{tmp_path}/lake")
    lend(sqlite, 10)
    late = Collector(sqlite.log, other, rows=5)
    late.begin()
    assert Collector(sqlite.log, lake).collect() == 10
    with pytest.raises(Overtaken, match="by another collector"):
        late.step()
    assert late.collect() == 0
    lend(sqlite, 40, first=10)
    several = [
        threading.Thread(target=Collector(sqlite.log, Lake(f"{format}+{tmp_path}/lake"), rows=3).collect)
        for _ in range(3)
    ]
    for each in several:
        each.start()
    for each in several:
        each.join()
    assert lake.check() == []
    assert lake.sql("select count(*) as n from lake_book_lent_v1").to_pylist() == [{"n": 50}]
    assert lake.sources()[0].events == 50


def test_a_transaction_that_commits_late_is_neither_missed_nor_reordered(
    postgres_url: str, schema: str, tmp_path: Path
) -> None:
    app = App("library", postgres_url, schema=schema, migrate=True)
    app.migrate()
    lake = Lake(tmp_path / "lake")
    collector = Collector(app.log, lake)
    with app.transaction() as slow:
        first = app.record(BookLent(reader="slow", book="b", days=1, fee=Decimal(1)), via=slow)
        with app.transaction() as fast:
            second = app.record(BookLent(reader="fast", book="b", days=1, fee=Decimal(1)), via=fast)
        assert first.position < second.position
        assert collector.collect() == 0
    assert collector.collect() == 2
    assert [each.key for each in lake.read(collector.source)] == ["slow", "fast"]
    assert lake.check() == []


def test_a_check_finds_holes_doubled_events_and_what_only_one_side_has(sqlite: App, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    lend(sqlite, 10)
    lake.begin("integration")
    source = source_of("library")
    events = list(sqlite.read(types=[BookLent]))
    part = rows_of(source, 0, events[:4])
    lake.events.append(part, source, Checkpoint(), Checkpoint(events[3].position, 4))
    again = rows_of(source, 5, [events[3], events[6]])  # 5 is left out, and one is there already
    lake.events.append(again, source, lake.events.checkpoint(source), Checkpoint(events[6].position, 8))
    found = {(each.what, each.first, each.last) for each in lake.check()}
    assert found >= {("hole", 5, 5), ("doubled", 4, 6), ("disorder", 6, 6), ("checkpoint", 7, 8)}
    missing = compare(lake.events, source, sqlite.log, ("integration",))
    assert [each.first for each in missing if each.what == "missing"] == [each.position for each in events[4:6]]
    assert [each.first for each in missing if each.what == "unknown"] == [events[3].position]


def test_a_lake_is_of_one_kind(sqlite: App, tmp_path: Path) -> None:
    lend(sqlite, 3)
    lake = Lake(tmp_path / "lake")
    Collector(sqlite.log, lake).collect()
    with pytest.raises(LakeError, match="Begin another one"):
        Collector(sqlite.log, lake, everything=True).collect()
    private = Lake(tmp_path / "private")
    assert Collector(sqlite.log, private, everything=True).collect() == 6
    assert private.sql("select kind, count(*) as n from events group by 1 order by 1").to_pylist() == [
        {"kind": "domain", "n": 3},
        {"kind": "integration", "n": 3},
    ]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("orc+/srv/lake", "there is no format 'orc'"),
        ("", "does not say where the lake is"),
        ("parquet+ftp://bucket/lake", "plain files are kept in a folder, in s3"),
        ("/srv/lake?catalog=x", "only iceberg"),
    ],
)
def test_an_address_that_cannot_be_used_says_why(address: str, words: str) -> None:
    with pytest.raises(LakeError, match=words):
        Lake(address)


def test_values_that_do_not_fit_their_column_are_told(sqlite: App, tmp_path: Path) -> None:
    with sqlite.transaction() as connection:
        sqlite.record(BookLent(reader="r", book="b", days=2**70, fee=Decimal("1e-20")), via=connection)
    lake = Lake(tmp_path / "lake")
    Collector(sqlite.log, lake).collect()
    (row,) = lake.sql("select days, fee, misfits from lake_book_lent_v1").to_pylist()
    assert row == {"days": None, "fee": None, "misfits": "days,fee"}


def test_what_was_pruned_from_the_log_is_replayed_from_the_lake(app: App, tmp_path: Path) -> None:
    mark = "%s" if app.log.place.url.startswith("postgres") else "?"
    table = f"lent_{app.log.place.schema}"

    def declare(app: App, version: int) -> None:
        @app.projection(
            BookLent,
            tables=table,
            version=version,
            name="lent",
            set_up=f"create table {table} (book text primary key, days bigint not null)",
        )
        def lent(event: BookLent, connection: Any) -> None:
            connection.execute(f"insert into {table} values ({mark}, {mark})", (event.book, event.days))

    async def caught_up(app: App) -> None:
        async with app.running():
            await until(lambda: app.replays.builds("lent")[0].reach and _there(app))

    def _there(app: App) -> bool:
        live = app.replays.builds("lent")[0]
        return live.reach is not None and live.reach.slowest >= live.head

    declare(app, 1)
    lend(app, 12)
    app.migrate()
    asyncio.run(caught_up(app))
    lake = tmp_path / "lake"
    Collector(app.log, Lake(lake)).collect()
    lend(app, 2, first=12)
    asyncio.run(caught_up(app))
    with pytest.raises(Exception, match="hold"):
        app.history.prune("0s", types=["lake.BookLent.v1"], actor="ann", reason="old")
    Collector(app.log, Lake(lake)).collect()
    assert app.history.prune("0s", types=["lake.BookLent.v1"], actor="ann", reason="old").events > 0
    newer = App("library", app.log.place.url, schema=app.log.place.schema)
    declare(newer, 2)
    with pytest.raises(ProjectionError, match="have been pruned"):
        newer.replays.begin("lent")
    replays = newer.replays_from(lake)
    build = replays.begin("lent")
    asyncio.run(replays.build(build))
    assert replays.compare("lent").same
    late = Lake(tmp_path / "late")
    assert [each.events for each in Collector(app.log, late).begin()] != []
    lend(app, 1, first=14)
    Collector(app.log, late).collect()
    with pytest.raises(LakeError, match="what was pruned before it was collected"):
        newer.replays_from(tmp_path / "late").begin("lent")


async def test_workers_collect_what_an_application_declares(app: App, tmp_path: Path, caplog: Any) -> None:
    app.collect(tmp_path / "lake", every=0.05)
    with pytest.raises(DeclarationError, match="collected already"):
        app.collect(tmp_path / "lake")
    lend(app, 4)
    lake = Lake(tmp_path / "lake")
    async with app.running():
        await until(lambda: lake.events.exists() and sum(each.events for each in lake.sources()) == 4)
        lend(app, 3, first=4)
        await until(lambda: sum(each.events for each in lake.sources()) == 7)
    assert lake.check() == []
    assert [each.message for each in caplog.records if each.levelno >= logging.WARNING] == []


@pytest.fixture(params=["memory", "nats"])
def broker(request: pytest.FixtureRequest, schema: str) -> Iterator[str]:
    if request.param == "memory":
        yield f"memory://{schema}"
        return
    with shared_nats() as where:
        yield f"nats://{where}/{schema}?timeout=10"

        async def remove() -> None:
            client = await nats.connect(f"nats://{where}")
            await client.jetstream().delete_stream(schema)
            await client.close()

        asyncio.run(remove())


async def test_what_services_publish_is_gathered_once(tmp_path: Path, schema: str, broker: str) -> None:
    topic = f"{schema}.BookLent"
    apps = [App(f"library {name}", f"sqlite:///{tmp_path}/{name}.db", migrate=True) for name in ("north", "south")]
    lake = Lake(tmp_path / "lake")
    for number, app in enumerate(apps):
        app.relay(broker, BookLent, topic=lambda _: topic)
        app.migrate()
        lend(app, 5, first=100 * number)
    for app in apps:
        async with app.running():
            assert await Gatherer(lake, broker, [topic]).gather(quiet=1.0) == 5
    # delivered once more, to a group that has read nothing: all are known
    assert await Gatherer(lake, broker, [topic], group="another").gather(quiet=0.2) == 0
    assert lake.check() == []
    assert [each.events for each in lake.sources()] == [5, 5]
    for app in apps:
        assert compare(lake.events, source_of(app.name), app.log, ("integration",)) == []
    mine = {each.id_text: each for each in lake.read(source_of("library north"))}
    for theirs in apps[0].read(types=[BookLent]):
        assert mine[theirs.id_text].event == theirs.event
        assert mine[theirs.id_text].recorded_at == theirs.recorded_at
        assert mine[theirs.id_text].position == theirs.position
    assert lake.sql("select count(*) as n from lake_book_lent_v1").to_pylist() == [{"n": 10}]
