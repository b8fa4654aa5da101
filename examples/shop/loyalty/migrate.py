"""Makes the tables, the service's own and those of its log: `python -m examples.shop.loyalty.migrate`."""

from __future__ import annotations

from .app import app, engine
from .models import Base

if __name__ == "__main__":
    Base.metadata.create_all(engine)
    app.migrate()
