"""A projection with a bug, ruined balances, and their repair while deposits go on: `python -m examples.wallet.repair`.

The balances that the bank's website shows are a projection of the wallets' events. One day a release takes the fee of
a withdrawal twice. The events are right, only the table is wrong: so the code is mended, what was touched since that
day is read again into a copy of the table, compared with the live one, and switched to. Nobody is asked to stop.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

from ensue import App, Recorded
from ensue.aggregates import Repository
from ensue.tables import Table

from .wallet import MoneyDeposited, MoneyWithdrawn, Wallet

WALLETS = [f"w{number:02}" for number in range(20)]
FEE = Decimal(1)


@dataclass
class ShownBalance:
    """What the website shows of one wallet."""

    wallet: str
    cents: int


BALANCES = Table("shown_balances", ShownBalance, key=lambda row: row.wallet)


def release(url: str, *, version: int, fee: Decimal) -> tuple[App, Repository[Wallet]]:
    """Return the application as a release has it: each shows the balances that its code works out."""
    app = App("wallets", url, migrate=True)

    def clear(wallet: str, connection: Any) -> None:
        BALANCES.remove(wallet, via=connection)

    @app.projection(MoneyDeposited, MoneyWithdrawn, tables=BALANCES, version=version, clear=clear)
    def shown_balances(
        event: MoneyDeposited | MoneyWithdrawn, connection: Any, recorded: Recorded[MoneyDeposited | MoneyWithdrawn]
    ) -> None:
        change = event.amount if isinstance(event, MoneyDeposited) else -event.amount - fee
        BALANCES.add(ShownBalance(recorded.key, int(change * 100)), via=connection)

    app.fold("shown_balances")(partial(_folded_balance, fee=fee))
    return app, app.repository(Wallet)


def _folded_balance(
    row: dict[str, Any] | None,
    event: MoneyDeposited | MoneyWithdrawn,
    recorded: Recorded[MoneyDeposited | MoneyWithdrawn],
    fee: Decimal,
) -> dict[str, Any]:
    """Make of the events what the projection makes of them, without a database: for the workers of a cluster."""
    change = event.amount if isinstance(event, MoneyDeposited) else -event.amount - fee
    return {"wallet": recorded.key, "cents": (row["cents"] if row else 0) + int(change * 100)}


def use(wallets: Repository[Wallet], times: int, dice: random.Random) -> None:
    """Let people pay in and take out."""
    for _ in range(times):
        with wallets.edit(dice.choice(WALLETS), create=True) as wallet:
            if wallet.version == 0:
                wallet.open(f"owner of {wallet.id}")
                wallet.deposit(Decimal(1000))
            elif dice.random() < 0.5:
                wallet.deposit(Decimal(dice.randint(1, 50)))
            else:
                wallet.withdraw(Decimal(dice.randint(1, 20)))


def shown(app: App) -> dict[str, int]:
    """Return what the website shows."""
    with app.transaction() as connection:
        return dict(connection.execute("select wallet, cents from shown_balances order by wallet").fetchall())


def folded(app: App) -> dict[str, int]:
    """Work the balances out from the log, without any projection."""
    found: dict[str, int] = {}
    for recorded in app.read(types=[MoneyDeposited, MoneyWithdrawn]):
        event = recorded.event
        change = event.amount if isinstance(event, MoneyDeposited) else -event.amount - FEE
        found[recorded.key] = found.get(recorded.key, 0) + int(change * 100)
    return dict(sorted(found.items()))


def at_rest(app: App) -> None:
    """Wait until the live build has come to the end of the log."""
    while True:
        (live,) = [each for each in app.replays.builds("shown_balances") if each.build.state == "live"]
        if live.reach is not None and live.reach.slowest >= live.head:
            return
        time.sleep(0.05)


async def main() -> None:
    """Tell the story."""
    url, dice = os.environ.get("WALLET_URL", "sqlite:///repair.db"), random.Random(7)

    app, wallets = release(url, version=1, fee=FEE)
    app.migrate()
    async with app.running():
        await asyncio.to_thread(use, wallets, 150, dice)
        await asyncio.to_thread(at_rest, app)
    print(f"release 1: {wrong(app)} of {len(shown(app))} balances are wrong")

    bug = app.log.own.run(app.log.horizon())
    app, wallets = release(url, version=1, fee=2 * FEE)
    async with app.running():
        await asyncio.to_thread(use, wallets, 40, random.Random(8))
        await asyncio.to_thread(at_rest, app)
    print(f"release 2 takes the fee twice: {wrong(app)} balances are wrong")

    mended, _ = release(url, version=2, fee=FEE)
    async with app.running():  # the website and its worker go on
        traffic = asyncio.ensure_future(asyncio.to_thread(use, wallets, 60, dice))
        replays = mended.replays
        build = await asyncio.to_thread(replays.begin, "shown_balances", copied=True)
        await replays.build(build)
        keys = await asyncio.to_thread(lambda: replays.touched("shown_balances", since=bug))
        await replays.repair(build, keys, actor="ann", reason="the fee was taken twice")
        print(f"release 3 reads {len(keys)} wallets again")
        await traffic
        await replays.build(build)
        (difference,) = (await asyncio.to_thread(replays.compare, "shown_balances")).tables
        print(f"{difference.only_live} balances differ, such as that of {difference.sample_live[0][0]}")
    async with mended.running():
        await replays.follow_and_switch(build, actor="ann", reason="the fee was taken twice")
        await asyncio.to_thread(at_rest, mended)
    print(f"switched: {wrong(mended)} of {len(shown(mended))} balances are wrong")


def wrong(app: App) -> int:
    """Count the balances that are not what the log says."""
    right, seen = folded(app), shown(app)
    return sum(right[wallet] != seen.get(wallet) for wallet in right)


if __name__ == "__main__":
    asyncio.run(main())
