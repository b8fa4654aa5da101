"""Looking back: what caused what, across services too; what was at a moment; what lies between two versions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ensue import Aggregate, App, Decider, DomainEvent, IntegrationEvent, Park, SourcedEvent, context, evolves
from ensue.brokers.memory import _all
from ensue.errors import AggregateNotFound, EnsueError, UnknownName
from ensue.history import Trace
from tests.patience import until
from tests.shop import Shop, open_shop

Place = Callable[[str], App]


class Ordered(SourcedEvent, name="test.history.ordered"):
    what: str


class Paid(SourcedEvent, name="test.history.paid"):
    amount: int


class Asked(DomainEvent, name="test.history.asked"):
    text: str


class Answered(DomainEvent, name="test.history.answered"):
    text: str


class Published(IntegrationEvent, version=1, key="order", name="test.history.published"):
    order: str


class Shipped(DomainEvent, name="test.history.shipped"):
    order: str


class Order(Aggregate, name="test_history_order"):
    what: str = ""
    paid: int = 0

    def place(self, what: str) -> None:
        self.apply(Ordered(what=what))

    def pay(self, amount: int) -> None:
        self.apply(Paid(amount=amount))

    @evolves
    def _ordered(self, event: Ordered) -> None:
        self.what = event.what

    @evolves
    def _paid(self, event: Paid) -> None:
        self.paid += event.amount


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path, schema: str) -> Place:
    """Return what makes an application with a log of its own."""

    def make(name: str) -> App:
        if request.param == "sqlite":
            return App(name, f"sqlite:///{tmp_path / name}.db", migrate=True)
        return App(name, request.getfixturevalue("postgres_url"), schema=f"{schema}_{name}", migrate=True)

    return make


@pytest.fixture
def app(place: Place) -> App:
    made = place("asking")
    made.migrate()
    return made


@pytest.fixture
def broker(schema: str) -> Iterator[str]:
    yield f"memory://{schema.replace('_', '-')}"
    _all.clear()


def record(app: App, *events: Any, **options: Any) -> list[str]:
    with app.transaction() as connection:
        return [*app.record(*events, via=connection, **options).id_texts]


def because_of(app: App, cause: str, *events: Any, correlation_id: str | None = None) -> list[str]:
    with context(causation_id=cause, correlation_id=correlation_id):
        return record(app, *events)


def shape(trace: Trace) -> list[tuple[int, str | None, str | None]]:
    return [(each.depth, each.service, each.type) for each in trace.events]


# --- what caused what


async def test_a_trace_goes_through_handlers_translations_brokers_and_receivers(place: Place, broker: str) -> None:
    orders, shipping = place("orders"), place("shipping")
    repository = orders.repository(Order)
    orders.relay(broker, Published)

    @orders.on(Ordered)
    async def ask(event: Ordered) -> None:
        async with orders.transaction() as connection:
            await orders.record(Asked(text=event.what), via=connection)

    @orders.on(Asked)
    def answer(event: Asked) -> None:
        record(orders, Answered(text=event.text))

    @orders.translate(Answered)
    def tell(event: Answered) -> Published:
        return Published(order=event.text)

    @shipping.receive(Published, source=broker)
    def ship(event: Published, connection: Any) -> None:
        if event.order == "bad":
            raise ValueError(event.order)
        shipping.record(Shipped(order=event.order), via=connection)

    @shipping.on(Shipped)
    def pack(event: Shipped) -> Park | None:
        return Park("no box") if event.order == "huge" else None

    async with orders.running(lease=1.0), shipping.running(lease=1.0):
        with context(actor="anna"):
            async with repository.edit("7", create=True) as order:
                order.place("huge")
        await until(shipping.operations.dead_letters)
        (first,) = [each async for each in orders.read(types=[Ordered])]
        await until(lambda: orders.history.trace(first.id_text).events[-1].published_by)

    expected = [
        (0, "orders", "test.history.ordered"),
        (1, "orders", "test.history.asked"),
        (2, "orders", "test.history.answered"),
        (3, "orders", "test.history.published.v1"),
        (4, "shipping", "test.history.shipped"),
    ]
    (last,) = shipping.read()
    whole = orders.history.trace(first.id_text, also=[shipping])
    assert shape(whole) == expected
    assert (whole.complete, whole.beside) == (True, 0)
    assert whole == await orders.history.trace_async(first.id_text, also=[shipping])
    assert whole.events == shipping.history.trace(last.id_text, also=[orders]).events
    assert shape(orders.history.trace(first.id_text)) == expected[:4]

    root, published, shipped = whole.events[0], whole.events[3], whole.events[4]
    assert (root.actor, root.stream, root.version, root.seconds) == ("anna", "test_history_order-7", 1, 0.0)
    assert whole.event == whole.root == root
    assert published.published_by == ("relay",)
    assert shipped.received_from == "urn:ensue:orders"
    assert [each.id for each in whole.causes(shipped)] == [each.id for each in whole.events[:4]]
    assert whole.effects(published) == [shipped]
    assert [(each.subscription, each.state) for each in shipped.subscriptions] == [("pack", "parked")]
    seconds = [each.seconds or 0.0 for each in whole.events]
    assert seconds == sorted(seconds)

    alone = shipping.history.trace(last.id_text)
    assert shape(alone) == [(0, None, None), (1, "shipping", "test.history.shipped")]
    assert alone.root.id == published.id


async def test_what_came_of_a_message_that_failed_first_is_traced_too(place: Place, broker: str) -> None:
    orders, shipping = place("orders"), place("shipping")
    orders.relay(broker, Published)
    failures = ["together with others", "alone"]

    @shipping.receive(Published, source=broker)
    def ship(event: Published, connection: Any) -> None:
        shipping.record(Shipped(order=event.order), via=connection)
        if failures:
            raise ValueError(failures.pop())

    async with orders.running(lease=1.0), shipping.running(lease=1.0):
        (id,) = record(orders, Published(order="o-1"))
        await until(lambda: list(shipping.read(types=[Shipped])))
    assert shape(orders.history.trace(id, also=[shipping])) == [
        (0, "orders", "test.history.published.v1"),
        (1, "shipping", "inbox of ship"),
        (1, "shipping", "test.history.shipped"),
    ]


def test_branches_are_told_apart(app: App) -> None:
    one, other = record(app, Asked(text="one"), Asked(text="other"))
    child, second = because_of(app, one, Answered(text="a"), Answered(text="b"), correlation_id=one)
    (grandchild,) = because_of(app, child, Asked(text="aa"), correlation_id=one)
    (stranger,) = record(app, Asked(text="same request"))
    with context(correlation_id=one):
        record(app, Asked(text="beside"))
    found = app.history.trace(child)
    assert [(each.depth, each.id) for each in found.events] == [
        (0, one),
        (1, child),
        (2, grandchild),
        (1, second),
    ]
    assert found.id == found.event.id == child
    assert (found.correlation_id, found.beside) == (one, 1)
    assert [each.id for each in app.history.trace(other).events] == [other]
    assert [each.id for each in app.history.trace(stranger.upper()).events] == [stranger]


def test_a_cause_of_another_correlation_id_is_found(app: App) -> None:
    (one,) = record(app, Asked(text="one"))
    sibling, between = because_of(app, one, Asked(text="sibling"), Asked(text="between"), correlation_id=one)
    (last,) = because_of(app, between, Asked(text="last"), correlation_id="of its own")
    found = app.history.trace(last)
    assert [(each.depth, each.id) for each in found.events] == [(0, one), (1, sibling), (1, between), (2, last)]


def test_a_cause_that_is_no_event_is_shown_by_its_name(app: App) -> None:
    one, other = because_of(app, "command 7", Asked(text="one"), Asked(text="other"), correlation_id="r")
    found = app.history.trace(other)
    assert [(each.depth, each.id) for each in found.events] == [(0, "command 7"), (1, one), (1, other)]
    assert (found.root.service, found.root.type, found.root.seconds) == (None, None, None)


def test_events_that_claim_to_cause_each_other_are_shown_once(app: App) -> None:
    (one,) = because_of(app, "0195f3a0-5c1e-7b1e-9d6c-2f1a4be0c001", Asked(text="one"), correlation_id="r")
    row = f"{app.log.place.schema}{'.' if app.log.place.url.startswith('postgresql') else '_'}events"
    (two,) = because_of(app, one, Asked(text="two"), correlation_id="r")
    with app.transaction() as connection:
        connection.execute(f"update {row} set causation_id = '{two}' where position = 1")
    assert [each.id for each in app.history.trace(one).events] == [two, one]


def test_a_long_chain_is_a_trace_and_a_huge_family_is_bounded(app: App) -> None:
    (root,) = chain = record(app, Asked(text="0"))
    for number in range(1, 60):
        chain += because_of(app, chain[-1], Asked(text=str(number)), correlation_id=root)
    whole = app.history.trace(chain[30])
    assert [each.id for each in whole.events] == chain
    assert [each.depth for each in whole.events] == list(range(60))
    assert whole.complete

    part = app.history.trace(chain[30], limit=10)
    assert not part.complete
    assert part.event.id == chain[30]
    assert {chain[30 + number] for number in range(11)} <= {each.id for each in part.events}, "what it caused"
    assert len(part.events) <= 31
    assert len(msgspec.json.encode(part)) > 0


def test_an_unknown_event(app: App, place: Place) -> None:
    record(app, Asked(text="one"))
    for id in ("0195f3a0-5c1e-7b1e-9d6c-2f1a4be0c001", "nonsense"):
        with pytest.raises(UnknownName, match=f"no event has the id '{id}', in the log of 'asking'"):
            app.history.trace(id)
    with pytest.raises(EnsueError, match="limit=0"):
        app.history.trace("nonsense", limit=0)


def test_metadata_that_ensue_has_not_written_does_not_keep_from_tracing(app: App) -> None:
    (id,) = record(app, Asked(text="one"))
    row = f"{app.log.place.schema}{'.' if app.log.place.url.startswith('postgresql') else '_'}events"
    with app.transaction() as connection:
        connection.execute(f"update {row} set metadata = '{{\"actor\":7}}'")
    assert app.history.trace(id).root.actor is None


# --- when


def moments(app: App) -> list[datetime]:
    return [each.recorded_at for each in app.read()]


async def test_a_moment_is_a_position(app: App) -> None:
    before = datetime(2020, 1, 1, tzinfo=UTC)
    assert app.history.position_at(before) == app.history.position_at(before + timedelta(days=9999)) == 1
    for number in range(5):
        record(app, Asked(text=str(number)))
    at = moments(app)
    found = [app.history.position_at(each) for each in (before, *at)]
    assert found == [1, *[1 + at.index(each) for each in at]]
    assert app.history.position_at(at[-1] + timedelta(microseconds=1)) == 6
    assert await app.history.position_at_async(at[2]) == 3
    with pytest.raises(EnsueError, match="has no time zone"):
        app.history.position_at(at[0].replace(tzinfo=None))


def test_a_clock_that_went_backwards_hides_nothing(app: App) -> None:
    for number in range(4):
        record(app, Asked(text=str(number)))
    row = f"{app.log.place.schema}{'.' if app.log.place.url.startswith('postgresql') else '_'}events"
    with app.transaction() as connection:
        for position, hour in enumerate(("10", "14", "11", "13"), 1):
            connection.execute(
                f"update {row} set recorded_at = '2026-03-01T{hour}:00:00.000000Z' where position = {position}"
            )
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    position = app.history.position_at(noon)
    assert position == 2
    assert {each.position for each in app.read(since=noon)} <= {each.position for each in app.read(after=position - 1)}


def test_an_event_that_is_not_committed_yet_is_not_passed_over(postgres_url: str, schema: str) -> None:
    app = App("asking", postgres_url, schema=schema)
    app.migrate()
    began = datetime.now(UTC) - timedelta(hours=1)
    with app.transaction() as slow:
        app.record(Asked(text="slow"), via=slow)
        record(app, Asked(text="fast"))
        assert app.history.position_at(began) == 1
    assert app.history.position_at(began) == 1
    assert [each.event.text for each in app.read(after=0)] == ["slow", "fast"]


def test_a_position_stays_right_while_many_write(app: App) -> None:
    """Nothing that was recorded at a moment or later may ever lie before the position of that moment."""
    answers: list[tuple[datetime, int]] = []
    stop = threading.Event()

    def write(name: str) -> None:
        for number in range(40):
            with app.transaction() as connection:
                app.record(Asked(text=f"{name} {number}"), via=connection)
                app.record(Answered(text=f"{name} {number}"), via=connection)

    def ask() -> None:
        while not stop.is_set():
            latest = datetime.now(UTC)
            for ago in (0, 1, 5, 20):
                moment = latest - timedelta(milliseconds=ago)
                answers.append((moment, app.history.position_at(moment)))

    writers = [threading.Thread(target=write, args=(str(number),)) for number in range(4)]
    asker = threading.Thread(target=ask)
    for each in (asker, *writers):
        each.start()
    for each in writers:
        each.join()
    stop.set()
    asker.join()
    events = [(each.position, each.recorded_at) for each in app.read()]
    assert len(events) == 320
    assert answers
    for moment, position in answers:
        assert not [each for each in events if each[0] < position and each[1] >= moment]


# --- aggregates as they were


@pytest.fixture
def order(app: App) -> str:
    orders = app.repository(Order)
    with orders.edit("7", create=True) as order:
        order.place("tea")
    with context(actor="anna"), orders.edit("7") as order:
        order.pay(3)
        order.pay(4)
    return "test_history_order-7"


async def test_the_state_at_a_moment_and_at_a_version(app: App, order: str) -> None:
    at = moments(app)
    now = app.history.state(order)
    assert (now.version, now.position, now.state) == (3, 3, {"what": "tea", "paid": 7})
    assert app.history.state(order, at_version=2).state == {"what": "tea", "paid": 3}
    was = await app.history.state_async(order, as_of=at[0])
    assert (was.version, was.position, was.recorded_at, was.state) == (1, 1, at[0], {"what": "tea", "paid": 0})
    assert app.history.state(order, as_of=at[-1]) == now
    with pytest.raises(AggregateNotFound):
        app.history.state(order, as_of=at[0] - timedelta(seconds=1))
    with pytest.raises(UnknownName, match="not yet at 4"):
        app.history.state(order, at_version=4)
    with pytest.raises(UnknownName, match=r"stream of no declared aggregate.*test_history_order"):
        app.history.state("wallet-7")


async def test_the_difference_of_two_versions(app: App, order: str) -> None:
    found = app.history.diff(order, 1, 3)
    assert found.changed == {"paid": (0, 7)}
    assert [each.diff for each in found.events] == [{"paid": (0, 3)}, {"paid": (3, 7)}]
    assert [each.version for each in found.events] == [2, 3]
    whole = await app.history.diff_async(order, 0, 2)
    assert whole.changed == {"what": ("", "tea"), "paid": (0, 3)}
    with pytest.raises(UnknownName, match="not yet at version 4"):
        app.history.diff(order, 1, 4)
    with pytest.raises(EnsueError, match="name the earlier one first"):
        app.history.diff(order, 3, 1)
    with pytest.raises(AggregateNotFound):
        app.history.diff("test_history_order-8", 0, 1)


def test_a_decider_is_looked_at_alike(app: App) -> None:
    decider: Decider[int, Paid, dict[str, int]] = Decider(
        name="test_history_till",
        initial=dict[str, int](sum=0),
        decide=lambda command, state: [Paid(amount=command)],
        evolve=lambda state, event: {"sum": state["sum"] + event.amount},
    )
    till = app.repository(decider)
    till.handle("1", 5)
    till.handle("1", 6)
    assert app.history.state("test_history_till-1", at_version=1).state == {"sum": 5}
    assert app.history.diff("test_history_till-1", 0, 2).changed == {"sum": (0, 11)}


# --- on the command line

MODULE = """
from ensue import Aggregate, App, DomainEvent, Park, SourcedEvent, evolves

app = App("shop", {url!r}, schema={schema!r})
other = App("other", {url!r}, schema={schema!r} + "_o")


class Put(SourcedEvent, name="cart.put"):
    what: str
    lines: list[int] = []


class Noted(DomainEvent, name="cart.noted"):
    text: str


class Cart(Aggregate):
    what: str = ""
    lines: list[int] = []

    @evolves
    def _put(self, event: Put) -> None:
        self.what, self.lines = event.what, event.lines


carts = app.repository(Cart)


@app.on(Put, start="beginning")
def note(event):
    with app.transaction() as connection:
        app.record(Noted(text=event.what), via=connection)


@app.on(Noted, start="beginning")
def refuse(event):
    return Park("no")
"""


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
    for made in open_shop(tmp_path, url, schema, monkeypatch, capsys):
        made.write(MODULE.format(url=url, schema=schema))
        made.good("migrate")
        module = made.module
        for what in ("tea", "milk"):
            with context(actor="anna", correlation_id="visit"), module.carts.edit("7", create=True) as cart:
                cart.apply(module.Put(what=what, lines=[len(what)]))
        made.work_off(dead=2)
        yield made


def test_trace_draws_the_tree(shop: Shop) -> None:
    done = shop.good("trace", "1")
    lines = done.out.splitlines()
    assert lines[0].startswith("cart.put  1  Cart-7, version 1  +0 ms  <- asked about")
    assert "│   note passed" in lines[1] or "note passed" in lines[1]
    assert any(line.startswith("└── cart.noted  ") for line in lines)
    assert any("refuse parked" in line for line in lines)
    assert "2 events in " in done.out
    assert "2 more events of the same request, of another cause: ensue tail --no-follow --correlation visit" in done.out
    found = shop.good("trace", "1", "--json").json
    assert [each["depth"] for each in found["events"]] == [0, 1]
    assert found["events"][1]["cause"] == found["events"][0]["id"] == found["id"]
    assert shop.good("trace", found["id"], "--json").json == found
    assert "shop 1" in shop.good("trace", found["id"], "--also", "shop:app").out
    unknown = shop("trace", "0195f3a0-5c1e-7b1e-9d6c-2f1a4be0c001")
    assert unknown.code == 1
    assert "no event has the id" in unknown.err
    assert "has no event 77" in shop("trace", "77").err
    assert "--limit looks at more" in shop.good("trace", "1", "--limit", "1").err


def test_show_an_aggregate_as_it_was(shop: Shop) -> None:
    first, second = [each.recorded_at for each in shop.app.read(stream="Cart-7")]
    assert second > first
    now = shop.good("show", "Cart-7").out
    assert "version      2\n" in now
    assert '"what": "milk"' in now
    was = shop.good("show", "Cart-7", "--as-of", first.isoformat(), "--json").json
    assert (was["version"], was["state"]) == (1, {"what": "tea", "lines": [3]})
    assert shop.good("show", "Cart-7", "--at-version", "1", "--json").json == was
    assert (
        "stream 'Cart-7' had no events at 2020-01-01 00:00:00Z" in shop("show", "Cart-7", "--as-of", "2020-01-01").err
    )
    assert "of no declared aggregate" in shop("show", "4711", "--as-of", "1h").err
    assert "nor the stream of an aggregate" in shop("show", "trolley-7").err


def test_diff_shows_fields_and_events(shop: Shop) -> None:
    done = shop.good("diff", "Cart-7", "1", "2").out
    assert "what   tea        milk" in done
    assert "lines  [3]        [4]" in done
    assert '  cart.put  anna  {"what":"milk","lines":[4]}' in done
    found = shop.good("diff", "Cart-7", "0", "2", "--json").json
    assert found["changed"]["what"] == {"before": "", "after": "milk"}
    assert [each["version"] for each in found["events"]] == [1, 2]
    assert found["events"][1]["changed"]["lines"] == {"before": [3], "after": [4]}
    assert "not yet at version 9" in shop("diff", "Cart-7", "1", "9").err
