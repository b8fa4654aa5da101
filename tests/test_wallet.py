"""Wallets under load: no command is lost among many writers, and no money while processes are killed."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter, defaultdict
from decimal import Decimal
from multiprocessing import Pipe
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from ensue import App
from ensue.aggregates import Repository
from examples.wallet.app import bank
from examples.wallet.wallet import (
    InsufficientFunds,
    MoneyDeposited,
    TransferCompleted,
    TransferReceived,
    TransferRefused,
    TransferReturned,
    TransferSent,
    Wallet,
    WalletError,
    in_transit,
)
from tests.banking import Bank, Rush, Tally
from tests.patience import until_sync
from tests.processes import Crew, crew

# --- the wallet by itself


def wallet(id: str, balance: int) -> Wallet:
    made = Wallet(id)
    made.open(id)
    if balance:
        made.deposit(Decimal(balance))
    return made


def test_a_wallet_never_holds_less_than_nothing() -> None:
    anna = wallet("anna", 10)
    with pytest.raises(InsufficientFunds):
        anna.withdraw(Decimal(11))
    with pytest.raises(InsufficientFunds):
        anna.send("t", "bert", Decimal(11))
    for amount in (Decimal(0), Decimal(-1)):
        for command in (anna.deposit, anna.withdraw, lambda some: anna.send("t", "bert", some)):
            with pytest.raises(WalletError):
                command(amount)
    anna.withdraw(Decimal(10))
    assert anna.balance == 0


def test_every_command_about_a_transfer_may_come_twice() -> None:
    anna, bert, closed = wallet("anna", 10), wallet("bert", 0), wallet("closed", 0)
    closed.close()
    everybody = [anna, bert, closed]
    for _ in range(2):
        anna.send("t1", "bert", Decimal(4))
        anna.send("t2", "closed", Decimal(5))
        assert anna.balance == 1
        assert in_transit(everybody) == 9
    for _ in range(2):
        bert.receive("t1", "anna", Decimal(4))
        closed.receive("t2", "anna", Decimal(5))
        assert bert.balance == 4
        assert closed.balance == 0
        assert in_transit(everybody) == 5
    for _ in range(2):
        anna.complete("t1")
        anna.take_back("t2", "it is closed")
        assert anna.balance == 6
        assert in_transit(everybody) == 0
    assert not anna.outgoing


def test_a_wallet_is_not_closed_before_its_money_has_a_place() -> None:
    anna = wallet("anna", 10)
    anna.send("t", "bert", Decimal(10))
    with pytest.raises(WalletError):
        anna.close()
    anna.complete("t")
    anna.close()
    with pytest.raises(WalletError):
        anna.deposit(Decimal(1))


# --- many writers on one aggregate

COMMANDS = 313
"""Of each of 32 writers: ten thousand altogether."""


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_many_writers_on_one_aggregate_in_postgres(postgres_url: str, schema: str) -> None:
    rush(Rush(postgres_url, schema, COMMANDS), [8, 8, 8, 8])


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_many_writers_on_one_aggregate_in_sqlite(tmp_path: Path) -> None:
    rush(Rush(f"sqlite:///{tmp_path / 'log.db'}", "ensue", COMMANDS), [16, 16])


def rush(plan: Rush, processes: list[int]) -> None:
    """Let so many writers in each process have their commands carried out, and see that each of them counts.

    Every other process runs them in an event loop, the others in threads.
    """
    began = time.monotonic()
    app, tills = plan.tills()
    app.migrate()
    with crew() as hired:
        ears = []
        for number, writers in enumerate(processes):
            ours, theirs = Pipe()
            hired.start(plan.write_async if number % 2 else plan.write, number * 1000, writers, theirs)
            theirs.close()
            ears.append(ours)
        tallies: list[Tally] = [tally for ours in ears for tally in ours.recv()]
    accepted, refused, total, conflicts = (sum(column) for column in zip(*tallies, strict=True))
    print(f"{accepted} accepted, {refused} refused, {conflicts} conflicts in {time.monotonic() - began:.1f} s")
    assert accepted + refused == sum(processes) * plan.commands
    assert conflicts > 0
    till = tills.get("the only one")
    assert (till.version, till.total) == (accepted, total)
    assert tills.get("the only one", at_version=accepted).total == total
    history = tills.history("the only one")
    assert [change.version for change in history] == list(range(1, accepted + 1))
    before = 0
    for change in history:
        before += change.recorded.event.amount
        assert change.recorded.event.total == before >= 0, f"version {change.version} was decided on an older state"


# --- transfers

USERS = 3
KILLS = 30


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_no_money_is_lost_or_made_in_postgres(postgres_url: str, schema: str) -> None:
    transfer(Bank(postgres_url, schema, wallets=10, transfers=400))


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_no_money_is_lost_or_made_in_sqlite(tmp_path: Path) -> None:
    transfer(Bank(f"sqlite:///{tmp_path / 'log.db'}", "ensue", wallets=10, transfers=400))


def transfer(plan: Bank) -> None:
    """Kill workers and users while money moves, and count it all the time."""
    rng = random.Random(2026)
    app, wallets = bank(plan.url, plan.schema)
    app.migrate()
    plan.open(Decimal(1000))
    moments = list[Decimal]()

    def settled() -> bool:
        """Count the money at this moment; tell whether it is all in wallets."""
        everybody = plan.look(wallets)
        moving = in_transit(everybody)
        moments.append(moving)
        assert sum(each.balance for each in everybody) + moving == 1000 * plan.wallets
        return not any(each.outgoing for each in everybody)

    with crew() as hired:
        began = time.time()
        users = [hired.start(plan.send, user, began) for user in range(USERS)]
        workers = [hired.start(plan.work) for _ in range(2)]
        for kill in sorted(rng.uniform(0, plan.seconds) for _ in range(KILLS)):
            while time.time() < began + kill:
                settled()
            if rng.random() < 0.3:
                user = rng.randrange(USERS)
                users[user] = replaced(hired, users[user], plan.send, user, began)
            else:
                worker = rng.randrange(len(workers))
                workers[worker] = replaced(hired, workers[worker], plan.work)
        until_sync(lambda: settled() and not any(user.is_alive() for user in users), "users are done", seconds=90)
        until_sync(settled, "all money has arrived", seconds=30)
        assert [user.exitcode for user in users] == [0] * USERS
        assert [hired.stop(worker) for worker in workers] == [0, 0]
    print(f"{len(moments)} moments, in {sum(map(bool, moments))} of them money was in transit, at most {max(moments)}")
    assert any(moments)
    assert moments[-1] == 0
    check(app, wallets, plan)


def replaced(hired: Crew, process: BaseProcess, *program: object) -> BaseProcess:
    """Kill a process, unless it has just ended, and start another in its place."""
    process.kill()
    process.join(30)
    assert process.exitcode in (0, -signal.SIGKILL)
    return hired.start(*program)


def check(app: App, wallets: Repository[Wallet], plan: Bank) -> None:
    """Go through the log: each transfer was carried out once, and the balances say the same."""
    happened = defaultdict[type, Counter[str]](Counter)
    balances = Counter[str]()
    for recorded in app.read():
        event, id = recorded.event, str(recorded.stream).removeprefix("Wallet-")
        if hasattr(event, "transfer"):
            happened[type(event)][event.transfer] += 1
        if isinstance(event, MoneyDeposited | TransferReceived | TransferReturned):
            balances[id] += event.amount  # type: ignore[assignment]
        elif isinstance(event, TransferSent):
            balances[id] -= event.amount  # type: ignore[assignment]
    sent = happened[TransferSent]
    print(f"{len(sent)} transfers, of which {len(happened[TransferReturned])} came back")
    assert len(sent) > plan.transfers
    assert all(count == 1 for counts in happened.values() for count in counts.values()), "something was done twice"
    assert happened[TransferReceived] + happened[TransferRefused] == sent
    assert happened[TransferCompleted] == happened[TransferReceived]
    assert happened[TransferReturned] == happened[TransferRefused]
    assert happened[TransferReturned]
    assert {id: wallets.get(id).balance for id in plan.ids} == {id: balances[id] for id in plan.ids}
    assert app.operations.dead_letters() == []
