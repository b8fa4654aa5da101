"""Process managers: what a step asks for, its state and the checkpoint are written in one transaction."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import permutations
from typing import Any, ClassVar

import pytest

from ensue import App, Backoff, Command, DomainEvent, Process, SourcedEvent, moves, starts
from ensue.app.mapping import mermaid, svg
from ensue.errors import DeclarationError, DuplicateName, UnknownName
from ensue.handlers.timers.firing import fire_due
from tests.managing import idle, record, work
from tests.patience import until

NAMES = "test.managing."


class SignedUp(DomainEvent, key="user", name=NAMES + "signed-up"):
    user: str


class Confirmed(DomainEvent, key="user", name=NAMES + "confirmed"):
    user: str


class Overdue(DomainEvent, key="user", name=NAMES + "overdue"):
    user: str


class Flagged(DomainEvent, key="account", name=NAMES + "flagged"):
    account: str
    tries: int


class Paid(DomainEvent, key="receipt", name=NAMES + "paid"):
    receipt: str
    of: str


class Subscribe(Command, key="user", name=NAMES + "subscribe"):
    user: str


class Unsubscribe(Command, key="user", name=NAMES + "unsubscribe"):
    user: str


class Greet(Command, key="user", name=NAMES + "greet"):
    user: str


class Apologise(Command, key="user", name=NAMES + "apologise"):
    user: str


class Sourced(SourcedEvent, name=NAMES + "sourced"):
    user: str


COMMANDS: tuple[type[Command], ...] = (Subscribe, Unsubscribe, Greet, Apologise)


class SignUp(Process):
    tries: int = 0
    begun: datetime | None = None
    shared: ClassVar[int] = 0

    @starts
    def begin(self, event: SignedUp) -> None:
        self.begun = self.moment
        self.send(Subscribe(user=event.user), Greet(user=event.user))
        self.undo(Unsubscribe(user=event.user))
        self.undo(Apologise(user=event.user))
        self.after("1h", Overdue(user=event.user), name="deadline")

    @moves
    def _(self, event: Confirmed) -> None:
        self.cancel("deadline")
        self.end()

    @moves
    def _(self, event: Overdue) -> None:
        self.tries += 1
        if self.tries == 1:
            self.after("1h", event, name="deadline")
        else:
            self.record(Flagged(account=event.user, tries=self.tries))
            self.compensate()
            self.end("failed")


@pytest.fixture
def make(url: str, schema: str) -> Callable[..., App]:
    def make(*classes: type[Process], commands: tuple[type[Command], ...] = COMMANDS, **options: Any) -> App:
        app = App("managing", url, schema=schema, migrate=True)
        for command in commands:
            app.handle(command, name=command.__name__, start=options.get("start", "now"))(ignore)
        for cls in classes:
            app.process(key="user", **{"retry": Backoff(first=0.05, most=0.05), **options})(cls)
        app.migrate()
        return app

    return make


def ignore(command: Command) -> None: ...


def pass_time(app: App) -> None:
    """Let all timers be due, and fire them, as a worker does."""
    dot = "." if app.log.dialect.label == "PostgreSQL" else "_"
    with app.transaction() as connection:
        connection.execute(f"update {app.log.place.schema}{dot}timers set due_at = '2020-01-01T00:00:00.000Z'")
        app.log.run(fire_due(app.log), connection)


def types(app: App, *, after: int = 0) -> list[str]:
    return [each.type.removeprefix(NAMES) for each in app.read(after=after)]


async def test_an_event_starts_it_and_another_ends_it(make: Callable[..., App]) -> None:
    app = make(SignUp)
    record(app, SignedUp(user="ada"))
    await work(app)
    shown = app.processes.show("SignUp", "ada")
    assert (shown.process.status, shown.process.version, shown.process.steps) == ("running", 1, 1)
    assert shown.process.undo == (Apologise.__type__, Unsubscribe.__type__)
    assert [(each.name, each.type) for each in shown.timers] == [("deadline", Overdue.__type__)]
    assert json.loads(shown.steps[0].did)["recorded"] == [Subscribe.__type__, Greet.__type__]

    record(app, Confirmed(user="ada"))
    await work(app)
    shown = app.processes.show("SignUp", "ada")
    assert (shown.process.status, shown.process.outcome, shown.timers) == ("done", "done", ())
    assert [each.type for each in shown.steps] == [SignedUp.__type__, Confirmed.__type__]
    events = {each.type: each for each in app.read()}
    assert events[Subscribe.__type__].causation_id == events[SignedUp.__type__].id_text
    begun = datetime.fromisoformat(json.loads(shown.process.state)["begun"])
    assert abs(begun - events[SignedUp.__type__].recorded_at).total_seconds() < 0.01


async def test_a_timer_moves_it_and_it_compensates_in_reverse_order(make: Callable[..., App]) -> None:
    app = make(SignUp)
    record(app, SignedUp(user="ada"))
    for _ in range(2):
        await work(app)
        pass_time(app)
    await work(app)
    seen = app.processes.show("SignUp", "ada").process
    assert (seen.status, seen.outcome, seen.undo, seen.steps) == ("compensated", "failed", (), 3)
    assert types(app) == [
        "signed-up",
        "subscribe",
        "greet",
        "overdue",
        "overdue",
        "flagged",
        "apologise",
        "unsubscribe",
    ]
    (flagged,) = app.read(types=[Flagged])
    assert flagged.event.tries == 2
    timed = list(app.read(types=[Overdue]))
    assert flagged.causation_id == timed[1].id_text
    assert timed[1].causation_id == timed[0].id_text


async def test_what_comes_twice_or_to_nobody_changes_nothing(make: Callable[..., App]) -> None:
    app = make(SignUp)
    record(app, Confirmed(user="ada"), SignedUp(user="ada"), SignedUp(user="ada"))
    await work(app)
    assert types(app) == ["confirmed", "signed-up", "signed-up", "subscribe", "greet"]
    record(app, Confirmed(user="ada"), Confirmed(user="ada"), Overdue(user="ada"), SignedUp(user="ada"))
    await work(app)
    assert app.processes.show("SignUp", "ada").process.steps == 2
    assert types(app, after=5)[4:] == []
    assert app.operations.dead_letters() == []


async def test_the_event_of_a_timer_that_was_cancelled_too_late_does_not_come(make: Callable[..., App]) -> None:
    class Late(Process, name="Late"):
        overdue: int = 0

        @starts
        def _(self, event: SignedUp) -> None:
            self.after("1h", Overdue(user=event.user), name="deadline")

        @moves
        def _(self, event: Confirmed) -> None:
            self.cancel("deadline")

        @moves
        def _(self, event: Overdue) -> None:
            self.overdue += 1

    app = make(Late)
    record(app, SignedUp(user="ada"))
    await work(app)
    record(app, Confirmed(user="ada"))
    pass_time(app)  # it has fired before the process sees that it is to be cancelled
    assert types(app) == ["signed-up", "confirmed", "overdue"]
    await work(app)
    shown = app.processes.show("Late", "ada")
    assert json.loads(shown.process.state) == {"overdue": 0}
    assert [each.type for each in shown.steps] == [SignedUp.__type__, Confirmed.__type__]
    record(app, Overdue(user="ada"))  # another one, that somebody else has recorded
    await work(app)
    assert json.loads(app.processes.show("Late", "ada").process.state) == {"overdue": 1}


async def test_steps_of_one_transaction_set_and_cancel_in_order(make: Callable[..., App]) -> None:
    class Quick(Process, name="Quick"):
        @starts
        def _(self, event: SignedUp) -> None:
            self.after("1h", Overdue(user=event.user), name="deadline")
            self.after("1h", Overdue(user=event.user), name="other")

        @moves
        def _(self, event: Paid) -> None:
            self.cancel("deadline")

        @moves
        def _(self, event: Confirmed) -> None:
            self.cancel("other")
            self.after("2h", Overdue(user=event.user), name="deadline")

    app = App("managing", make().log.place.url, schema=make().log.place.schema)
    app.process(key={SignedUp: "user", Paid: "of", Confirmed: "user"})(Quick)
    app.migrate()
    record(app, SignedUp(user="ada"), Paid(receipt="r1", of="ada"), Confirmed(user="ada"))
    await work(app)
    (left,) = app.processes.show("Quick", "ada").timers
    assert left.name == "deadline"
    assert (left.due_at - datetime.now(UTC)).total_seconds() > 7000


async def test_a_running_process_finishes_on_the_version_that_it_began_with(make: Callable[..., App]) -> None:
    class One(Process, name="Versioned", version=1):
        @starts
        def _(self, event: SignedUp) -> None: ...

        @moves
        def _(self, event: Confirmed) -> None:
            self.end("as in version 1")

    class Two(Process, name="Versioned", version=2):
        @starts
        def _(self, event: SignedUp) -> None: ...

        @moves
        def _(self, event: Confirmed | Overdue) -> None:
            self.end("as in version 2")

    record(first := make(One), SignedUp(user="ada"), SignedUp(user="berta"))
    await work(first)
    app = make(One, Two)
    assert app.subscriptions["Versioned"].types == (SignedUp.__type__, Confirmed.__type__, Overdue.__type__)
    record(app, SignedUp(user="carla"), Confirmed(user="ada"), Overdue(user="berta"), Overdue(user="carla"))
    await work(app)
    assert {each.key: (each.version, each.outcome) for each in app.processes.list("Versioned")} == {
        "ada": (1, "as in version 1"),
        "berta": (1, None),
        "carla": (2, "as in version 2"),
    }
    too_early = make(Two)
    record(too_early, Confirmed(user="berta"))
    await work(too_early)
    (letter,) = too_early.operations.dead_letters()
    assert letter.key == "berta"
    assert "began with version 1, and the code has 2" in letter.reason
    assert "ensue process cancel Versioned berta" in letter.reason


async def test_a_step_that_fails_leaves_nothing_and_is_tried_again(make: Callable[..., App]) -> None:
    failing = {"berta"}

    class Failing(Process, name="Failing"):
        steps_taken: int = 0

        @starts
        def _(self, event: SignedUp) -> None:
            self.steps_taken += 1
            self.send(Greet(user=event.user))
            self.after("1h", Overdue(user=event.user))
            if event.user in failing:
                raise ValueError(event.user)

    app = make(Failing)
    record(app, *[SignedUp(user=user) for user in ("ada", "berta", "carla")])
    async with app.running():
        await until(lambda: {each.key for each in app.processes.list()} == {"ada", "carla"})
        assert len(list(app.read(types=[Greet]))) == 2
        failing.clear()
        await until(lambda: idle(app) and len(app.processes.list()) == 3)
    assert sorted(each.event.user for each in app.read(types=[Greet])) == ["ada", "berta", "carla"]


async def test_a_step_that_reaches_out_is_refused(make: Callable[..., App]) -> None:
    class Reaching(Process, name="Reaching"):
        @starts
        def _(self, event: SignedUp) -> None:
            socket.create_connection(("127.0.0.1", 9), timeout=1)

    app = make(Reaching)
    record(app, SignedUp(user="ada"))
    await work(app)
    (letter,) = app.operations.dead_letters()
    assert "was about to leave the database" in letter.reason
    assert app.processes.list() == []


async def test_what_would_be_forgotten_is_refused(make: Callable[..., App]) -> None:
    class Forgetful(Process, name="Forgetful"):
        count: int = 0

        @starts
        def _(self, event: SignedUp) -> None:
            if event.user == "ada":
                self.note = "kept nowhere"
            else:
                self.count = "many"  # type: ignore[assignment]

    app = make(Forgetful)
    record(app, SignedUp(user="ada"), SignedUp(user="berta"))
    await work(app)
    reasons = {each.key: each.reason for each in app.operations.dead_letters()}
    assert "note would be forgotten: annotate it" in reasons["ada"]
    assert "its state cannot be kept" in reasons["berta"]


async def test_events_come_once_even_if_the_subscription_begins_anew(make: Callable[..., App]) -> None:
    app = make(SignUp)
    record(app, SignedUp(user="ada"), Overdue(user="ada"))
    await work(app)
    assert app.processes.show("SignUp", "ada").process.steps == 2
    app.operations.retire("SignUp", actor="ada", reason="to read again")
    again = make(SignUp, start="beginning")
    await work(again)
    assert again.processes.show("SignUp", "ada").process.steps == 2
    assert len(list(again.read(types=[Subscribe]))) == 1


def expected(order: tuple[type[DomainEvent], ...], times: int) -> tuple[str, int, int]:
    """Return how a sign-up stands after events that come so many times, in how many steps, and with how many tries.

    What has moved it moves it no more; what came before it began has not.
    """
    status, tries = "", 0
    moved: set[int] = set()
    for number, event in [*enumerate(order)] * times:
        if number in moved:
            continue
        if event is SignedUp and not status:
            status = "running"
        elif event is Confirmed and status == "running":
            status = "done"
        elif event is Overdue and status == "running":
            tries += 1
            status = "running" if tries == 1 else "compensated"
        else:
            continue
        moved.add(number)
    return status, len(moved), tries


async def test_every_message_twice_in_every_order_and_all_of_them_again(make: Callable[..., App]) -> None:
    orders: list[tuple[Any, ...]] = sorted({*permutations((SignedUp, Confirmed, Overdue) * 2)}, key=repr)
    users = [f"user {number}" for number in range(len(orders))]
    app = make(SignUp)
    for several in zip(*orders, strict=True):  # the first event of every user, then the second one of every user
        record(app, *[event(user=user) for event, user in zip(several, users, strict=True)])
    await work(app)

    def check(app: App, times: int) -> None:
        log: dict[str | None, list[type]] = {user: [] for user in users}
        for each in app.read():
            log[each.key].append(type(each.event))
        for user, order in zip(users, orders, strict=True):
            status, steps, tries = expected(order, times)
            shown = app.processes.show("SignUp", user)
            seen = shown.process
            assert (seen.status, seen.steps, json.loads(seen.state)["tries"]) == (status, steps, tries), order
            assert len(shown.steps) == steps, order
            assert [each.name for each in shown.timers] == ["deadline"] * (status == "running"), order
            undone = [Flagged, Apologise, Unsubscribe] if status == "compensated" else []
            assert log[user] == [*order, Subscribe, Greet, *undone], order
        assert app.operations.dead_letters() == []

    check(app, 1)
    for name in ("SignUp", *[each.__name__ for each in COMMANDS]):
        app.operations.retire(name, actor="ada", reason="so that every event and every command comes again")
    again = make(SignUp, start="beginning")
    await work(again)
    check(again, 2)


async def test_events_with_other_keys_in_other_partitions(url: str, schema: str) -> None:
    class Counting(Process, name="Counting"):
        sums: int = 0

        @starts
        def _(self, event: SignedUp) -> None: ...

        @moves
        def _(self, event: Paid) -> None:
            self.sums += 1

    app = App("managing", url, schema=schema, migrate=True)
    app.process(key={SignedUp: "user", Paid: "of"}, partitions=4, batch=3)(Counting)
    app.migrate()
    users = [str(number) for number in range(5)]
    record(app, *[SignedUp(user=user) for user in users])
    await work(app)
    record(app, *[Paid(receipt=f"r{number}", of=users[number % 5]) for number in range(200)])
    await work(app)
    assert [json.loads(each.state)["sums"] for each in app.processes.list("Counting")] == [40] * 5


# --- operators


async def test_cancelling(make: Callable[..., App]) -> None:
    app = make(SignUp)
    record(app, SignedUp(user="ada"), SignedUp(user="berta"))
    await work(app)
    assert app.processes.cancel("SignUp", "ada", actor="eve", reason="a test") == ()
    done = app.processes.cancel("SignUp", "berta", actor="eve", reason="", compensate=True)
    assert done == (Apologise.__type__, Unsubscribe.__type__)
    assert types(app)[-1] == "apologise", "the next one's turn comes when it is done"
    assert [each.key for each in app.processes.list(status="compensating")] == ["berta"]
    assert [each.undo for each in app.processes.begun("SignUp", "compensating")] == [done]
    await work(app)
    assert app.processes.begun("SignUp", "compensating") == []
    assert [each.event.user for each in app.read(types=[Apologise, Unsubscribe])] == ["berta"] * 2
    assert {each.metadata.actor for each in app.read(types=[Apologise])} == {"eve"}
    assert {each.key: (each.status, each.outcome) for each in app.processes.list(status="cancelled")} == {
        "ada": ("cancelled", "a test"),
        "berta": ("cancelled", "cancelled by eve"),
    }
    assert app.processes.show("SignUp", "ada").timers == ()
    assert [(each.action, each.key, each.actor) for each in app.operations.audit(subscription="SignUp")] == [
        ("cancel process", "berta", "eve"),
        ("cancel process", "ada", "eve"),
    ]
    record(app, Confirmed(user="ada"))
    await work(app)
    assert app.processes.show("SignUp", "ada").process.steps == 1
    with pytest.raises(UnknownName, match="cancelled already"):
        app.processes.cancel("SignUp", "ada", actor="eve", reason="")
    with pytest.raises(UnknownName, match="ensue process list"):
        app.processes.cancel("SignUp", "nobody", actor="eve", reason="")


def test_a_diagram(make: Callable[..., App]) -> None:
    app = make(SignUp)
    drawn = app.processes.diagram("SignUp")
    assert [(each.name, each.note) for each in drawn.parts] == [
        ("begin", "starts"),
        ("step 2", "moves, ends: done"),
        ("step 3", "moves, compensates, ends: failed"),
    ]
    assert drawn.parts[2].emits == (Flagged.__type__, Apologise.__type__, Unsubscribe.__type__)
    notes = {each.type: each.note for each in drawn.events}
    assert notes[Overdue.__type__] == "timer: after 1h"
    assert (notes[Greet.__type__], notes[Unsubscribe.__type__]) == ("command", "compensation")
    assert "timer: after 1h" in mermaid(drawn)
    assert "moves, compensates, ends: failed" in svg(drawn)
    with pytest.raises(UnknownName, match="no version 3; it has 1"):
        app.processes.diagram("SignUp", 3)
    (part,) = [each for each in app.map().parts if each.how == "process"]
    assert set(part.emits) >= {Subscribe.__type__, Flagged.__type__, Unsubscribe.__type__}


# --- commands


def test_a_command_has_one_handler() -> None:
    app = App("commands", "memory://commands")
    app.handle(Greet)(ignore)
    with pytest.raises(DuplicateName, match="two handlers, 'ignore' and 'again'"):
        app.handle(Greet, name="again")(ignore)
    with pytest.raises(DeclarationError, match="write @app"):
        app.on(Greet)
    with pytest.raises(DeclarationError, match="no command class"):
        app.handle(SignedUp)  # type: ignore[type-var]


def test_a_command_without_a_handler_is_found_at_the_start(make: Callable[..., App]) -> None:
    with pytest.raises(DeclarationError, match=r"Unsubscribe, which process 'SignUp' sends"):
        make(SignUp, commands=(Subscribe, Greet))


async def test_a_command_that_no_source_shows_is_found_when_it_is_sent(make: Callable[..., App]) -> None:
    hidden: list[Command] = [Greet(user="ada")]

    class Hiding(Process, name="Hiding"):
        @starts
        def _(self, event: SignedUp) -> None:
            self.send(hidden[0])

    app = make(Hiding, commands=())
    record(app, SignedUp(user="ada"))
    await work(app)
    (letter,) = app.operations.dead_letters()
    assert "sends Greet, which has no handler" in letter.reason


async def test_a_command_is_carried_out(make: Callable[..., App]) -> None:
    carried: list[str] = []
    app = make(commands=(Subscribe, Unsubscribe, Apologise))

    @app.handle(Greet)
    async def greet(command: Greet) -> None:
        await asyncio.sleep(0)
        carried.append(command.user)

    app.process(key="user")(SignUp)
    app.migrate()
    record(app, SignedUp(user="ada"))
    async with app.running():
        await until(lambda: carried == ["ada"])


# --- declarations


def declare(problem: str, make: Callable[[], object]) -> None:
    with pytest.raises(DeclarationError, match=problem):
        make()


def test_what_no_process_can_be() -> None:
    app = App("declaring", "memory://declaring")

    def no_event() -> object:
        class A(Process):
            @starts  # type: ignore[type-var]
            def _(self, event: int) -> None: ...

        return A

    def a_command() -> object:
        class A(Process):
            @starts
            def _(self, event: Greet) -> None: ...

        return A

    def an_aggregates_event() -> object:
        class A(Process):
            @starts
            def _(self, event: Sourced) -> None: ...

        return A

    def awaiting() -> object:
        class A(Process):
            @starts  # type: ignore[arg-type]
            async def _(self, event: SignedUp) -> None: ...

        return A

    def twice() -> object:
        class A(Process):
            @starts
            def _(self, event: SignedUp) -> None: ...

            @moves
            def again(self, event: SignedUp) -> None: ...

        return A

    def without_default() -> object:
        class A(Process):
            count: int

        return A

    def taken() -> object:
        class A(Process):
            undo: int = 1  # type: ignore[assignment]

        return A

    def never_begun() -> object:
        class A(Process):
            @moves
            def _(self, event: SignedUp) -> None: ...

        return app.process(key="user")(A)

    def no_such_key() -> object:
        class A(Process):
            @starts
            def _(self, event: Paid) -> None: ...

        return app.process(key="user")(A)

    def version_zero() -> object:
        class A(Process, version=0): ...

        return A

    declare("is not an event class", no_event)
    declare("is a command", a_command)
    declare("state of an aggregate", an_aggregates_event)
    declare("awaits or yields nothing", awaiting)
    declare("two methods take SignedUp", twice)
    declare("give it a default", without_default)
    declare("give yours another name", taken)
    declare("nothing begins it", never_begun)
    declare(r"key='user' is not one of the fields of Paid \(receipt, of\)", no_such_key)
    declare("version=0", version_zero)
    declare("ensue makes the objects", SignUp)
    app.process(key="user")(SignUp)
    with pytest.raises(DuplicateName, match="both version 1"):
        app.process(key="user")(SignUp)
    declare("no option concurrency", lambda: app.process(key="user", concurrency=2))  # type: ignore[call-arg]
