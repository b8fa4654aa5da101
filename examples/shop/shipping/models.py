"""The shipments' own table."""

from __future__ import annotations

import datetime as dt
from uuid import UUID

from sqlalchemy import DateTime
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The tables of shipping."""


class Parcel(Base):
    """What is known of an order, until the parcel can go."""

    __tablename__ = "parcels"

    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    paid: Mapped[bool] = mapped_column(default=False)
    reserved: Mapped[bool] = mapped_column(default=False)
    shipped_at: Mapped[dt.datetime | None] = mapped_column(DateTime(timezone=True))
