"""The tables of loyalty."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The tables of loyalty."""


class Purchase(Base):
    """What is known of an order."""

    __tablename__ = "purchases"

    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    customer: Mapped[str | None]
    """None: it was heard that it is shipped, and not yet who has ordered it."""
    points: Mapped[int] = mapped_column(default=0)
    shipped: Mapped[bool] = mapped_column(default=False)


class Account(Base):
    """The points of a customer."""

    __tablename__ = "accounts"

    customer: Mapped[str] = mapped_column(primary_key=True)
    points: Mapped[int] = mapped_column(default=0)
