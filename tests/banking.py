"""The programs of the wallet tests: writers on one aggregate, users who send money, and workers."""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any, NamedTuple

import psycopg

from ensue import Aggregate, App, Snapshots, SourcedEvent, errors, evolves
from ensue.aggregates import Repository
from examples.wallet.app import bank
from examples.wallet.wallet import InsufficientFunds, Wallet

# --- many writers on one aggregate


class Counted(SourcedEvent, name="test.banking.counted"):
    amount: int
    total: int
    """What the writer took the total to be then: it shows when somebody else's command was overlooked."""


class Overdrawn(Exception):
    pass


class Till(Aggregate, name="test.banking.Till"):
    total: int = 0

    def add(self, amount: int) -> None:
        if self.total + amount < 0:
            raise Overdrawn
        self.apply(Counted(amount=amount, total=self.total + amount))

    @evolves
    def _(self, event: Counted) -> None:
        self.total = event.total


class Tally(NamedTuple):
    """What came of some commands."""

    accepted: int
    refused: int
    total: int
    conflicts: int


@dataclass(frozen=True)
class Rush:
    """Many writers who all want the same till."""

    url: str
    schema: str
    commands: int
    """Of each writer."""

    def tills(self) -> tuple[App, Repository[Till]]:
        app = App("tills", self.url, schema=self.schema, migrate=True)
        return app, app.repository(Till, cache=1, snapshots=Snapshots(every=250))

    def write(self, seed: int, writers: int, told: Connection) -> None:
        """Run some writers, one thread each, and tell what came of their commands."""
        _, tills = self.tills()
        tallies: list[Tally] = []
        threads = [
            Thread(target=lambda n=n: tallies.append(self._write(tills, n))) for n in range(seed, seed + writers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        told.send(tallies)

    def write_async(self, seed: int, writers: int, told: Connection) -> None:
        """Run some writers, one task each, and tell what came of their commands."""
        _, tills = self.tills()

        async def work() -> list[Tally]:
            return await asyncio.gather(*(self._write_async(tills, n) for n in range(seed, seed + writers)))

        told.send(asyncio.run(work()))

    def _write(self, tills: Repository[Till], seed: int) -> Tally:
        writer = _Writer()
        for amount in self._amounts(seed):
            with writer.counting(amount):
                tills.edit("the only one", partial(writer.add, amount), create=True, retry=1000)
        return writer.tally(self.commands)

    async def _write_async(self, tills: Repository[Till], seed: int) -> Tally:
        writer = _Writer()
        for amount in self._amounts(seed):

            async def add(till: Till, amount: int = amount) -> None:
                writer.add(amount, till)

            with writer.counting(amount):
                await tills.edit("the only one", add, create=True, retry=1000)
        return writer.tally(self.commands)

    def _amounts(self, seed: int) -> Iterator[int]:
        rng = random.Random(seed)
        return (rng.randint(-10, 10) for _ in range(self.commands))


class _Writer:
    """Counts what comes of its commands."""

    def __init__(self) -> None:
        self._accepted = self._refused = self._total = self._attempts = 0

    def add(self, amount: int, till: Till) -> None:
        self._attempts += 1
        till.add(amount)

    @contextmanager
    def counting(self, amount: int) -> Iterator[None]:
        try:
            yield
        except Overdrawn:
            self._refused += 1
        else:
            self._accepted, self._total = self._accepted + 1, self._total + amount

    def tally(self, commands: int) -> Tally:
        return Tally(self._accepted, self._refused, self._total, self._attempts - commands)


# --- transfers


@dataclass(frozen=True)
class Bank:
    """Wallets, and users who send money between them."""

    url: str
    schema: str
    wallets: int
    transfers: int
    """Of each user."""
    seconds: float = 12.0
    """Over which the users spread them."""

    @property
    def ids(self) -> list[str]:
        return [f"w{number}" for number in range(self.wallets)]

    @property
    def receivers(self) -> list[str]:
        """All wallets, one that is closed, and one that was never opened."""
        return [*self.ids, "closed", "nobody"]

    def open(self, amount: Decimal) -> None:
        """Open the wallets, with so much money in each."""
        _, wallets = bank(self.url, self.schema)
        for id in [*self.ids, "closed"]:
            with wallets.edit(id, create=True) as wallet:
                wallet.open(f"the owner of {id}")
                if id == "closed":
                    wallet.close()
                else:
                    wallet.deposit(amount)

    def send(self, user: int, began: float) -> None:
        """Order the transfers of one user. Whoever is killed begins again, with the same transfers."""
        _, wallets = bank(self.url, self.schema)
        rng = random.Random(user)
        for number in range(self.transfers):
            sender, amount = rng.choice(self.ids), Decimal(rng.randint(1, 5000)) / 100
            receiver = rng.choice([id for id in self.receivers if id != sender])
            transfer = f"{user}.{number}"
            time.sleep(max(0.0, began + number * self.seconds / self.transfers - time.time()))
            with suppress(InsufficientFunds):
                wallets.edit(sender, lambda wallet: wallet.send(transfer, receiver, amount), retry=1000)

    def work(self) -> None:
        logging.disable(logging.ERROR)  # workers are killed: failures are no news
        bank(self.url, self.schema)[0].run(lease=0.6)

    @contextmanager
    def snapshot(self) -> Iterator[Any]:
        """Lend a connection in a transaction that sees one moment."""
        if self.url.startswith("postgres"):
            with psycopg.connect(self.url) as connection:
                connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                yield connection
        else:
            with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
                connection.execute("begin")
                yield connection

    def look(self, wallets: Repository[Wallet]) -> list[Wallet]:
        """Return all wallets that there are, as they are at one moment."""
        found = list[Wallet]()
        with self.snapshot() as connection:
            for id in self.receivers:
                try:
                    found.append(wallets.get(id, via=connection))
                except errors.AggregateNotFound:
                    assert id == "nobody"
        return found
