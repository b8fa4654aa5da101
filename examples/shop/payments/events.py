"""What payments tells other services."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from ensue import IntegrationEvent


class PaymentAuthorised(IntegrationEvent, version=1, key="order_id"):
    """The money for an order is kept, and will be taken."""

    order_id: UUID
    amount: Decimal


class PaymentRefused(IntegrationEvent, version=1, key="order_id"):
    """There is no money for an order."""

    order_id: UUID
    reason: str
