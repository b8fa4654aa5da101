"""Makes the tables of its log, and what keeps messages at the broker: `python -m examples.shop.stock.migrate`."""

from __future__ import annotations

import asyncio

from .app import app

if __name__ == "__main__":
    app.migrate()
    asyncio.run(app.prepare_receivers())
