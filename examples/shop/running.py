"""Run the shop: migrate, start the workers, place orders, kill if asked to, and wait until everything has followed."""

from __future__ import annotations

import http.client
import json
import random
import socket
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from .auditing import Auditor, Books
from .processes import Process

SERVICES = ("orders", "payments", "stock", "shipping")
NEWCOMER = "loyalty"
ITEMS = ("lamp", "chair", "desk")
CUSTOMERS = ("ada", "bert", "cleo", "dora")
PATIENCE = 60.0
"""Seconds that an answer, or the last of what has to follow, may take."""
Wanted = dict[str, Any]
"""What a customer asks for: customer, item, quantity."""


class Shop:
    """The processes of the shop, and its customers."""

    def __init__(self, folder: Path, environment: dict[str, str], chance: random.Random, kills: int) -> None:
        self._folder = folder
        self._environment = environment
        self._chance = chance
        self.port = free_port()
        """Where customers place orders."""
        self._running: list[Process] = []
        self.kills_left = kills
        self._next_kill = 0.0

    # --- processes

    def carry_out(self, *programs: tuple[str, ...]) -> None:
        """Run programs side by side, and wait for them."""
        started = [Process(each[0].removeprefix("examples.shop."), each, *self._where) for each in programs]
        for each in started:
            each.finish()

    def keep_running(self, name: str, *program: str) -> None:
        """Start a program that goes on until the shop closes."""
        self._running.append(Process(name, program, *self._where))

    def migrate(self, *services: str) -> None:
        """Make the tables of these services, and prepare what they receive."""
        self.carry_out(*((f"examples.shop.{each}.migrate",) for each in services))

    def open(self, *services: str) -> None:
        """Migrate these services, and start their workers."""
        self.migrate(*services)
        for each in services:
            self.keep_running(each, "ensue.cli", "run", f"examples.shop.{each}.app:app", "--lease", "1")

    def open_web(self) -> None:
        """Let customers in."""
        self.keep_running("orders.web", "examples.shop.orders.web", str(self.port))

    @property
    def _where(self) -> tuple[Path, dict[str, str]]:
        return self._folder, self._environment

    def close(self) -> None:
        """Stop all, and wait until they have finished what they had in hand."""
        for each in self._running:
            each.ask_to_stop()
        for each in self._running:
            each.wait()

    def mind(self) -> None:
        """See that nobody has ended by himself, and from time to time kill one, if there are kills left."""
        for each in self._running:
            each.check()
        if self.kills_left and time.monotonic() > self._next_kill:
            self._chance.choice(self._running).kill()
            self.kills_left -= 1
            self._next_kill = time.monotonic() + self._chance.uniform(0.1, 0.8)

    # --- customers

    def place(self, wanted: Wanted) -> None:
        """Place an order, as a browser does that asks again under the same id until it has an answer."""
        id = uuid4()
        deadline = time.monotonic() + PATIENCE
        while not self._put(id, wanted):
            if time.monotonic() > deadline:
                raise TimeoutError(f"orders has given no good answer for {PATIENCE:g} s")
            self.mind()
            time.sleep(0.05)

    def _put(self, id: UUID, wanted: Wanted) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("PUT", f"/orders/{id}", json.dumps(wanted))
            return connection.getresponse().status in (200, 201)
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


@contextmanager
def shop(folder: Path, environment: dict[str, str], chance: random.Random, kills: int) -> Generator[Shop]:
    """Open a shop without services; close it at the end."""
    opened = Shop(folder, environment, chance, kills)
    try:
        yield opened
    finally:
        opened.close()


def run(orders: int, kills: int, seed: int, folder: Path, environment: dict[str, str]) -> tuple[Books, list[str]]:
    """Run it with so many orders; return the books, and what does not add up in the end."""
    chance = random.Random(seed)
    wanted = [wish(chance) for _ in range(orders)]
    auditor = Auditor(environment["SHOP_DATABASE"])
    with shop(folder, environment, chance, kills) as opened:
        if environment["SHOP_BROKER"].startswith("amqp"):
            opened.migrate(NEWCOMER)  # RabbitMQ keeps a message for those only who have a queue by then
        opened.open(*SERVICES)
        opened.carry_out(("examples.shop.stock.deliver", *deliveries(wanted)))
        opened.open_web()
        for number, each in enumerate(wanted):
            if number == orders // 2:
                opened.open(NEWCOMER)  # it hears of all that was before, too: the broker has it
            opened.place(each)
            opened.mind()
        return follow(opened, auditor)


def follow(opened: Shop, auditor: Auditor) -> tuple[Books, list[str]]:
    """Wait until the books add up; return what does not if that takes too long."""
    deadline = time.monotonic() + PATIENCE
    while True:
        opened.mind()
        books = auditor.look()
        faults = books.faults()
        if not opened.kills_left and (not faults or time.monotonic() > deadline):
            return books, faults
        time.sleep(0.1)


def wish(chance: random.Random) -> Wanted:
    """Think of something that a customer might want."""
    return {"customer": chance.choice(CUSTOMERS), "item": chance.choice(ITEMS), "quantity": chance.randint(1, 3)}


def deliveries(wanted: list[Wanted]) -> list[str]:
    """Return what to deliver: less than will be wanted, so that some orders are refused."""
    demand: Counter[str] = Counter()
    for each in wanted:
        demand[each["item"]] += each["quantity"]
    return [f"{item}={count * 2 // 3}" for item, count in demand.items()]


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
