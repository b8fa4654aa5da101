"""The programs of the process storm and the placed kills: orders that are reserved and paid in time, or taken back."""

from __future__ import annotations

import json
import random
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from ensue import App, Backoff, Command, Delivery, DomainEvent, Process, moves, starts

NAMES = "test.fulfilment."


class Placed(DomainEvent, key="order", name=NAMES + "placed"):
    order: int


class Reserved(DomainEvent, key="order", name=NAMES + "reserved"):
    order: int


class Charged(DomainEvent, key="order", name=NAMES + "charged"):
    order: int


class Reminded(DomainEvent, key="order", name=NAMES + "reminded"):
    order: int


class Expired(DomainEvent, key="order", name=NAMES + "expired"):
    order: int


class Reserve(Command, key="order", name=NAMES + "reserve"):
    order: int


class Release(Command, key="order", name=NAMES + "release"):
    order: int


class Charge(Command, key="order", name=NAMES + "charge"):
    order: int


class Refund(Command, key="order", name=NAMES + "refund"):
    order: int


def is_never_paid(order: int) -> bool:
    return order % 4 == 0


def is_patient(order: int) -> bool:
    return order % 4 == 3


class Fulfilment(Process, name="fulfilment"):
    reserved: bool = False
    charged: bool = False
    reminders: int = 0

    @starts
    def _(self, event: Placed) -> None:
        self.send(Reserve(order=event.order), Charge(order=event.order))
        self.undo(Release(order=event.order))
        self.undo(Refund(order=event.order))
        self.after(0.1, Reminded(order=event.order), name="reminder")
        deadline = 60 if is_patient(event.order) else 0.15 + event.order % 10 / 20
        self.after(deadline, Expired(order=event.order), name="deadline")

    @moves
    def _(self, event: Reserved) -> None:
        self.reserved = True
        self.settle()

    @moves
    def _(self, event: Charged) -> None:
        self.charged = True
        self.settle()

    def settle(self) -> None:
        if self.reserved and self.charged:
            self.cancel("deadline")
            self.end()

    @moves
    def _(self, event: Reminded) -> None:
        self.reminders += 1

    @moves
    def _(self, event: Expired) -> None:
        self.compensate()
        self.end("expired")


@dataclass(frozen=True)
class Fulfilling:
    """What all processes have to know."""

    url: str
    schema: str
    journal: Path
    orders: int = 200
    lease: float = 0.6

    def app(self) -> App:
        app = App("fulfilment", self.url, schema=self.schema)
        again = Backoff(first=0.02, most=0.2)
        app.process(key="order", retry=again, batch=20)(Fulfilment)

        @app.handle(Reserve, retry=again)
        def reserve(command: Reserve, delivery: Delivery) -> None:
            self.answer(app, Reserved(order=command.order), delivery)

        @app.handle(Charge, retry=again)
        def charge(command: Charge, delivery: Delivery) -> None:
            if not is_never_paid(command.order):
                self.answer(app, Charged(order=command.order), delivery)

        @app.handle(Release, retry=again)
        def release(command: Release) -> None:
            self.note("release begins", command.order)

        @app.handle(Refund, retry=again)
        def refund(command: Refund) -> None:
            self.note("refund begins", command.order)
            self.pay_back()
            self.note("refund is done", command.order)

        return app

    def answer(self, app: App, event: DomainEvent, delivery: Delivery) -> None:
        """Answer twice, each at some time of its own: so answers come doubled and in any order."""
        for _ in range(2):
            time.sleep(random.uniform(0, 0.03))  # the work
            with app.transaction() as connection:
                app.record(event, via=connection)

    def pay_back(self) -> None:
        """Call the bank, which does not always answer."""
        time.sleep(random.uniform(0, 0.03))  # the work
        if random.random() < 0.1:
            raise ConnectionError("the bank does not answer")

    def note(self, what: str, order: int) -> None:
        """Write down what has happened; lines are whole, whoever is killed."""
        with self.journal.open("ab", buffering=0) as file:
            file.write(f"{order} {what}\n".encode())

    def noted(self) -> dict[int, list[str]]:
        """Return what has happened, by order."""
        found: dict[int, list[str]] = {}
        for line in self.journal.read_text().splitlines():
            order, _, what = line.partition(" ")
            found.setdefault(int(order), []).append(what)
        return found

    def work(self) -> None:
        """Run the worker in this process."""
        self.app().run(lease=self.lease)


def check(app: App, storm: Fulfilling) -> Counter[str]:
    """Assert that every process has ended as declared, with each effect once; return how many in which status."""
    log: dict[int, list[str]] = defaultdict(list)
    for each in app.read():
        log[each.event.order].append(each.type)
    ended: Counter[str] = Counter()
    noted = storm.noted()
    for seen in app.processes.list(limit=1000):
        order = int(seen.key)
        counts = Counter(log[order])
        ended[seen.status] += 1
        state = json.loads(seen.state)
        undone = [type for type in log[order] if type in (Refund.__type__, Release.__type__)]
        if seen.status == "done":
            assert (seen.outcome, undone) == ("done", [])
            assert state["reserved"]
            assert state["charged"]
        else:
            assert (seen.status, seen.outcome) == ("compensated", "expired")
            assert undone == [Refund.__type__, Release.__type__], "each once, the last first"
            begun = noted[order].index("release begins")
            assert "refund is done" in noted[order][:begun], "one begins when the one before it is done"
            assert "refund begins" not in noted[order][begun:], "which is not called again"
            assert counts[Expired.__type__] == 1
        if is_never_paid(order):
            assert seen.status == "compensated"
        if is_patient(order):
            assert seen.status == "done"
        assert counts[Reserve.__type__] == counts[Charge.__type__] == 1, "it has begun once"
        assert counts[Expired.__type__] <= 1
        assert counts[Reminded.__type__] <= 1
        assert state["reminders"] <= counts[Reminded.__type__]
        shown = app.processes.show("fulfilment", seen.key)
        assert shown.timers == ()
        assert len({each.event_id for each in shown.steps}) == len(shown.steps) == seen.steps
        if seen.status == "compensated":  # two workers may fire two timers in any order
            before = log[order][: log[order].index(Expired.__type__)]
            assert state["reminders"] == before.count(Reminded.__type__), "it saw every timer that fired before its end"
    assert app.operations.dead_letters() == []
    return ended
