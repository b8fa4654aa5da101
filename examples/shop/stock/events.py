"""What stock tells other services. What happens inside, to one item, is in `item.py`."""

from __future__ import annotations

from uuid import UUID

from ensue import IntegrationEvent


class StockReserved(IntegrationEvent, version=1, key="order_id"):
    """The goods for an order are kept."""

    order_id: UUID
    item: str
    quantity: int


class StockRefused(IntegrationEvent, version=1, key="order_id"):
    """There are not enough goods for an order."""

    order_id: UUID
    reason: str
