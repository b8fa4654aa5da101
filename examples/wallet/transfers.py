"""How money gets from one wallet to another: three reactions, each of which changes one wallet."""

from __future__ import annotations

from ensue import App
from ensue.aggregates import Repository

from .wallet import TransferReceived, TransferRefused, TransferSent, Wallet

RETRY = 20
"""How often a command is repeated when somebody else has changed the wallet meanwhile."""


def carry_transfers(app: App, wallets: Repository[Wallet]) -> None:
    """Declare what follows when money was sent.

    A reaction may be called twice for one event. The wallets remember their transfers, so that does no harm.
    """

    @app.on(TransferSent, start="beginning", partitions=2)
    def deliver(event: TransferSent) -> None:
        def receive(receiver: Wallet) -> None:
            receiver.receive(event.transfer, event.sender, event.amount)

        wallets.edit(event.receiver, receive, create=True, retry=RETRY)

    @app.on(TransferReceived, start="beginning", partitions=2)
    def complete(event: TransferReceived) -> None:
        wallets.edit(event.sender, lambda sender: sender.complete(event.transfer), retry=RETRY)

    @app.on(TransferRefused, start="beginning", partitions=2)
    def take_back(event: TransferRefused) -> None:
        wallets.edit(event.sender, lambda sender: sender.take_back(event.transfer, event.reason), retry=RETRY)
