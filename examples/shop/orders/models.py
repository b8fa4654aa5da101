"""The orders' own table."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The tables of orders."""


class Order(Base):
    """An order, and what has become of it."""

    __tablename__ = "orders"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    customer: Mapped[str]
    item: Mapped[str]
    quantity: Mapped[int]
    amount: Mapped[Decimal]
    state: Mapped[str] = mapped_column(default="placed")
    """`placed`, then `shipped` or `cancelled`."""
    reason: Mapped[str | None]
    """Why it was cancelled."""
