"""The application: its log, its wallets, and what follows when money is sent."""

from __future__ import annotations

import os

from ensue import App, Snapshots
from ensue.aggregates import Repository

from .transfers import carry_transfers
from .wallet import Wallet


def bank(url: str, schema: str = "ensue") -> tuple[App, Repository[Wallet]]:
    """Make the application on a database of one's choice."""
    app = App("wallets", url, schema=schema, migrate=True)
    wallets = app.repository(Wallet, snapshots=Snapshots(every=100))
    carry_transfers(app, wallets)
    return app, wallets


app, wallets = bank(os.environ.get("WALLET_URL", "sqlite:///wallet.db"))
