"""The accounts' own table."""

from __future__ import annotations

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The tables of the accounts service."""


class Plan(Base):
    """What one can sign up for."""

    __tablename__ = "plans"

    name: Mapped[str] = mapped_column(primary_key=True)


class Account(Base):
    """Somebody who has signed up. A plan that does not exist is found at the commit, and makes it fail."""

    __tablename__ = "accounts"

    email: Mapped[str] = mapped_column(primary_key=True)
    plan: Mapped[str] = mapped_column(ForeignKey(Plan.name, deferrable=True, initially="DEFERRED"))
