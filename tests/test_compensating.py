"""Compensation goes strictly backwards: what undoes a step begins when what undoes the one after it is done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ensue import App, Backoff, Command, Delivery, DomainEvent, Process, moves, starts
from ensue.errors import UnknownName
from ensue.subscriptions.operating import Filter
from tests.managing import idle, record, work
from tests.patience import until

NAMES = "test.compensating."


class Booked(DomainEvent, key="trip", name=NAMES + "booked"):
    trip: str


class Failed(DomainEvent, key="trip", name=NAMES + "failed"):
    trip: str


class Withdrawn(DomainEvent, key="trip", name=NAMES + "withdrawn"):
    trip: str


class CancelFlight(Command, key="trip", name=NAMES + "cancel-flight"):
    trip: str


class CancelHotel(Command, key="trip", name=NAMES + "cancel-hotel"):
    trip: str


class CancelCar(Command, key="trip", name=NAMES + "cancel-car"):
    trip: str


class Apologise(Command, key="trip", name=NAMES + "apologise"):
    trip: str


class Trip(Process, name="trip"):
    @starts
    def _(self, event: Booked) -> None:
        self.undo(CancelFlight(trip=event.trip))
        self.undo(CancelHotel(trip=event.trip), Withdrawn(trip=event.trip))
        self.undo(CancelCar(trip=event.trip))

    @moves
    def _(self, event: Failed) -> None:
        self.compensate()
        self.send(Apologise(trip=event.trip))
        self.end("it could not be had")


class Agency:
    """An application whose handlers say when they begin and when they are done."""

    def __init__(self, url: str, schema: str) -> None:
        self.told: list[str] = []
        self.go_on = asyncio.Event()
        self.broken = False
        app = self.app = App("agency", url, schema=schema)
        again = Backoff(first=0.01, most=0.02, attempts=1)

        @app.handle(CancelCar, retry=again)
        async def cancel_car(command: CancelCar, delivery: Delivery) -> None:
            self.told.append("car")
            if self.broken:
                raise ValueError("the car is gone")
            await self.go_on.wait()
            self.told.append("car is done")

        @app.handle(CancelHotel)
        def cancel_hotel(command: CancelHotel) -> None:
            self.told.append("hotel")

        @app.handle(CancelFlight)
        def cancel_flight(command: CancelFlight) -> None:
            self.told.append("flight")

        @app.handle(Apologise)
        async def apologise(command: Apologise) -> None:
            self.told.append("apologies")

        app.process(key="trip", retry=again)(Trip)
        app.migrate()

    def seen(self, key: str = "one") -> tuple[str, tuple[str, ...]] | None:
        found = next(iter(self.app.processes.list("trip", key=key)), None)
        return None if found is None else (found.status, tuple(each.removeprefix(NAMES) for each in found.undo))

    def types(self) -> list[str]:
        return [each.type.removeprefix(NAMES) for each in self.app.read()]


@pytest.fixture
def agency(url: str, schema: str) -> Agency:
    return Agency(url, schema)


async def test_one_begins_when_the_one_before_it_is_done(agency: Agency) -> None:
    record(agency.app, Booked(trip="one"), Failed(trip="one"))
    async with agency.app.running():
        await until(lambda: set(agency.told) == {"car", "apologies"})
        record(agency.app, Apologise(trip="two"))  # whoever is quicker would have been here by now
        await until(lambda: agency.told.count("apologies") == 2)
        assert set(agency.told) == {"car", "apologies"}
        assert agency.types() == ["booked", "failed", "cancel-car", "apologise", "apologise"]
        assert agency.seen() == ("compensating", ("cancel-car", "withdrawn", "cancel-hotel", "cancel-flight"))
        record(agency.app, Failed(trip="one"))  # it has ended: nothing moves it
        agency.go_on.set()
        await until(lambda: agency.seen() == ("compensated", ()) and idle(agency.app))
    assert [each for each in agency.told if each != "apologies"] == ["car", "car is done", "hotel", "flight"]
    assert agency.types()[-3:] == ["withdrawn", "cancel-hotel", "cancel-flight"]
    assert agency.app.processes.show("trip", "one").process.steps == 2
    events = list(agency.app.read())
    causes = {each.type.removeprefix(NAMES): each.causation_id for each in events if each.key == "one"}
    ids = {each.type.removeprefix(NAMES): each.id_text for each in events if each.key == "one"}
    assert causes["cancel-hotel"] == causes["withdrawn"] == ids["cancel-car"]
    assert causes["cancel-flight"] == ids["cancel-hotel"]


async def test_one_that_is_delivered_again_when_it_was_done_is_not_carried_out_again(agency: Agency) -> None:
    """As after a kill between what it recorded and its checkpoint; it is called again if somebody says so."""
    agency.go_on.set()
    record(agency.app, Booked(trip="one"), Failed(trip="one"))
    async with agency.app.running():
        await until(lambda: agency.seen() == ("compensated", ()) and idle(agency.app))
    told, types = list(agency.told), agency.types()
    agency.app.operations.retire("cancel_car", actor="me", reason="so that it begins anew")
    record(agency.app, Apologise(trip="two"))
    position = next(each.position for each in agency.app.read(types=[CancelCar]))
    with agency.app.transaction() as connection:
        agency.app.log.run(_from(agency.app, "cancel_car", position), connection)
    await work(agency.app)
    assert sorted(agency.told) == sorted([*told, "apologies"])
    assert agency.types() == [*types, "apologise"]
    called = await agency.app.replays.again("cancel_car", since=0, actor="me", reason="it was forgotten")
    assert (called, agency.told[-2:]) == (1, ["car", "car is done"])
    assert agency.types() == [*types, "apologise"]


def _from(app: App, subscription: str, position: int) -> Any:
    """Register a subscription as if it had come up to an event and not passed it."""
    from dataclasses import replace

    from ensue.subscriptions import Cursors, register

    declared = replace(app.subscriptions[subscription], start=position)
    return register(app.log, Cursors({subscription: declared}, frozenset(app.subscriptions)))


@pytest.mark.parametrize("decision", ["skip", "discard"])
async def test_what_a_person_gives_up_lets_the_next_one_begin(agency: Agency, decision: Any) -> None:
    agency.broken = True
    record(agency.app, Booked(trip="one"), Failed(trip="one"))
    operations = agency.app.operations
    async with agency.app.running():
        await until(lambda: operations.dead_letters() and idle(agency.app))
        assert [each.key for each in agency.app.processes.list(status="compensating")] == ["one"]
        assert "hotel" not in agency.told
        await asyncio.to_thread(operations.decide, Filter(), decision, actor="eve", reason="by telephone")
        await until(lambda: agency.seen() == ("compensated", ()) and idle(agency.app))
    assert [each for each in agency.told if each != "apologies"] == ["car", "hotel", "flight"]
    hotel = next(iter(agency.app.read(types=[CancelHotel])))
    assert hotel.causation_id == next(iter(agency.app.read(types=[CancelCar]))).id_text
    assert hotel.metadata.actor == "eve"


async def test_one_that_fails_is_tried_again_and_the_rest_waits(agency: Agency) -> None:
    agency.broken = True
    record(agency.app, Booked(trip="one"), Failed(trip="one"))
    operations = agency.app.operations
    async with agency.app.running():
        await until(lambda: operations.dead_letters() and idle(agency.app))
        agency.broken = False
        agency.go_on.set()
        await asyncio.to_thread(operations.decide, Filter(), "retry", actor="eve", reason="")
        await until(lambda: agency.seen() == ("compensated", ()) and idle(agency.app))
    assert [each for each in agency.told if each != "apologies"] == ["car", "car", "car is done", "hotel", "flight"]


async def test_an_operator_cancels_with_compensation_and_without(agency: Agency) -> None:
    record(agency.app, Booked(trip="one"), Booked(trip="two"))
    processes = agency.app.processes
    async with agency.app.running():
        await until(lambda: len(processes.list()) == 2 and idle(agency.app))
        undone = await asyncio.to_thread(
            processes.cancel, "trip", "one", actor="eve", reason="a strike", compensate=True
        )
        assert [each.removeprefix(NAMES) for each in undone] == [
            "cancel-car",
            "withdrawn",
            "cancel-hotel",
            "cancel-flight",
        ]
        await until(lambda: agency.told == ["car"])
        assert [each.key for each in processes.list(status="compensating")] == ["one"]
        assert [each.key for each in processes.list(status="running")] == ["two"]
        assert [each.key for each in processes.begun("trip", "compensating")] == ["one"]
        assert [each.key for each in processes.begun("trip", "running")] == ["two"]
        agency.go_on.set()
        await until(lambda: agency.seen() == ("cancelled", ()) and idle(agency.app))
        assert agency.told == ["car", "car is done", "hotel", "flight"]

        agency.go_on.clear()
        await asyncio.to_thread(processes.cancel, "trip", "two", actor="eve", reason="", compensate=True)
        await until(lambda: agency.told[-1] == "car")
        await asyncio.to_thread(processes.cancel, "trip", "two", actor="eve", reason="enough")
        assert processes.show("trip", "two").process.status == "cancelled"
        agency.go_on.set()
        await until(lambda: agency.told[-1] == "car is done" and idle(agency.app))
    assert agency.told[4:] == ["car", "car is done"], "the rest was given up"
    with pytest.raises(UnknownName, match="is cancelled already"):
        processes.cancel("trip", "two", actor="eve", reason="")


async def test_a_process_that_goes_on_compensates_again_and_ends_when_both_are_done(url: str, schema: str) -> None:
    class Again(Process, name="again"):
        @starts
        def _(self, event: Booked) -> None:
            self.undo(CancelFlight(trip=event.trip))
            self.undo(CancelHotel(trip=event.trip))

        @moves
        def _(self, event: Failed) -> None:
            self.compensate()

        @moves
        def _(self, event: Withdrawn) -> None:
            self.undo(CancelCar(trip=event.trip))
            self.compensate()
            self.end("in the end")

    told: list[str] = []
    app = App("again", url, schema=schema)
    hotel = asyncio.Event()

    @app.handle(CancelHotel)
    async def cancel_hotel(command: CancelHotel) -> None:
        told.append("hotel")
        await hotel.wait()

    def telling(what: str) -> Callable[[Command], None]:
        return lambda command: told.append(what)

    app.handle(CancelFlight, name="cancel_flight")(telling("flight"))
    app.handle(CancelCar, name="cancel_car")(telling("car"))
    app.process(key="trip")(Again)
    app.migrate()
    record(app, Booked(trip="one"), Failed(trip="one"))
    async with app.running():
        await until(lambda: told == ["hotel"])
        assert app.processes.show("again", "one").process.status == "running"
        record(app, Withdrawn(trip="one"))
        await until(lambda: app.processes.show("again", "one").process.status == "compensating")
        hotel.set()
        await until(lambda: app.processes.show("again", "one").process.status == "compensated")
    assert told == ["hotel", "car", "flight"]
