"""What shipping tells other services."""

from __future__ import annotations

from uuid import UUID

from ensue import IntegrationEvent


class OrderShipped(IntegrationEvent, version=1, key="order_id"):
    """A parcel is on its way to the customer."""

    order_id: UUID
