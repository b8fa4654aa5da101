"""The payments' own table."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The tables of payments."""


class Payment(Base):
    """The one answer to an order."""

    __tablename__ = "payments"

    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    amount: Mapped[Decimal]
    state: Mapped[str]
    """`authorised` or `refused`; `voided` is what was authorised before the order was cancelled."""
