"""Events: what may be one, what it is called, how it is written down and read back."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import threading
import warnings
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar
from uuid import RFC_4122, UUID, uuid4

import msgspec
import psycopg
import pydantic
import pytest

from ensue import App, DomainEvent, IntegrationEvent, Metadata, Park, SourcedEvent, context
from ensue.errors import EventDefinitionError, EventError, EventValueError, UndecodableEvent, UnknownName
from ensue.events import current_metadata, event_class, ids, known_types, write
from ensue.events.ids import new_id
from tests.naming import named
from tests.patience import until

AWARE = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=timezone(timedelta(hours=5, minutes=45)))
NAIVE = datetime(2026, 3, 1, 12, 30)  # noqa: DTZ001
T = TypeVar("T")


class Colour(Enum):
    RED = "r"


class Level(IntEnum):
    HIGH = 2


@dataclass
class Address:
    city: str
    since: datetime | None = None
    lines: list[str] = field(default_factory=list)


class Item(msgspec.Struct, frozen=True):
    sku: UUID
    price: Decimal
    parts: tuple[Item, ...] = ()
    made: datetime | None = None


class Card(msgspec.Struct, tag=True):
    number: str


class Cash(msgspec.Struct, tag=True):
    amount: Decimal


class Profile(pydantic.BaseModel):
    born: date
    seen: datetime | None = None
    ratio: float | None = None


def _event(annotation: Any, base: Any = DomainEvent, **keywords: Any) -> Any:
    """Define an event with one field `f`."""
    namespace = {"__annotations__": {"f": annotation}, "__module__": __name__, "__qualname__": "Made"}
    return type(base)("Made", (base,), namespace, **keywords)


def _written(event: Any, stream: str | None = None) -> tuple[str, Any]:
    """Return the event as it is stored, and as it is read back."""
    (written,) = write((event,), stream=stream)
    data = bytes(written.data).decode()
    return data, event_class(written.type).__structure__.decode(data)


# ----------------------------------------------------------------------------------------------- kinds and names


def test_the_wire_type_is_the_name_and_the_version() -> None:
    class Happened(DomainEvent):
        pass

    class Withdrawn(SourcedEvent):
        pass

    class Announced(IntegrationEvent, version=3):
        pass

    class Shipped(IntegrationEvent, version=2, name="test.shop.shipped"):
        pass

    assert [each.__type__ for each in (Happened, Withdrawn, Announced, Shipped)] == [
        "Happened",
        "Withdrawn",
        "Announced.v3",
        "test.shop.shipped.v2",
    ]
    assert [each.__kind__ for each in (Happened, Withdrawn, Announced)] == ["domain", "sourced", "integration"]
    for each in (Happened, Withdrawn, Announced, Shipped):
        assert event_class(each.__type__) is each
        assert each.__type__ in known_types()
    with pytest.raises(UnknownName, match=r"test\.nowhere"):
        event_class("test.nowhere")


def test_an_event_is_immutable_and_its_fields_are_named() -> None:
    event: Any = _event(int)(f=1)
    with pytest.raises(AttributeError):
        event.f = 2
    with pytest.raises(TypeError):
        type(event)(1)
    assert event == type(event)(f=1)
    assert hash(event) == hash(type(event)(f=1))


def test_events_can_share_fields_by_inheritance() -> None:
    class Placed(DomainEvent, name="test.events.placed", key="order"):
        order: int

    class PlacedByPhone(Placed, name="test.events.placed-by-phone"):
        number: str

    assert PlacedByPhone.__type__ == "test.events.placed-by-phone"
    assert _written(PlacedByPhone(order=1, number="2"))[0] == '{"order":1,"number":"2"}'
    assert _written(Placed(order=1))[0] == '{"order":1}'


@pytest.mark.parametrize(
    ("keywords", "complaint"),
    [
        ({"frozen": False}, "frozen=False"),
        ({"kw_only": False}, "kw_only=False"),
        ({"tag": True}, "tag would change"),
        ({"array_like": True}, "array_like would change"),
        ({"bogus": True}, "bogus"),
        ({"version": 1}, "only integration events have a version"),
        ({"name": ""}, "not a usable wire name"),
        ({"name": " spaces "}, "not a usable wire name"),
        ({"name": "a\nb"}, "not a usable wire name"),
        ({"name": 7}, "not a usable wire name"),
        ({"key": "g"}, r"key='g' is not one of its fields \(f\)"),
        ({"base": SourcedEvent, "key": "f"}, "is its stream"),
        ({"base": IntegrationEvent}, "needs version=1"),
        ({"base": IntegrationEvent, "version": 0}, "needs version=1"),
        ({"base": IntegrationEvent, "version": True}, "needs version=1"),
        ({"base": IntegrationEvent, "version": "1"}, "needs version=1"),
    ],
    ids=str,
)
def test_what_cannot_be_an_event_is_said_when_it_is_defined(keywords: dict[str, Any], complaint: str) -> None:
    with pytest.raises(EventDefinitionError, match=complaint) as caught:
        _event(int, **keywords)
    assert "event Made" in str(caught.value)


def test_two_classes_with_one_wire_name_are_refused() -> None:
    class First(DomainEvent, name="test.events.one-name"):
        pass

    with pytest.raises(
        EventDefinitionError, match=r"Second: the wire name 'test\.events\.one-name' belongs to .*First"
    ):

        class Second(DomainEvent, name="test.events.one-name"):
            pass

    class Versioned(IntegrationEvent, version=1, name="test.events.versioned"):
        pass

    class Next(IntegrationEvent, version=2, name="test.events.versioned"):
        pass

    with pytest.raises(EventDefinitionError, match="Sly"):

        class Sly(DomainEvent, name="test.events.versioned.v1"):
            pass

    assert event_class("test.events.one-name") is First
    assert event_class("test.events.versioned.v1") is Versioned


def test_a_class_may_be_defined_again_where_it_was() -> None:
    def define() -> type[DomainEvent]:
        class Again(DomainEvent, name="test.events.again"):
            pass

        return Again

    define()
    latest = define()
    assert event_class("test.events.again") is latest


# ------------------------------------------------------------------------------------------------------- contents


@pytest.mark.parametrize(
    ("annotation", "value", "stored"),
    [
        (UUID, UUID(int=7), '"00000000-0000-0000-0000-000000000007"'),
        (Decimal, Decimal("1.10"), '"1.10"'),
        (datetime, AWARE, '"2026-03-01T12:30:15.123456+05:45"'),
        (datetime, AWARE.astimezone(UTC), '"2026-03-01T06:45:15.123456Z"'),
        (date, AWARE.date(), '"2026-03-01"'),
        (timedelta, timedelta(seconds=90.5), '"PT90.5S"'),
        (Colour, Colour.RED, '"r"'),
        (Level, Level.HIGH, "2"),
        (Literal["a", "b"], "b", '"b"'),
        (bytes, b"\0\xff", '"AP8="'),
        (int, 10**30, "1" + "0" * 30),
        (float, 0.1, "0.1"),
        (list[int], [1, 2], "[1,2]"),
        (tuple[int, str], (1, "a"), '[1,"a"]'),
        (frozenset[str], frozenset({"a"}), '["a"]'),
        (dict[str, Decimal], {"a": Decimal(1)}, '{"a":"1"}'),
        (dict[UUID, int], {UUID(int=7): 1}, '{"00000000-0000-0000-0000-000000000007":1}'),
        (int | str | None, "text", '"text"'),
        (int | str | None, None, "null"),
        (Card | Cash, Cash(Decimal("2.50")), '{"type":"Cash","amount":"2.50"}'),
        (
            Address,
            Address("Bern", AWARE, ["a"]),
            '{"city":"Bern","since":"2026-03-01T12:30:15.123456+05:45","lines":["a"]}',
        ),
        (
            Item,
            Item(UUID(int=1), Decimal(3), (Item(UUID(int=2), Decimal(1)),)),
            (
                '{"sku":"00000000-0000-0000-0000-000000000001","price":"3","parts":[{"sku":'
                '"00000000-0000-0000-0000-000000000002","price":"1","parts":[],"made":null}],"made":null}'
            ),
        ),
        (Profile, Profile(born=date(1815, 12, 10), seen=AWARE), None),
        (list[Profile], [Profile(born=date(1815, 12, 10))], None),
        (Profile | None, Profile(born=date(1815, 12, 10), ratio=0.5), None),
        (Any, {"a": [1, None, "x"]}, '{"a":[1,null,"x"]}'),
        (str, 'é 漢 🐘 \\u0000 " \n', '"é 漢 🐘 \\\\u0000 \\" \\n"'),
    ],
    ids=str,
)
def test_an_event_is_read_back_as_it_was_recorded(annotation: Any, value: Any, stored: str | None) -> None:
    event = _event(annotation)(f=value)
    data, back = _written(event)
    assert back == event
    assert type(back.f) is type(value)
    if stored is not None:
        assert data == f'{{"f":{stored}}}'


class Weird:
    pass


class Hidden(msgspec.Struct):
    weird: Weird | None = None


@pytest.mark.parametrize(
    "annotation",
    [
        Weird,
        list[Weird],
        dict[str, Weird | None],
        Hidden,
        complex,
        type,
        Card | dict[str, int],
        str | datetime,
        Profile | Card,
    ],
    ids=str,
)
def test_a_field_that_cannot_be_stored_is_named_when_the_class_is_defined(annotation: Any) -> None:
    with pytest.raises(EventDefinitionError, match="event Made, field 'f': "):
        _event(annotation)


@pytest.mark.parametrize(
    ("annotation", "value", "complaint"),
    [
        (int, "1", r"Made does not fit its own annotations: .* at `\$\.f`"),
        (list[int], [1, "2"], r"at `\$\.f\[1\]`"),
        (UUID, "no id", r"Invalid UUID - at `\$\.f`"),
        (Colour, "blue", r"at `\$\.f`"),
        (Any, Weird(), r"Made\.f cannot be encoded: .*Weird"),
        (str, "\ud800", r"Made\.f cannot be encoded"),
        (str, "a\0b", "Made holds a NUL character"),
        (str, "\\\0", "Made holds a NUL character"),
        (dict[str, int], {"\0": 1}, "Made holds a NUL character"),
        (float, float("nan"), r"Made\.f is nan"),
        (float | None, float("nan"), r"Made\.f is nan"),
        (dict[str, float | None], {"a": float("-inf")}, r"Made\.f\['a'\] is -inf"),
        (Any, [1.5, float("inf")], r"Made\.f\[1\] is inf"),
        (Profile, Profile(born=date(1815, 12, 10), ratio=float("nan")), r"Made\.f\.ratio is nan"),
        (datetime, NAIVE, r"Made\.f is datetime\.datetime\(2026, .* no time zone"),
        (datetime | None, NAIVE, r"Made\.f is .* no time zone"),
        (list[datetime], [AWARE, NAIVE], r"Made\.f\[1\] is .* no time zone"),
        (dict[str, datetime], {"a": NAIVE}, r"Made\.f\['a'\] is .* no time zone"),
        (dict[datetime, int], {NAIVE: 1}, r"Made\.f\[.* no time zone"),
        (Address, Address("Bern", NAIVE), r"Made\.f\.since is .* no time zone"),
        (Item, Item(UUID(int=1), Decimal(3), (Item(UUID(int=2), Decimal(1), made=NAIVE),)), r"f\.parts\[0\]\.made is"),
        (Profile, Profile(born=date(1815, 12, 10), seen=NAIVE), r"Made\.f\.seen is .* no time zone"),
        (list[Profile], [Profile(born=date(1815, 12, 10), seen=NAIVE)], r"Made\.f\[0\]\.seen is .* no time zone"),
        (Any, {"a": [NAIVE]}, r"Made\.f\['a'\]\[0\] is .* no time zone"),
    ],
    ids=named,
)
def test_a_value_that_cannot_be_stored_is_named_when_it_is_recorded(
    annotation: Any, value: Any, complaint: str
) -> None:
    with pytest.raises(EventValueError, match=complaint):
        _written(_event(annotation)(f=value))


def test_a_value_that_holds_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(EventValueError, match=r"Made\.f cannot be encoded"):
        _written(_event(Any)(f=endless))


@pytest.mark.parametrize("thing", ["text", 7, None, object(), msgspec.Struct(), DomainEvent, DomainEvent()], ids=named)
def test_what_is_no_event_is_refused(thing: Any) -> None:
    with pytest.raises(EventValueError, match="is not an event"):
        write((thing,), stream=None)


def test_a_sourced_event_belongs_to_a_stream() -> None:
    class Stored(SourcedEvent, name="test.events.stored"):
        n: int

    with pytest.raises(EventValueError, match=r"Stored .* stream='…'"):
        write((Stored(n=1),), stream=None)
    assert _written(Stored(n=1), stream="s")[0] == '{"n":1}'


def test_the_key_is_the_value_of_its_field_as_text() -> None:
    for value, key in (("a", "a"), (UUID(int=7), str(UUID(int=7))), (Colour.RED, "r"), (Level.HIGH, "2"), (0, "0")):
        (written,) = write((_event(Any, key="f")(f=value),), stream=None)
        assert written.key == key
    for empty in ("", None):
        with pytest.raises(EventValueError, match=r"Made\.f is .* is empty"):
            write((_event(Any, key="f")(f=empty),), stream=None)
    with pytest.raises(EventValueError, match="NUL"):
        write((_event(str, key="f")(f="a\0b"),), stream=None)


# ------------------------------------------------------------------------------------- types defined further down


class Tree(DomainEvent, name="test.events.tree"):
    root: Node


class Lost(DomainEvent, name="test.events.lost"):
    f: Nowhere  # type: ignore[name-defined]  # noqa: F821


class Early(DomainEvent, name="test.events.early"):
    f: Late


class Node(msgspec.Struct, frozen=True):
    at: datetime
    children: tuple[Node, ...] = ()


class Late:
    """Nothing that can be stored."""


def test_a_type_may_be_defined_below_the_event() -> None:
    tree = Tree(root=Node(AWARE, (Node(AWARE),)))
    assert _written(tree)[1] == tree
    with pytest.raises(EventValueError, match=r"Tree\.root\.children\[0\]\.at is .* no time zone"):
        _written(Tree(root=Node(AWARE, (Node(NAIVE),))))


def test_a_type_that_is_nowhere_is_named_when_it_is_needed() -> None:
    with pytest.raises(EventDefinitionError, match="event Lost: name 'Nowhere' is not defined"):
        _written(Lost(f=1))
    with pytest.raises(EventDefinitionError, match="event Early, field 'f': Late cannot be encoded"):
        _written(Early(f=Late()))


class Boxed(DomainEvent, Generic[T], name="test.events.boxed"):
    content: T


def test_an_event_may_be_generic() -> None:
    assert _written(Boxed(content=[1]))[1] == Boxed(content=[1])


# ------------------------------------------------------------------------------------------------------- metadata


HALF = "half \ud800"
LONG = "ä" * 401


@pytest.mark.parametrize("url", ["sqlite", "postgresql"])
@pytest.mark.parametrize(
    ("what", "complaint"),
    [
        (
            {"key": LONG},
            r"Made\.f, the key that keeps the order, has 401 characters, 'ä+' and so on: it may have 400",
        ),
        ({"key": HALF}, r"Made\.f cannot be encoded"),
        ({"stream": LONG}, r"stream=… has 401 characters"),
        ({"stream": HALF}, r"stream=… holds '\\ud800', half a character"),
        ({"stream": "a\0b"}, r"stream=… holds a NUL character"),
        ({"stream": ""}, r"stream='': it must be text that is not empty"),
        ({"stream": 7}, r"stream=… is 7: it must be text"),
        ({"dedupe": LONG}, r"dedupe=… has 401 characters"),
        ({"dedupe": HALF}, r"dedupe=… holds '\\ud800'"),
        ({"correlation_id": LONG}, r"metadata correlation_id has 401 characters"),
        ({"correlation_id": HALF}, r"metadata correlation_id holds"),
        ({"causation_id": LONG}, r"metadata causation_id has 401 characters"),
        ({"actor": HALF}, r"metadata actor holds '\\ud800'"),
        ({"headers": {"a": HALF}}, r"metadata header 'a' holds"),
    ],
    ids=named,
)
def test_texts_that_cannot_be_stored_or_found_again_are_refused(
    request: pytest.FixtureRequest, url: str, what: dict[str, Any], complaint: str, tmp_path: Path, schema: str
) -> None:
    place = f"sqlite:///{tmp_path / 'log.db'}" if url == "sqlite" else request.getfixturevalue("postgres_url")
    app = App("events", place, schema=schema, migrate=True)
    arguments = {name: what[name] for name in ("stream", "dedupe") if name in what}
    about = {name: what[name] for name in what if name not in ("key", *arguments)}
    with pytest.raises(EventValueError, match=complaint), app.transaction() as connection, context(**about):
        app.record(_event(str, key="f")(f=what.get("key", "k")), via=connection, **arguments)


@pytest.mark.parametrize("url", ["sqlite", "postgresql"])
async def test_the_longest_texts_are_stored_found_again_and_parked(
    request: pytest.FixtureRequest, url: str, tmp_path: Path, schema: str
) -> None:
    """Of four bytes each, and none like the other: indexes can press nothing together."""
    place = f"sqlite:///{tmp_path / 'log.db'}" if url == "sqlite" else request.getfixturevalue("postgres_url")
    app = App("events", place, schema=schema, migrate=True)
    plane = [chr(code) for code in range(0x20000, 0x2A000)]
    key, stream, dedupe, id, name = ("".join(random.Random(n).sample(plane, 400)) for n in range(5))
    made = _event(str, key="f")

    @app.on(made, start="beginning", name=name[:200])
    async def handle(event: DomainEvent) -> Park:
        return Park("no")

    app.migrate()
    with app.transaction() as connection, context(correlation_id=id):
        app.record(made(f=key), via=connection, stream=stream, dedupe=dedupe)
    for found in (app.read(key=key), app.read(stream=stream), app.read(correlation_id=id)):
        assert [each.own_key for each in found] == [key]
    async with app.running():
        await until(lambda: app.operations.dead_letters())


def test_a_context_must_be_text() -> None:
    wrong: Any
    for wrong in ({"actor": 7}, {"correlation_id": uuid4()}, {"headers": {"a": 1}}, {"headers": {1: "a"}}):
        with pytest.raises(EventValueError, match="must be text"), context(**wrong):
            pass
    for wrong in ({"causation_id": "\0"}, {"headers": {"a": "\0"}}, {"headers": {"\0": "a"}}, {"traceparent": "a\0"}):
        with pytest.raises(EventValueError, match="NUL"), context(**wrong):
            pass
    assert current_metadata() == Metadata()


def test_a_context_ends_with_its_block() -> None:
    with pytest.raises(LookupError), context(actor="outer", headers={"a": "1"}) as outer:
        assert current_metadata() == outer == Metadata(actor="outer", headers={"a": "1"})
        with context(correlation_id="inner", headers={"b": "2"}) as inner:
            assert inner == Metadata(actor="outer", correlation_id="inner", headers={"a": "1", "b": "2"})
        assert current_metadata() is outer
        raise LookupError
    assert current_metadata() == Metadata()


async def test_tasks_inherit_a_context_and_do_not_disturb_each_other() -> None:
    seen: dict[str, Metadata] = {}
    both_inside = asyncio.Barrier(2)

    async def work(name: str) -> None:
        with context(correlation_id=name):
            await both_inside.wait()
            seen[name] = current_metadata()

    with context(actor="all"):
        await asyncio.gather(work("a"), work("b"))
    assert seen == {name: Metadata(actor="all", correlation_id=name) for name in "ab"}


# ------------------------------------------------------------------------------------------------------------ ids


def test_ids_are_version_7_and_grow_in_one_process() -> None:
    before = datetime.now(UTC)
    made = [new_id() for _ in range(20_000)]
    after = datetime.now(UTC)
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    for each in (made[0], made[-1]):
        found = UUID(each)
        assert (str(found), found.version, found.variant) == (each, 7, RFC_4122)
        moment = datetime.fromtimestamp((found.int >> 80) / 1000, UTC)
        assert before - timedelta(milliseconds=1) <= moment <= after + timedelta(seconds=1)


def test_ids_grow_though_the_clock_stands_still_or_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        now = 4_102_444_800_000_000_000  # the year 2100, so that no real clock is ahead

        def time_ns(self) -> int:
            return self.now

    clock = Clock()
    monkeypatch.setattr(ids, "time", clock)
    monkeypatch.setattr(ids, "_last", 0)
    made = [ids.new_id() for _ in range(5_000)]
    clock.now -= 60_000_000_000
    made += [ids.new_id() for _ in range(10)]
    clock.now += 120_000_000_000
    made.append(ids.new_id())
    assert made == sorted(set(made))
    assert {(UUID(each).version, UUID(each).variant) for each in made} == {(7, RFC_4122)}
    assert UUID(made[-1]).int >> 80 == clock.now // 1_000_000


def test_ids_of_many_threads_do_not_collide() -> None:
    made: list[list[str]] = [[] for _ in range(8)]
    start = threading.Barrier(8)

    def make(into: list[str]) -> None:
        start.wait()
        into.extend(new_id() for _ in range(2_000))

    threads = [threading.Thread(target=make, args=(into,)) for into in made]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert all(into == sorted(into) for into in made)
    assert len(set(itertools.chain(*made))) == 16_000


def test_ids_of_a_forked_process_differ() -> None:
    """Both would otherwise go on with the same random numbers."""
    new_id()
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads are no matter here
        child = os.fork()
    if child == 0:  # pragma: no cover: another process
        os.write(writer, new_id().encode())
        os._exit(0)
    mine = new_id()
    os.waitpid(child, 0)
    theirs = os.read(reader, 100).decode()
    os.close(reader)
    os.close(writer)
    assert len(theirs) == 36
    assert mine[19:] != theirs[19:]


def test_ids_of_the_database_are_version_7_and_grow_with_time(postgres_url: str, schema: str) -> None:
    App("events", postgres_url, schema=schema).migrate()
    with psycopg.connect(postgres_url) as connection:
        rows = connection.execute(
            f"select {schema}.new_id(), clock_timestamp() from generate_series(1, 1000)"
        ).fetchall()
    assert len({found for found, _ in rows}) == 1_000
    for found, at in rows:
        assert (found.version, found.variant) == (7, RFC_4122)
        moment = datetime.fromtimestamp((found.int >> 80) / 1000, UTC)
        assert abs(moment - at) < timedelta(seconds=1)
    milliseconds = [found.int >> 80 for found, _ in rows]
    assert milliseconds == sorted(milliseconds)


# ---------------------------------------------------------------------------------------------- what is in the log


@pytest.fixture
def app(schema: str) -> App:
    app = App("events", f"memory://{schema}")
    app.migrate()
    return app


def _insert(app: App, type: str, data: str) -> None:
    with app.transaction() as connection:
        connection.execute(
            "insert into ensue_events (id, type, kind, data, recorded_at)"
            " values (?, ?, 'domain', ?, '2026-03-01T00:00:00Z')",
            (str(uuid4()), type, data),
        )


class CustomerMoved(DomainEvent, name="test.events.address-changed"):
    """Once called AddressChanged; it has got a field since."""

    city: str
    reason: str = "unknown"


def test_a_renamed_class_reads_what_was_recorded_under_its_old_name(app: App) -> None:
    _insert(app, "test.events.address-changed", '{"city":"Bern"}')
    _insert(app, "test.events.address-changed", '{"city":"Rom","reason":"work","dropped":[1]}')
    assert [each.event for each in app.read(types=(CustomerMoved,))] == [
        CustomerMoved(city="Bern"),
        CustomerMoved(city="Rom", reason="work"),
    ]


@pytest.mark.parametrize(
    ("type", "data", "complaint"),
    [
        ("test.events.vanished", "{}", r"no event class has the wire type 'test\.events\.vanished'"),
        ("test.events.address-changed", "{}", "missing required field `city`"),
        ("test.events.address-changed", '{"city":7}', "Expected `str`"),
        ("test.events.address-changed", "no json", "malformed"),
    ],
)
def test_what_does_not_fit_is_told_when_the_event_is_asked_for(app: App, type: str, data: str, complaint: str) -> None:
    _insert(app, type, data)
    (recorded,) = app.read()
    assert (recorded.type, recorded.data, recorded.position) == (type, data, 1)
    with pytest.raises(UndecodableEvent, match=complaint) as caught:
        _ = recorded.event
    assert isinstance(caught.value, EventError)
    assert (caught.value.type, caught.value.position) == (type, 1)
    assert caught.value.__cause__ is not None


def test_an_event_is_decoded_once(app: App) -> None:
    with app.transaction() as connection:
        app.record(CustomerMoved(city="Bern"), via=connection)
    (recorded,) = app.read()
    assert recorded.event is recorded.event


def test_one_event_that_cannot_be_stored_keeps_the_others_out(app: App) -> None:
    with app.transaction() as connection, pytest.raises(EventValueError):
        app.record(CustomerMoved(city="Bern"), CustomerMoved(city="\0"), via=connection)
    assert list(app.read()) == []
