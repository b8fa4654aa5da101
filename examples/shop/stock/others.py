"""Integration events of orders, made by `ensue contracts import`: make it again instead of changing it."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from ensue import IntegrationEvent


class OrderCancelled(IntegrationEvent, version=1, key="order_id", service="orders"):
    """Nothing comes of an order: what was kept for it is free again."""

    order_id: UUID
    item: str
    reason: str


class OrderPlaced(IntegrationEvent, version=1, key="order_id", service="orders"):
    """A customer wants something."""

    order_id: UUID
    customer: str
    item: str
    quantity: int
    amount: Decimal
