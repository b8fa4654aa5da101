"""Integration events of orders, shipping.

Made by `ensue contracts import`: make it again instead of changing it.
"""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from ensue import IntegrationEvent


class OrderPlaced(IntegrationEvent, version=1, key="order_id", service="orders"):
    """A customer wants something."""

    order_id: UUID
    customer: str
    item: str
    quantity: int
    amount: Decimal


class OrderShipped(IntegrationEvent, version=1, key="order_id", service="shipping"):
    """A parcel is on its way to the customer."""

    order_id: UUID
