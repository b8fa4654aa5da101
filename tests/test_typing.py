"""What a type checker says with its default settings. The strict ones are for `make check`, over tests/typing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src"

RECORDING = """\
import sqlite3
import aiosqlite
from ensue import App, DomainEvent

class Noted(DomainEvent):
    text: str

app = App("typing", "memory://typing")

def sync(connection: sqlite3.Connection) -> int:
    app.record(Noted(text="a"), via="sqlite:///log.db")  # error
    app.record(Noted(text="a"), via=connection, stream=7)  # error
    app.record("a", via=connection)  # error
    Noted(txt="a")  # error
    app.record(Noted(text="a"), via=connection)
    return app.record(Noted(text="a"), via=connection).position

async def asynchronous(connection: aiosqlite.Connection) -> int:
    app.record(Noted(text="a"), via=connection)  # error: it is never awaited, and nothing is recorded
    return (await app.record(Noted(text="a"), via=connection)).position
"""


AGGREGATES = """\
import aiosqlite
from dataclasses import dataclass
from ensue import Aggregate, App, Decider, DomainEvent, SourcedEvent, evolves

app = App("typing", "memory://typing")

class Deposited(SourcedEvent):
    amount: int

class Noted(DomainEvent):
    text: str

class Wallet(Aggregate):
    balance: int = 0

    def deposit(self, amount: int) -> None:
        self.apply(Deposited(amount=amount))
        self.apply(Noted(text="a"))  # error: not an event-sourced event

    @evolves
    def _(self, event: Deposited) -> None:
        self.balance += event.amount

    @evolves  # error: not an event-sourced event
    def noted(self, event: Noted) -> None: ...

    @evolves  # error: not an event
    def counted(self, event: int) -> None: ...

@dataclass(frozen=True)
class Deposit:
    amount: int

@dataclass(frozen=True)
class Ship:
    to: str

def decide(command: Deposit, state: int) -> list[Deposited]:
    return [Deposited(amount=command.amount)]

def evolve(state: int, event: Deposited) -> int:
    return state + event.amount

wallets = app.repository(Wallet)
purses = app.repository(Decider(name="purse", initial=0, decide=decide, evolve=evolve))

def sync() -> int:
    with wallets.edit("w-1") as wallet:
        wallet.deposit(1)
        wallet.ship("home")  # error: no such command
        wallet.deposit("1")  # error: another type
    wallets.save("w-1")  # error: not a wallet
    purses.handle("p-1", Ship("home"))  # error: not a command of purses
    wallets.edit("w-1", lambda wallet: wallet.balance, retry=3)
    return wallets.get("w-1").balance + purses.handle("p-1", Deposit(1))

async def deposit(wallet: Wallet) -> int:
    wallet.deposit(1)
    return wallet.balance

async def asynchronous(connection: aiosqlite.Connection) -> int:
    with wallets.edit("w-1", via=connection):  # error: it has to be awaited
        pass
    wallets.edit("w-1", deposit, retry=3)  # error: it is never awaited
    wallets.save(Wallet(), via=connection)  # error: it is never awaited
    wallets.get("w-1", via=connection).balance  # error: it has to be awaited
    wallets.save_async(Wallet())  # error: it is never awaited
    wallets.get_async("w-1").balance  # error: it has to be awaited
    (await wallets.history_async("w-1"))[0].balance  # error: a change
    (await purses.get_async("p-1")).balance  # error: a number
    await wallets.save_async(await wallets.get_async("w-1"))
    async with wallets.edit("w-1", via=connection) as wallet:
        wallet.deposit(1)
    async with wallets.edit("w-1") as wallet:
        wallet.deposit(1)
    return await wallets.edit("w-1", deposit, retry=3) + (await wallets.get("w-1", via=connection)).balance
"""

GIVEN = """\
from dataclasses import dataclass
from ensue import Aggregate, App, Decider, DomainEvent, SourcedEvent, evolves
from ensue.testing import given

app = App("typing", "memory://typing")

class Deposited(SourcedEvent):
    amount: int

class Shipped(SourcedEvent):
    pass

class Noted(DomainEvent):
    text: str

class Refused(Exception):
    pass

class Wallet(Aggregate):
    balance: int = 0

    def deposit(self, amount: int) -> None:
        self.apply(Deposited(amount=amount))

    @evolves
    def _(self, event: Deposited) -> None:
        self.balance += event.amount

@dataclass(frozen=True)
class Deposit:
    amount: int

@dataclass(frozen=True)
class Ship:
    to: str

def decide(command: Deposit, state: int) -> list[Deposited]:
    return [Deposited(amount=command.amount)]

def evolve(state: int, event: Deposited) -> int:
    return state + event.amount

purse = Decider(name="purse", initial=0, decide=decide, evolve=evolve)

def aggregates() -> int:
    given(Wallet, Noted(text="a"))  # error: not an event-sourced event
    given(Wallet).when(lambda wallet: wallet.ship("home"))  # error: no such command
    given(Wallet).when(lambda wallet: wallet.deposit("1"))  # error: another type
    given(Wallet).when(Deposit(1))  # error: no function of the wallet
    given(Wallet).when(Wallet.balance)  # error: no function of the wallet
    given(Wallet, stream="wallet-1")  # error: it has an id
    given(Wallet).when(lambda wallet: wallet.deposit(1)).then(Noted(text="a"))  # error: not an event-sourced event
    given(Wallet).when(lambda wallet: wallet.deposit(1)).then(Deposited)  # error: a class
    given(Wallet).when(lambda wallet: wallet.deposit(1)).then(Refused, Deposited(amount=1))  # error: both
    given(Wallet).when(lambda wallet: wallet.deposit(1)).then(Refused)
    decided = given(Wallet, Deposited(amount=1), id="w-1").when(lambda wallet: wallet.deposit(1))
    return decided.then(Deposited(amount=1)).state.balance

def deciders() -> int:
    given(purse, Shipped())  # error: not an event of the purse
    given(purse).when(Ship("home"))  # error: not a command of the purse
    given(purse).when(lambda state: state)  # error: not a command of the purse
    given(purse).when(Deposit(1)).then(Shipped())  # error: not an event of the purse
    given(purse).when(Deposit(1)).then(Refused)
    return given(purse, Deposited(amount=1)).when(Deposit(1)).then(Deposited(amount=1)).state

async def handlers() -> None:
    given(app, "a")  # error: no event
    given(app).when(Noted)  # error: no event
    given(app).when(Noted(text="a")).then(Refused)  # error: no event
    given(app).when(Noted(text="a")).then(parked=1)  # error: no text
    given(app).when_async(Noted(text="a"))  # error: it is never awaited
    given(app, Deposited(amount=1), stream="wallet-1").when(Noted(text="a")).then(Noted(text="b"), parked="c")
    (await given(app).when_async(Noted(text="a"))).then()
"""


@pytest.fixture(params=[RECORDING, AGGREGATES, GIVEN], ids=["recording", "aggregates", "given"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    file = tmp_path / "program.py"
    file.write_text(request.param)
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(SOURCE)], "pythonVersion": "3.11"}))
    return file


def wrong(program: Path) -> set[int]:
    """Return the lines that must be errors."""
    return {number for number, line in enumerate(program.read_text().splitlines(), 1) if "# error" in line}


def check(program: Path, *command: str) -> set[int]:
    """Return the lines in which a checker finds an error."""
    done = subprocess.run(
        [sys.executable, "-m", *command, program.name],
        cwd=program.parent,
        env={**os.environ, "MYPYPATH": str(SOURCE), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return {int(line) for line in re.findall(r"program\.py:(\d+):.*error", done.stdout)}


def test_mypy_sees_what_is_wrong(program: Path) -> None:
    assert check(program, "mypy", "--config-file=", "--cache-dir", str(program.parent / "cache")) == wrong(program)


def test_pyright_sees_what_is_wrong(program: Path) -> None:
    assert check(program, "pyright", "--pythonpath", sys.executable) == wrong(program)
