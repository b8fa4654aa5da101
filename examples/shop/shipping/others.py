"""Integration events of payments, stock.

Made by `ensue contracts import`: make it again instead of changing it.
"""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from ensue import IntegrationEvent


class PaymentAuthorised(
    IntegrationEvent,
    version=1,
    key="order_id",
    service="payments",
):
    """The money for an order is kept, and will be taken."""

    order_id: UUID
    amount: Decimal


class StockReserved(IntegrationEvent, version=1, key="order_id", service="stock"):
    """The goods for an order are kept."""

    order_id: UUID
    item: str
    quantity: int
