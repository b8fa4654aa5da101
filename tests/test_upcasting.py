"""Events that were stored in an older structure become today's."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypedDict

import msgspec
import psycopg
import pydantic
import pytest

from ensue import Aggregate, App, Decider, Delivery, DomainEvent, PastEvent, Snapshots, SourcedEvent, evolves, upcast
from ensue.errors import EventDefinitionError, UndecodableEvent
from ensue.events import decode, stored_types
from ensue.events.upcasting import unknown_members
from tests.patience import until

Store = Callable[..., None]


@pytest.fixture(params=["sqlite", "postgresql"])
def app(request: pytest.FixtureRequest, tmp_path: object, schema: str) -> App:
    url = f"sqlite:///{tmp_path}/log.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    app = App("upcasting", url, schema=schema)
    app.migrate()
    return app


@pytest.fixture
def store(app: App, schema: str) -> Store:
    """Write events as a release of long ago has stored them."""

    def write(type: str, *data: str, stream: str | None = None) -> None:
        with app.transaction() as connection:
            for number, each in enumerate(data, 1):
                id = f"019b0000-0000-7000-8000-{abs(hash((type, each, number, stream))) % 16**12:012x}"
                values = (id, type, "sourced" if stream else "domain", stream, number if stream else None, each)
                if isinstance(connection, sqlite3.Connection):
                    connection.execute(
                        f"insert into {schema}_events (id, type, kind, stream, version, data, recorded_at) "
                        "values (?, ?, ?, ?, ?, ?, '2020-01-01T00:00:00.000000Z')",
                        values,
                    )
                else:
                    assert isinstance(connection, psycopg.Connection)
                    connection.execute(
                        f"insert into {schema}.events (position, id, type, kind, stream, version, data, recorded_at) "
                        f"values (nextval('{schema}.positions'), %s, %s, %s, %s, %s, %s, '2020-01-01')".encode(),
                        values,
                    )

    return write


# --------------------------------------------------------------------------------------- from structure to structure


class Paid(SourcedEvent, name="test.up.paid"):
    cents: int
    currency: str
    note: str = ""


class PaidInEuros(PastEvent, name="test.up.paid"):
    """A field was split: the amount had no currency."""

    euros: Decimal


class PaidByName(PastEvent, name="test.up.paid"):
    """A field was renamed, another one dropped."""

    amount: int
    money: str
    teller: str


class MoneyPaid(PastEvent, name="test.up.money-paid"):
    """The type was renamed, twice merged and chained."""

    whole: int
    rest: int


@upcast
def from_euros(old: PaidInEuros) -> Paid:
    return Paid(cents=int(old.euros * 100), currency="EUR")


@upcast
def from_names(old: PaidByName) -> Paid:
    return Paid(cents=old.amount, currency=old.money)


@upcast
def from_money(old: MoneyPaid) -> PaidInEuros:
    return PaidInEuros(euros=Decimal(f"{old.whole}.{old.rest:02}"))


@pytest.mark.parametrize(
    "type, stored, event",
    [
        ("test.up.paid", '{"cents":150,"currency":"USD","note":"n"}', Paid(cents=150, currency="USD", note="n")),
        ("test.up.paid", '{"cents":150,"currency":"USD"}', Paid(cents=150, currency="USD")),
        ("test.up.paid", '{"euros":"1.50"}', Paid(cents=150, currency="EUR")),
        ("test.up.paid", '{"amount":7,"money":"CHF","teller":"Ada"}', Paid(cents=7, currency="CHF")),
        ("test.up.money-paid", '{"whole":1,"rest":5}', Paid(cents=105, currency="EUR")),
    ],
    ids=["today", "a field was added", "split", "renamed and dropped", "another type, merged, in two steps"],
)
def test_a_stored_event_becomes_one_of_today(app: App, store: Store, type: str, stored: str, event: Paid) -> None:
    store(type, stored, stream="s")
    (found,) = app.read()
    assert found.event == event
    assert found.events == (event,)
    assert found.data.replace(" ", "") == stored, "the log stays as it is"
    assert decode(type, stored) == (event,)


def test_reading_by_class_finds_all_that_is_of_it_today(app: App, store: Store) -> None:
    store("test.up.money-paid", '{"whole":1,"rest":0}', stream="old")
    store("test.up.paid", '{"euros":"2"}', '{"cents":300,"currency":"EUR"}', stream="new")
    assert [each.event.cents for each in app.read(types=[Paid])] == [100, 200, 300]
    assert [each.position for each in app.read(types=["test.up.paid"])] == [2, 3]
    assert set(stored_types(Paid)) == {"test.up.paid", "test.up.money-paid"}


def test_what_is_unknown_is_kept_and_told(app: App, store: Store) -> None:
    store("test.up.paid", '{"cents":1,"currency":"EUR","colour":"red"}', stream="s")
    (found,) = app.read()
    assert found.event == Paid(cents=1, currency="EUR")
    assert found.unknown_fields == {"colour"}
    assert "red" in found.data


class Address(msgspec.Struct):
    street: str
    before: list[Address] = []


class Box(msgspec.Struct, tag="box"):
    width: int


class Bag(msgspec.Struct, tag="bag"):
    litres: int = msgspec.field(name="size", default=0)


@dataclass
class Person:
    name: str


class Colours(TypedDict):
    red: int


class Room(pydantic.BaseModel):
    street: str


class Shade(pydantic.BaseModel):
    name: str = pydantic.Field(alias="named")
    address: Room | None = None


class Row(msgspec.Struct, array_like=True):
    box: Person


class Sent(DomainEvent, name="test.up.sent"):
    address: Address | None = None
    old: list[Address] = []  # noqa: RUF012 msgspec copies it
    by: dict[str, Address] = {}  # noqa: RUF012 this too
    pair: tuple[int, Person] = (0, Person("a"))
    packed: Box | Bag | None = None
    either: Address | str | None = None
    colours: Colours | None = None
    shade: Shade | None = None
    row: Row | None = None
    anything: Any = None


class SentOnce(PastEvent, name="test.up.sent"):
    to: Address


@upcast
def sent(old: SentOnce) -> Sent:
    return Sent(address=old.to)


@pytest.mark.parametrize(
    "stored, paths",
    [
        ('{"address":{"street":"a"}}', set()),
        ('{"address":{"street":"a","zip":1}}', {"address.zip"}),
        ('{"address":{"street":"a","before":[{"street":"b","zip":1}]},"x":1}', {"x", "address.before[].zip"}),
        ('{"old":[{"street":"a"},{"street":"b","zip":1},{"street":"b","zip":1}]}', {"old[].zip"}),
        ('{"by":{"home":{"street":"a","zip":1}}}', {"by[].zip"}),
        ('{"pair":[1,{"name":"a","age":1}]}', {"pair[].age"}),
        ('{"packed":{"type":"bag","size":1,"width":1}}', {"packed.width"}),
        ('{"packed":{"type":"box","width":1,"size":1}}', {"packed.size"}),
        ('{"either":"text"}', set()),
        ('{"either":{"street":"a","zip":1}}', {"either.zip"}),
        ('{"colours":{"red":1,"blue":1}}', {"colours.blue"}),
        ('{"shade":{"named":"a","name":"b","address":{"street":"a","zip":1}}}', {"shade.name", "shade.address.zip"}),
        ('{"row":[{"name":"a","age":1},5]}', {"row[].age", "row[1]"}),
        ('{"anything":{"a":{"b":1}}}', set()),
        ('{"to":{"street":"a","zip":1}}', {"to.zip"}),
    ],
)
def test_what_is_unknown_deep_inside_is_told(stored: str, paths: set[str]) -> None:
    assert unknown_members("test.up.sent", stored) == paths
    assert len(decode("test.up.sent", stored)) == 1


def test_what_is_unknown_deep_inside_is_told_of_what_is_stored(app: App, store: Store) -> None:
    store("test.up.sent", '{"address":{"street":"a","zip":1}}', '{"old":[{"street":"a","zip":1}]}')
    assert [each.unknown_fields for each in app.read()] == [{"address.zip"}, {"old[].zip"}]
    (found,) = app.operations.check_events()
    assert found.unknown_fields == {"address.zip": 1, "old[].zip": 1}


def test_what_fits_nothing_says_what_it_is(app: App, store: Store) -> None:
    store("test.up.money-paid", '{"whole":1}', stream="s")
    store("test.up.paid", '{"euros":"much"}', stream="t")
    nothing, wrong = app.read()
    with pytest.raises(UndecodableEvent, match=r"members whole, and fits none of MoneyPaid: rest, whole"):
        _ = nothing.event
    with pytest.raises(UndecodableEvent, match="does not fit its class"):
        _ = wrong.event


def test_an_aggregate_is_made_of_old_events_too(app: App, store: Store) -> None:
    class Till(Aggregate, name="test.up.till"):
        cents: int = 0

        def pay(self, cents: int) -> None:
            self.apply(Paid(cents=cents, currency="EUR"))

        @evolves
        def _(self, event: Paid) -> None:
            self.cents += event.cents

    store("test.up.money-paid", '{"whole":1,"rest":0}', stream="test.up.till-1")
    for tills in (app.repository(Till), app.repository(Till, snapshots=Snapshots(every=2), cache=3)):
        with tills.edit("1") as till:
            till.pay(11)
        assert tills.get("1").cents % 100 == 11 * (till.version - 1)
    assert [each.after["cents"] for each in tills.history("1")] == [100, 111, 122]


class Till(Aggregate, name="test.up.drawer"):
    cents: int = 0

    @evolves
    def _(self, event: Paid) -> None:
        if event.cents < 0:
            raise ArithmeticError("less than nothing")
        self.cents += event.cents


def _evolve(cents: int, event: Paid) -> int:
    if event.cents < 0:
        raise ArithmeticError("less than nothing")
    return cents + event.cents


def _decide(command: int, cents: int) -> list[Paid]:
    return [Paid(cents=command, currency="EUR")]


GOOD = '{"cents":1,"currency":"EUR"}'
WRONG = '{"cents":"many","currency":"EUR"}'


@pytest.mark.parametrize(
    "options", [{}, {"cache": 2}, {"snapshots": Snapshots(every=1)}], ids=["plain", "cache", "both"]
)
@pytest.mark.parametrize("style", ["class", "decider"])
async def test_an_aggregate_says_which_of_its_events_does_not_fit(
    app: App, store: Store, options: dict[str, Any], style: str
) -> None:
    decider = Decider(name="test.up.drawer", initial=0, decide=_decide, evolve=_evolve)
    tills: Any = app.repository(Till if style == "class" else decider, **options)
    store("test.up.paid", GOOD, WRONG, GOOD, stream="test.up.drawer-1")
    store("test.up.nobody's", "{}", stream="test.up.drawer-2")
    store("test.up.paid", '{"cents":-5,"currency":"EUR"}', WRONG, stream="test.up.drawer-3")
    for use in (tills.get, tills.history):
        with pytest.raises(UndecodableEvent, match=r"version 2 of stream 'test\.up\.drawer-1'.*Expected `int`") as told:
            use("1")
        error = told.value
        assert (error.stream, error.version, error.type) == ("test.up.drawer-1", 2, "test.up.paid")
        assert error.position == (2 if use == tills.history else None)
        with pytest.raises(UndecodableEvent, match=r"version 1 of stream.*no event class has the wire type") as told:
            use("2")
        assert (told.value.version, told.value.type) == (1, "test.up.nobody's")
        with pytest.raises(ArithmeticError) as raised:
            use("3")
        assert "version 1 of stream 'test.up.drawer-3' (test.up.paid)" in raised.value.__notes__[0]
    async with app.transaction() as connection:
        with pytest.raises(UndecodableEvent, match="version 2 of stream"):
            await tills.get("1", via=connection)


def test_what_is_new_to_a_cached_aggregate_may_not_fit_either(app: App, store: Store) -> None:
    tills = app.repository(Till, cache=2)
    store("test.up.paid", GOOD, stream="test.up.drawer-1")
    assert tills.get("1").cents == 1
    point = "." if app.log.place.url.startswith("postgresql") else "_"
    store("test.up.paid", WRONG, stream="elsewhere")
    with app.transaction() as connection:
        connection.execute(
            f"update {app.log.place.schema}{point}events set stream = 'test.up.drawer-1', version = 2 "
            "where stream = 'elsewhere'"
        )
    with pytest.raises(UndecodableEvent, match="version 2 of stream"):
        tills.get("1")


# ------------------------------------------------------------------------------------------------ one into several


class Moved(DomainEvent, name="test.up.moved", key="place"):
    place: str


class Renamed(DomainEvent, name="test.up.renamed"):
    to: str


class Changed(PastEvent, name="test.up.changed"):
    place: str
    name: str
    places: list[str] = []  # noqa: RUF012 msgspec copies it


@upcast
def split(old: Changed) -> tuple[Moved | Renamed, ...]:
    return (*(Moved(place=each) for each in (old.place, *old.places)), Renamed(to=old.name))


class Named(SourcedEvent, name="test.up.named"):
    name: str


class Grew(SourcedEvent, name="test.up.grew"):
    by: int


class Begun(PastEvent, name="test.up.begun"):
    name: str
    size: int


@upcast
def begun(old: Begun) -> tuple[Named | Grew, ...]:
    return (Named(name=old.name), Grew(by=old.size)) if old.name else ()


def test_a_change_may_be_of_several_events_or_none(app: App, store: Store) -> None:
    class Plant(Aggregate, name="test.up.plant"):
        name: str = ""
        size: int = 0

        @evolves
        def _(self, event: Named) -> None:
            self.name = event.name

        @evolves
        def _(self, event: Grew) -> None:
            self.size += event.by

    store("test.up.begun", '{"name":"fern","size":2}', '{"name":"","size":2}', stream="test.up.plant-1")
    both, nothing = app.repository(Plant).history("1")
    assert both.events == (Named(name="fern"), Grew(by=2))
    assert both.diff == {"name": ("", "fern"), "size": (0, 2)}
    assert (nothing.events, nothing.diff) == ((), {})
    with pytest.raises(UndecodableEvent, match="ask for its `events`"):
        _ = both.event


async def test_one_event_may_become_several(app: App, store: Store) -> None:
    store("test.up.changed", '{"place":"a","name":"b","places":["c"]}')
    (found,) = app.read()
    assert found.events == (Moved(place="a"), Moved(place="c"), Renamed(to="b"))
    with pytest.raises(UndecodableEvent, match="has become 3 events"):
        _ = found.event
    seen: list[tuple[str, str]] = []

    @app.on(Moved, start="beginning")
    def follow(event: Moved, delivery: Delivery) -> None:
        seen.append((event.place, delivery.idempotency_key.removeprefix(f"follow/{delivery.id}")))

    async with app.running():
        await until(lambda: len(seen) == 2)
    assert seen == [("a", ""), ("c", "/2")]


# ------------------------------------------------------------------------------------------------ what cannot be


def test_structures_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(EventDefinitionError, match="could not be told apart"):

        class Same(PastEvent, name="test.up.paid"):
            cents: str
            currency: str
            note: str

    class Brief(DomainEvent, name="test.up.brief", omit_defaults=True):
        text: str
        more: str = ""

    with pytest.raises(EventDefinitionError, match="could not be told apart"):

        class Briefer(PastEvent, name="test.up.brief"):
            text: str

    class Early(PastEvent, name="test.up.early"):
        text: str

    class Late(DomainEvent, name="test.up.early"):
        text: str

    for use in (lambda: stored_types(Late), lambda: decode("test.up.early", '{"text":"a"}')):
        with pytest.raises(EventDefinitionError, match="Give the class of today"):
            use()


def test_upcasters_say_what_they_take_and_give() -> None:
    class Lonely(PastEvent, name="test.up.lonely"):
        text: str

    with pytest.raises(EventDefinitionError, match="has no upcaster"):
        decode("test.up.lonely", '{"text":"a"}')

    with pytest.raises(EventDefinitionError, match="name='…'"):

        class Nameless(PastEvent):
            pass

    with pytest.raises(EventDefinitionError, match="one parameter"):

        @upcast  # type: ignore[type-var]
        def takes_an_event(old: Moved) -> Renamed:
            return Renamed(to="a")

    with pytest.raises(EventDefinitionError, match="what it returns"):

        @upcast  # type: ignore[type-var]
        def gives_text(old: Lonely) -> str:
            return "a"

    with pytest.raises(EventDefinitionError, match="leave frozen out"):

        class Changeable(PastEvent, name="test.up.changeable", frozen=False):  # type: ignore[misc]
            pass

    with pytest.raises(EventDefinitionError, match="what it returns"):

        @upcast
        def gives_any(old: Lonely) -> DomainEvent:
            return Renamed(to=old.text)

    class Liar(PastEvent, name="test.up.liar"):
        text: str

    @upcast
    def _(old: Liar) -> Moved:
        return Renamed(to=old.text)  # type: ignore[return-value]

    with pytest.raises(TypeError, match="not what it is annotated with"):
        decode("test.up.liar", '{"text":"a"}')
    with pytest.raises(EventDefinitionError, match="already"):

        @upcast
        def _(old: Liar) -> Renamed:
            return Renamed(to=old.text)

    @upcast
    def around(old: Lonely) -> Lonely:
        return old

    with pytest.raises(EventDefinitionError, match="in a circle"):
        decode("test.up.lonely", '{"text":"a"}')
    with pytest.raises(EventDefinitionError, match="already"):

        @upcast
        def again(old: Lonely) -> Moved:
            return Moved(place=old.text)


# ------------------------------------------------------------------------------------------------ looking at all


def test_all_that_is_stored_can_be_checked(app: App, store: Store) -> None:
    store("test.up.money-paid", '{"whole":1,"rest":0}', '{"whole":1}', stream="a")
    store("test.up.paid", *(f'{{"cents":{number},"currency":"EUR","x":1}}' for number in range(9)), stream="b")
    store("test.up.paid", '{"euros":"1"}', stream="c")
    store("test.up.changed", '{"place":"a","name":"b"}')
    store("test.up.nobody's", "{}")
    steps: list[tuple[int, int]] = []
    found = {each.type: each for each in app.operations.check_events(3, progress=lambda *each: steps.append(each))}
    assert steps[-1] == (10, 10)
    assert [found["test.up.paid"].total, found["test.up.paid"].looked_at] == [10, 6]
    assert found["test.up.paid"].becomes == {"test.up.paid": 6}
    assert found["test.up.paid"].unknown_fields == {"x": 5}
    assert found["test.up.changed"].becomes == {"test.up.moved": 1, "test.up.renamed": 1}
    assert found["test.up.money-paid"].becomes == {"test.up.paid": 1}
    assert [each.failed for each in found.values()] == [0, 1, 1, 0]
    assert "fits none of MoneyPaid" in found["test.up.money-paid"].failures[0].reason
    assert "no event class has the wire type" in found["test.up.nobody's"].failures[0].reason
    assert {each.type: each.looked_at for each in app.operations.check_events(None)}["test.up.paid"] == 10


def test_what_an_aggregate_no_longer_evolves_is_found(app: App, store: Store) -> None:
    def evolve(state: int, event: Paid | Grew) -> int:
        return state

    def anything(state: int, event):  # type: ignore[no-untyped-def]
        return state

    app.repository(Till)
    app.repository(Decider(name="test.up.pot", initial=0, decide=_decide, evolve=evolve))
    app.repository(Decider(name="test.up.jar", initial=0, decide=_decide, evolve=anything))
    store("test.up.paid", GOOD, stream="test.up.drawer-1")
    store("test.up.grew", '{"by":1}', stream="test.up.drawer-2-3")
    store("test.up.named", '{"name":"a"}', stream="test.up.pot-1")
    for stream in ("test.up.pot-2", "test.up.jar-1", "test.up.nobody-1", "test.up.drawer"):
        store("test.up.grew", '{"by":2}', stream=stream)
    found = {each.type: each for each in app.operations.check_events()}
    assert {name: each.failed for name, each in found.items()} == {
        "test.up.paid": 0,
        "test.up.grew": 1,
        "test.up.named": 1,
    }
    reasons = [each.failures[0].reason for each in found.values() if each.failed]
    assert reasons == [
        "aggregate 'test.up.drawer' does not evolve Grew, which is in its stream 'test.up.drawer-2-3'",
        "aggregate 'test.up.pot' does not evolve Named, which is in its stream 'test.up.pot-1'",
    ]
    assert found["test.up.grew"].becomes == {"test.up.grew": 5}
