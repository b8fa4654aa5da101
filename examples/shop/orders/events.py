"""What orders tells other services."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from ensue import IntegrationEvent


class OrderPlaced(IntegrationEvent, version=1, key="order_id"):
    """A customer wants something."""

    order_id: UUID
    customer: str
    item: str
    quantity: int
    amount: Decimal


class OrderCancelled(IntegrationEvent, version=1, key="order_id"):
    """Nothing comes of an order: what was kept for it is free again."""

    order_id: UUID
    item: str
    reason: str
