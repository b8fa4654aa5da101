"""What type checkers must see of entities. It is checked, never run: mypy and pyright must accept it.

A line that must be an error says so to both; each of them complains if it finds none.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import assert_type

from django.db import models
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, Session, mapped_column

from ensue import App, DomainEvent
from ensue.integrations import django as on_django
from ensue.integrations import sqlalchemy as on_sqlalchemy


class Placed(DomainEvent, name="test.typing.placed"):
    number: int


class Base(DeclarativeBase):
    pass


class Order(on_sqlalchemy.Entity, Base):
    __tablename__ = "orders"
    __aggregate__ = "order"
    __raises__ = (Placed,)
    id: Mapped[int] = mapped_column(primary_key=True)

    def place(self) -> None:
        self.raise_event(Placed(number=self.id))


def an_entity_can_be_owned(app: App) -> None:
    assert_type(app.module("billing").owns(Order), type[Order])


class Data(MappedAsDataclass, DeclarativeBase):
    pass


class Basket(on_sqlalchemy.Entity, Data):
    __tablename__ = "baskets"
    id: Mapped[int] = mapped_column(primary_key=True)


class Ticket(on_django.Entity, models.Model):
    __aggregate__ = "ticket"
    number: models.IntegerField[int, int] = models.IntegerField()

    class Meta:
        abstract = True

    def place(self) -> None:
        self.raise_event(Placed(number=self.number))


def entities_are_connected(app: App) -> None:
    on_sqlalchemy.entities(app, Base, Basket)
    on_django.entities(app)
    on_django.entities(app, Ticket)
    on_sqlalchemy.entities(app)  # type: ignore[call-arg]
    on_sqlalchemy.entities(Base, app)  # type: ignore[arg-type]
    on_django.entities(app, models.Model)  # type: ignore[arg-type]


def what_may_be_raised(order: Order, basket: Basket, ticket: Ticket) -> None:
    for entity in (order, basket, ticket):
        entity.raise_event(Placed(number=1))
    order.raise_event("placed")  # type: ignore[arg-type]
    order.raise_event(Placed)  # type: ignore[arg-type]
    ticket.raise_event(Placed)  # type: ignore[arg-type]


async def models_keep_their_types(session: Session, later: AsyncSession, ticket: Ticket) -> None:
    assert_type(session.get_one(Order, 1), Order)
    assert_type((await later.scalars(select(Order))).one(), Order)
    assert_type(Order(id=1).id, int)
    assert_type(Basket(id=1).id, int)
    assert_type(ticket.number, int)
    assert_type(ticket.delete(), tuple[int, dict[str, int]])
    ticket.save(using="default", update_fields=["number"])
    await ticket.asave()
