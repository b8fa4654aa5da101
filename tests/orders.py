"""The entity that the contract suite keeps, in SQLAlchemy and in Django."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import orm
from sqlalchemy.orm import Mapped, mapped_column

from ensue import App
from ensue.integrations import sqlalchemy as for_sqlalchemy
from ensue.testing.suite import Kept
from tests.connections import settle

AGGREGATE, TABLE = "ensue.suite.order", "ensue_suite_orders"


class Base(orm.DeclarativeBase):
    pass


class Order(for_sqlalchemy.Entity, Base):
    __aggregate__ = AGGREGATE
    __tablename__ = TABLE
    id: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int]


class SqlalchemyKeeper:
    """Keeps orders in a session of either colour."""

    def __init__(self, session: Any, app: App) -> None:
        for_sqlalchemy.entities(app, Order)
        self._session = session

    def new(self, id: str, number: int) -> Kept:
        order = Order(id=id, number=number)
        self._session.add(order)
        return order

    async def find(self, id: str) -> Kept:
        found: Order = await settle(self._session.get(Order, id))
        return found

    async def keep(self, order: Kept) -> None:
        await settle(self._session.flush())

    async def remove(self, order: Kept) -> None:
        await settle(self._session.delete(order))
        await settle(self._session.flush())


@cache
def django_order() -> Any:
    """Return the model; Django is configured by then."""
    from django.db import models

    from ensue.integrations.django import Entity

    class DjangoOrder(Entity, models.Model):
        __aggregate__ = AGGREGATE
        id: models.CharField[str, str] = models.CharField(primary_key=True, max_length=100)
        number: models.IntegerField[int, int] = models.IntegerField()

        class Meta:
            app_label = "suite"
            db_table = TABLE

    return DjangoOrder


class DjangoKeeper:
    """Keeps orders over one of `django.db.connections`."""

    def __init__(self, alias: str, app: App) -> None:
        from ensue.integrations.django import entities

        entities(app, django_order())
        self._alias = alias

    def new(self, id: str, number: int) -> Kept:
        order: Kept = django_order()(id=id, number=number)
        return order

    async def find(self, id: str) -> Kept:
        found: Kept = django_order().objects.using(self._alias).get(pk=id)
        return found

    async def keep(self, order: Any) -> None:
        order.save(using=self._alias)

    async def remove(self, order: Any) -> None:
        order.delete(using=self._alias)
