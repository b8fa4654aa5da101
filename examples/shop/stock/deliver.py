"""Goods come in: `python -m examples.shop.stock.deliver lamp=30 chair=20`."""

from __future__ import annotations

import sys

from .app import RETRY, items
from .item import Item


def deliver(name: str, quantity: int) -> None:
    """Put goods in."""

    def put(item: Item) -> None:
        item.deliver(quantity)

    items.edit(name, put, create=True, retry=RETRY)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        item, _, quantity = argument.partition("=")
        deliver(item, int(quantity))
