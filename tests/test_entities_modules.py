"""Entities in modules and on the map: what they say that they raise."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import models
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, mapped_column

import tests.django_settings  # noqa: F401 Django is configured when models are defined
from ensue import App, DomainEvent, IntegrationEvent, SourcedEvent
from ensue.app.mapping import mermaid, svg
from ensue.errors import BoundaryCrossed, DeclarationError, EventValueError
from ensue.integrations import django as for_django
from ensue.integrations import sqlalchemy as for_sqlalchemy


class Billed(DomainEvent, name="test.entities_modules.billed"):
    pass


class Paid(IntegrationEvent, version=1, name="test.entities_modules.paid"):
    pass


class Shipped(IntegrationEvent, version=1, name="test.entities_modules.shipped"):
    pass


class Deposited(SourcedEvent, name="test.entities_modules.deposited"):
    pass


class Base(orm.DeclarativeBase):
    pass


class Invoice(for_sqlalchemy.Entity, Base):
    __tablename__ = "entities_modules_invoices"
    __aggregate__ = "invoice"
    __raises__ = (Billed, Paid)
    id: Mapped[int] = mapped_column(primary_key=True)


class Note(for_sqlalchemy.Entity, Base):
    """One that does not say what it raises."""

    __tablename__ = "entities_modules_notes"
    id: Mapped[int] = mapped_column(primary_key=True)


class Receipt(for_django.Entity, models.Model):
    __aggregate__ = "receipt"
    __raises__ = (Billed, Paid)

    class Meta:
        app_label = "entities_modules"


ENTITIES = [
    pytest.param(Invoice, for_sqlalchemy.entities, id="sqlalchemy"),
    pytest.param(Receipt, for_django.entities, id="django"),
]


@pytest.fixture
def app(schema: str) -> App:
    return App("entities_modules", f"memory://{schema}", migrate=True)


@pytest.mark.parametrize("cls, entities", ENTITIES)
def test_an_entity_is_owned_with_what_it_raises(app: App, cls: Any, entities: Any) -> None:
    billing = app.module("billing")
    assert billing.owns(cls) is cls
    assert [app.ownership.owner(each) for each in (cls, Billed, Paid, Shipped)] == ["billing"] * 3 + [None]
    with pytest.raises(DeclarationError, match="two owners"):
        app.module("shipping").owns(cls)
    (part,) = app.map().parts
    assert (part.name, part.how, part.module) == (cls.__aggregate__, "entity", "billing")
    assert part.emits == (Billed.__type__, Paid.__type__)
    assert {each.type: each.module for each in app.map().events} == dict.fromkeys(part.emits, "billing")


@pytest.mark.parametrize("cls, entities", ENTITIES)
def test_an_entity_that_is_declared_needs_nobody_to_own_it(app: App, cls: Any, entities: Any) -> None:
    entities(app, Base if cls is Invoice else cls)
    entities(app, cls)
    assert [(part.name, part.module) for part in app.map().parts] == [(cls.__aggregate__, None)]
    app.module("billing", package=__name__)
    assert [(part.name, part.module) for part in app.map().parts] == [(cls.__aggregate__, "billing")]
    for drawn in (mermaid(app.map()), svg(app.map())):
        assert cls.__aggregate__ in drawn
        assert "entity" in drawn


@pytest.mark.parametrize("cls, entities", ENTITIES)
def test_what_it_raises_of_another_module_crosses(app: App, cls: Any, entities: Any) -> None:
    app.module("shipping").owns(Paid)
    app.module("billing").owns(cls)
    with pytest.raises(BoundaryCrossed) as caught:
        app.migrate()
    assert caught.value.crossings == (
        f"entity '{cls.__aggregate__}' of module 'billing' makes the integration event Paid of module 'shipping'",
    )
    assert app.map().parts[0].crosses == (Paid.__type__,)


@pytest.mark.parametrize("cls, entities", ENTITIES)
def test_it_raises_only_what_it_says(app: App, cls: Any, entities: Any) -> None:
    entities(app, cls)
    entity = cls()
    entity.raise_event(Billed())
    with pytest.raises(EventValueError, match=rf"{cls.__name__} does not say that it raises Shipped.*__raises__"):
        entity.raise_event(Shipped())
    for_sqlalchemy.entities(app, Note)
    Note().raise_event(Shipped())


def test_what_cannot_be_raised(app: App) -> None:
    wrong: Any
    for wrong in ((Deposited,), Billed, [Billed], (int,), (DomainEvent,)):
        cls = type("Odd", (for_sqlalchemy.Entity,), {"__raises__": wrong})
        with pytest.raises(DeclarationError, match=r"Odd\.__raises__ is .*: a tuple of domain and integration events"):
            app.module("billing").owns(cls)
