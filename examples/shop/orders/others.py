"""Integration events of payments, shipping, stock.

Made by `ensue contracts import`: make it again instead of changing it.
"""

from __future__ import annotations

from uuid import UUID

from ensue import IntegrationEvent


class OrderShipped(IntegrationEvent, version=1, key="order_id", service="shipping"):
    """A parcel is on its way to the customer."""

    order_id: UUID


class PaymentRefused(IntegrationEvent, version=1, key="order_id", service="payments"):
    """There is no money for an order."""

    order_id: UUID
    reason: str


class StockRefused(IntegrationEvent, version=1, key="order_id", service="stock"):
    """There are not enough goods for an order."""

    order_id: UUID
    reason: str
