"""Deposits, two transfers of which one comes back, and the history of a wallet: `python -m examples.wallet`."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from uuid import uuid4

from ensue import context

from .app import app, wallets
from .wallet import TransferCompleted, TransferReturned

waiting: set[str] = set()
all_arrived = asyncio.Event()


@app.on(TransferCompleted, TransferReturned)
async def announce(event: TransferCompleted | TransferReturned) -> None:
    """Say what became of a transfer."""
    if event.transfer in waiting:
        print("arrived" if isinstance(event, TransferCompleted) else f"returned: {event.reason}")
        waiting.discard(event.transfer)
    if not waiting:
        all_arrived.set()


def open_wallet(id: str, owner: str) -> None:
    """Open a wallet, unless an earlier run has done it."""
    with wallets.edit(id, create=True) as wallet:
        if wallet.version == 0:
            wallet.open(owner)


def send(sender: str, receiver: str, amount: Decimal) -> None:
    """Begin a transfer: the money leaves the sender, the rest follows from the event."""
    transfer = str(uuid4())
    waiting.add(transfer)
    wallets.edit(sender, lambda wallet: wallet.send(transfer, receiver, amount), retry=3)
    print(f"{sender} sends {amount} to {receiver}")


def show(id: str) -> None:
    """Print everything that has ever happened to a wallet, and what it changed."""
    print(f"the history of {id}:")
    for change in wallets.history(id):
        parts = [f"{name}: {before} → {after}" for name, (before, after) in change.diff.items() if name in SHOWN]
        print(f"{change.version:4}  {type(change.event).__name__:18} {change.actor or '-':6} {', '.join(parts)}")


SHOWN = ("owner", "is_open", "balance")


async def main() -> None:
    """Move some money, and run the worker until it has arrived."""
    app.migrate()
    with context(actor="teller"):
        open_wallet("anna", "Anna")
        open_wallet("bert", "Bert")
        wallets.edit("anna", lambda anna: anna.deposit(Decimal(100)))
        wallets.edit("anna", lambda anna: anna.withdraw(Decimal(10)))
    with context(actor="anna"):
        send("anna", "bert", Decimal(30))
        send("anna", "nobody", Decimal(20))
    async with app.running():
        await all_arrived.wait()
    for id in ("anna", "bert"):
        print(f"{id} holds {wallets.get(id).balance}")
    show("anna")


if __name__ == "__main__":
    asyncio.run(main())
