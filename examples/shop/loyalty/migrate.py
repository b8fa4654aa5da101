"""Makes the tables, and what keeps messages at the broker: `python -m examples.shop.loyalty.migrate`."""

from __future__ import annotations

import asyncio

from .app import app, engine
from .models import Base

if __name__ == "__main__":
    Base.metadata.create_all(engine)
    app.migrate()
    asyncio.run(app.prepare_receivers())
