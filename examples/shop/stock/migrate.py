"""Makes the tables of its log; it has no others: `python -m examples.shop.stock.migrate`."""

from __future__ import annotations

from .app import app

if __name__ == "__main__":
    app.migrate()
