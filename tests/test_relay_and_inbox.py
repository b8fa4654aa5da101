"""From one service's log over a broker into another service's transaction: what relay and inbox promise."""

from __future__ import annotations

import asyncio
import base64
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ensue import App, Backoff, DomainEvent, IntegrationEvent, SourcedEvent
from ensue.brokers import Outgoing, broker_at
from ensue.brokers.memory import _all
from ensue.errors import DeclarationError
from ensue.events import current_metadata
from ensue.subscriptions.operating import Filter
from tests.patience import until


class Placed(IntegrationEvent, version=1, key="order", name="test.relay.placed"):
    order: str
    n: int


class Cancelled(IntegrationEvent, version=1, key="order", name="test.relay.cancelled"):
    order: str


class Inside(DomainEvent, name="test.relay.inside"):
    order: str


class State(SourcedEvent, name="test.relay.state"):
    order: str


Place = Callable[[str], App]


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path, schema: str) -> Place:
    """Return what makes an application with a log of its own."""

    def make(name: str) -> App:
        if request.param == "sqlite":
            return App(name, f"sqlite:///{tmp_path / name}.db")
        return App(name, request.getfixturevalue("postgres_url"), schema=f"{schema}_{name}")

    return make


@pytest.fixture
def broker(schema: str) -> Iterator[str]:
    """Return the URL of a broker of the test's own."""
    yield f"memory://{schema.replace('_', '-')}"
    _all.clear()


def record(app: App, *events: Any) -> None:
    with app.transaction() as connection:
        app.record(*events, via=connection)


def rows(app: App) -> list[tuple[Any, ...]]:
    with app.log.own.lend() as connection:
        return [tuple(row) for row in connection.execute("select what, n from effects order by position").fetchall()]


def make_effects(app: App) -> None:
    """Make the table that handlers write to."""
    numbered = (
        "integer primary key autoincrement" if app.log.place.url.startswith("sqlite") else "bigserial primary key"
    )
    with app.transaction() as connection:
        connection.execute("drop table if exists effects")
        connection.execute(f"create table effects (position {numbered}, what text, n integer)")


def insert(app: App) -> str:
    mark = "?" if app.log.place.url.startswith("sqlite") else "%s"
    return f"insert into effects (what, n) values ({mark}, {mark})"


async def publish(url: str, *messages: Outgoing) -> None:
    publisher = broker_at(url).publisher()
    await publisher.open([each.topic for each in messages])
    assert await publisher.publish(messages) == [None] * len(messages)


def message(
    order: str, n: int, *, id: str, type: str = "test.relay.placed.v1", topic: str = "", body: bytes = b""
) -> Outgoing:
    headers = {
        "ce-specversion": "1.0",
        "ce-id": id,
        "ce-source": "/elsewhere",
        "ce-type": type,
        "ce-partitionkey": order,
        "content-type": "application/json",
    }
    return Outgoing(
        topic or type, order, id, "application/json", headers, body or json.dumps({"order": order, "n": n}).encode()
    )


# ---------------------------------------------------------------------------------------------------- from end to end


async def test_an_event_has_its_effect_in_another_service(place: Place, broker: str) -> None:
    orders, shipping = place("orders"), place("shipping")
    orders.relay(broker, Placed)
    seen: list[tuple[str | None, str | None]] = []

    @shipping.receive(Placed, source=broker)
    def ship(event: Placed, connection: Any) -> None:
        connection.execute(insert(shipping), (event.order, event.n))
        about = current_metadata()
        seen.append((about.correlation_id, about.causation_id))

    orders.migrate()
    shipping.migrate()
    make_effects(shipping)
    async with orders.running(), shipping.running():
        for n in range(20):
            await asyncio.to_thread(record, orders, Placed(order=f"o-{n % 3}", n=n))
        await until(lambda: len(seen) >= 20)
        await until(lambda: len(rows(shipping)) == 20)
    assert sorted(n for _, n in rows(shipping)) == list(range(20))
    assert all([n for what, n in rows(shipping) if what == f"o-{key}"] == list(range(key, 20, 3)) for key in range(3))
    recorded = list(orders.read(types=[Placed]))
    assert set(seen) == {(each.correlation_id, each.id_text) for each in recorded}


async def test_an_async_handler_has_an_async_connection(place: Place, broker: str) -> None:
    shipping = place("shipping")

    @shipping.receive(Placed, source=broker)
    async def ship(event: Placed, connection: Any) -> None:
        await connection.execute(insert(shipping), (event.order, event.n))

    shipping.migrate()
    make_effects(shipping)
    async with shipping.running():
        await publish(broker, *(message("a", n, id=f"m{n}") for n in range(5)))
        await until(lambda: len(rows(shipping)) == 5)
    assert rows(shipping) == [("a", n) for n in range(5)]


async def test_the_log_can_come_first(place: Place, broker: str) -> None:
    shipping = place("shipping")
    shipping.inbox(broker, Placed, Cancelled)
    seen: list[int] = []

    @shipping.on(Placed)
    def ship(event: Placed) -> None:
        seen.append(event.n)

    shipping.migrate()
    async with shipping.running():
        await publish(broker, *(message("a", n, id=f"m{n}") for n in range(5)))
        await publish(broker, message("a", 2, id="m2"))
        await until(lambda: len(seen) == 5)
    assert seen == list(range(5))
    found = list(shipping.read(types=[Placed]))
    assert [each.event.n for each in found] == list(range(5))
    assert [each.causation_id for each in found] == [f"m{n}" for n in range(5)]
    assert {each.key for each in found} == {"a"}


async def test_partitions_are_topics_of_their_own(place: Place, broker: str) -> None:
    orders, shipping = place("orders"), place("shipping")
    orders.relay(broker, Placed, partitions=4)
    shipping.inbox(broker, Placed, partitions=4)
    orders.migrate()
    shipping.migrate()
    async with orders.running():
        await asyncio.to_thread(record, orders, *(Placed(order=f"o-{n % 20}", n=n) for n in range(200)))
        async with shipping.running():
            await until(lambda: len(list(shipping.read(types=[Placed]))) == 200)
    topics = {name for name, messages in _all[broker.removeprefix("memory://")].messages.items() if messages}
    assert topics == {f"test.relay.placed.v1.p{part}" for part in range(4)}
    by_key: dict[str, list[int]] = {}
    for each in shipping.read(types=[Placed]):
        by_key.setdefault(each.key, []).append(each.event.n)
    assert by_key == {f"o-{key}": list(range(key, 200, 20)) for key in range(20)}


# --------------------------------------------------------------------------------------------------------- once


async def test_a_message_that_comes_again_is_known(place: Place, broker: str) -> None:
    shipping = place("shipping")

    @shipping.receive(Placed, source=broker)
    def ship(event: Placed, connection: Any) -> None:
        connection.execute(insert(shipping), (event.order, event.n))

    shipping.migrate()
    make_effects(shipping)
    topics = _all[broker.removeprefix("memory://")]
    topics.messages["test.relay.placed.v1"] += [message("a", n % 3, id=f"m{n % 3}") for n in range(30)]
    async with shipping.running():
        await until(lambda: topics.acknowledged["test.relay.placed.v1", "shipping.ship"] == 30)
    assert rows(shipping) == [("a", 0), ("a", 1), ("a", 2)]


async def test_two_receivers_have_marks_of_their_own(place: Place, broker: str) -> None:
    shipping = place("shipping")
    seen: list[str] = []

    @shipping.receive(Placed, source=broker)
    def ship(event: Placed) -> None:
        seen.append("ship")

    @shipping.receive(Placed, source=broker)
    def bill(event: Placed) -> None:
        seen.append("bill")

    shipping.migrate()
    async with shipping.running():
        await publish(broker, message("a", 1, id="m1"))
        await until(lambda: len(seen) == 2)
    assert sorted(seen) == ["bill", "ship"]


async def test_marks_are_forgotten_after_their_time(place: Place, broker: str) -> None:
    from ensue.brokers.inbox import forget

    shipping = place("shipping")
    shipping.inbox(broker, Placed)
    shipping.migrate()
    async with shipping.running():
        await publish(broker, message("a", 1, id="m1"))
        await until(lambda: len(list(shipping.read(types=[Placed]))) == 1)
    log = shipping.log
    assert log.own.run(log.transaction(forget(log, "inbox", 3600))) == 0
    await asyncio.to_thread(_age_marks, shipping)
    assert log.own.run(log.transaction(forget(log, "another", 3600))) == 0
    assert log.own.run(log.transaction(forget(log, "inbox", 3600))) == 1


def _age_marks(app: App) -> None:
    schema = app.log.place.schema
    with app.transaction() as connection:
        if app.log.place.url.startswith("sqlite"):
            connection.execute(f"update {schema}_inbox set received_at = '2026-01-01T00:00:00.000Z'")
        else:
            connection.execute(f"update {schema}.inbox set received_at = '2026-01-01'")


# -------------------------------------------------------------------------------------------------- what goes wrong


async def test_a_handler_that_fails_holds_back_its_key_only(place: Place, broker: str) -> None:
    shipping = place("shipping")
    broken = True

    @shipping.receive(Placed, source=broker, retry=Backoff(first=0.05, most=0.1))
    def ship(event: Placed, connection: Any) -> None:
        connection.execute(insert(shipping), (event.order, event.n))
        if broken and event.order == "bad" and event.n == 1:
            raise ValueError("no such order")

    shipping.migrate()
    make_effects(shipping)
    async with shipping.running():
        await publish(broker, *(message(key, n, id=f"{key}{n}") for n in range(4) for key in ("good", "bad")))
        await until(lambda: [n for what, n in rows(shipping) if what == "good"] == [0, 1, 2, 3])
        await until(lambda: bool(shipping.operations.dead_letters(Filter(waiting_only=False))))
        (letter,) = shipping.operations.dead_letters(Filter(waiting_only=False))
        assert letter.subscription == "ship"
        assert letter.key == "bad"
        assert "no such order" in letter.reason
        assert [n for what, n in rows(shipping) if what == "bad"] == [0], "those behind it wait"
        await publish(broker, message("bad", 4, id="bad4"))
        await until(lambda: len(list(shipping.read(types=["inbox of ship"]))) == 4)
        broken = False
        await until(lambda: len([1 for what, _ in rows(shipping) if what == "bad"]) == 5)
        await until(lambda: not shipping.operations.dead_letters(Filter(waiting_only=False)))
        await publish(broker, message("bad", 5, id="bad5"))
        await until(lambda: len([1 for what, _ in rows(shipping) if what == "bad"]) == 6)
    assert [n for what, n in rows(shipping) if what == "bad"] == list(range(6))


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (message("a", 1, id="m1", type="test.relay.unheard-of.v7", topic="test.relay.placed.v1"), "unheard-of.v7"),
        (message("a", 1, id="m1", body=b'{"order": 5}'), "does not fit"),
        (message("a", 1, id="m1", body=b"\xff\xfe"), "does not fit"),
        (message("a", 1, id="m1", body=b'{"order": "\\u0000", "n": "x"}'), "does not fit"),
        (Outgoing("test.relay.placed.v1", "a", "m1", "text/plain", {"x": "y"}, b"hello"), "no CloudEvent"),
    ],
)
async def test_what_cannot_be_read_is_parked_with_its_reason(
    place: Place, broker: str, sent: Outgoing, reason: str
) -> None:
    shipping = place("shipping")
    seen: list[int] = []

    @shipping.receive(Placed, source=broker)
    def ship(event: Placed) -> None:
        seen.append(event.n)

    shipping.migrate()
    async with shipping.running():
        await publish(broker, sent, message("other", 2, id="m2"))
        await until(lambda: seen == [2])
        await until(lambda: bool(shipping.operations.dead_letters()))
        (letter,) = shipping.operations.dead_letters()
        assert reason in letter.reason
    (kept,) = shipping.read(types=["inbox of ship"])
    whole = json.loads(kept.data)
    assert (
        whole.get("message", {}).get("id") == sent.id
        or base64.b64decode(whole["malformed"]["body_base64"]) == sent.body
    )
    assert kept.unknown_fields == frozenset()
    assert kept.event is not None


@pytest.mark.parametrize("odd", ["nul \0", "x" * 5000])
async def test_what_no_database_can_hold_beside_an_event_blocks_nothing(place: Place, broker: str, odd: str) -> None:
    """Id, source, key and correlation id of others may be any text; such a message is handled once all the same."""
    shipping = place("shipping")
    seen: list[int] = []

    @shipping.receive(Placed, source=broker)
    def ship(event: Placed) -> None:
        seen.append(event.n)

    shipping.inbox(broker, Placed)
    shipping.migrate()
    about = {"specversion": "1.0", "id": odd, "source": odd, "type": Placed.__type__, "partitionkey": odd}
    body = json.dumps(about | {"correlationid": odd, "data": {"order": "a", "n": 1}}).encode()
    sent = [
        Outgoing(Placed.__type__, "a", f"m{n}", "", {"content-type": "application/cloudevents+json"}, body)
        for n in range(2)
    ]
    async with shipping.running():
        await publish(broker, *sent, message("b", 2, id="m2"))
        await until(lambda: seen == [1, 2])
        await until(lambda: [each.event.n for each in shipping.read(types=[Placed])] == [1, 2])


async def test_what_a_person_has_mended_is_handled(place: Place, broker: str) -> None:
    shipping = place("shipping")
    seen: list[int] = []

    @shipping.receive(Placed, source=broker)
    def ship(event: Placed) -> None:
        seen.append(event.n)

    shipping.migrate()
    async with shipping.running():
        await publish(broker, message("a", 1, id="m1", body=b'{"order": "a", "n": "one"}'))
        await until(lambda: bool(shipping.operations.dead_letters()))
        (letter,) = shipping.operations.dead_letters()
        (kept,) = shipping.read(types=["inbox of ship"])
        mended = kept.data.replace('"one"', "1")
        await asyncio.to_thread(
            shipping.operations.edit, "ship", letter.id, mended, actor="anna", reason="the number was a word"
        )
        await until(lambda: seen == [1])


async def test_a_message_is_not_lost_when_the_transaction_cannot_commit(
    tmp_path: Path, broker: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The database refuses for a while: nothing is acknowledged, and everything comes again."""
    shipping = App("shipping", f"sqlite:///{tmp_path / 'shipping.db'}")
    seen: list[int] = []
    shipping.inbox(broker, Placed)
    shipping.migrate()
    async with shipping.running():
        with closing(sqlite3.connect(tmp_path / "shipping.db", isolation_level=None)) as connection:
            connection.execute("drop table ensue_inbox")
            await publish(broker, message("a", 1, id="m1"))
            await until(lambda: "no such table" in caplog.text)
            script = (Path("src/ensue/log/sqlite/migrations") / "0004_inbox.sql").read_text()
            connection.execute(script.partition("-- next")[0])
        await until(lambda: len(list(shipping.read(types=[Placed]))) == 1)
    assert not seen


# ------------------------------------------------------------------------------------------------------- refusals


def test_only_integration_events_leave_the_service(place: Place, broker: str) -> None:
    app = place("orders")
    for event in (Inside, State):
        with pytest.raises(DeclarationError, match="only integration events leave the service"):
            app.relay(broker, event)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("carrier-pigeon://host", "no broker has the scheme"),
        ("nats", "is not the URL of a broker"),
        ("memory://name?timeout=never", "timeout='never'"),
        ("memory://name?colour=red", "unknown option colour"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(place: Place, url: str, reason: str) -> None:
    with pytest.raises(DeclarationError, match=reason):
        place("orders").relay(url, Placed)


def test_a_password_is_never_shown(place: Place) -> None:
    with pytest.raises(DeclarationError) as raised:
        place("orders").relay("carrier-pigeon://anna:secret@host", Placed)
    assert "secret" not in str(raised.value)
