"""Entities of Django: what they raise is recorded with their rows, or not at all."""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connections, models, transaction
from django.db.models.signals import post_save, pre_delete

from ensue import App, DomainEvent, SourcedEvent, context
from ensue.errors import DeclarationError, EventValueError, NotMigrated, SecondAggregate, WrongDatabase
from ensue.integrations.django import Entity, entities
from tests.django_settings import connection_to


class Placed(DomainEvent, name="test.django_entities.placed"):
    number: int


class Deposited(SourcedEvent, name="test.django_entities.deposited"):
    number: int


class Numbered(Entity, models.Model):
    """An abstract model may bring the mixin."""

    number: models.IntegerField[int, int] = models.IntegerField(default=0, unique=True)

    class Meta:
        abstract = True
        app_label = "entities"

    def place(self, number: int) -> None:
        self.number = number
        self.raise_event(Placed(number=number))

    def note(self, number: int) -> None:
        """Raise an event, and change nothing."""
        self.raise_event(Placed(number=number))


class Order(Numbered):
    class Meta:
        app_label = "entities"


class UrgentOrder(Order):
    """One with a table of its own, beside that of `Order`."""

    by: models.CharField[str, str] = models.CharField(default="anna", max_length=10)

    class Meta:
        app_label = "entities"


class LateOrder(Order):
    class Meta:
        app_label = "entities"
        proxy = True


class EagerOrder(Order):
    """One that raises an event whenever it is saved."""

    def save(self, **options: Any) -> None:
        self.note(7)
        super().save(**options)

    class Meta:
        app_label = "entities"
        proxy = True


class StrictOrder(Order):
    """One that checks itself before it is saved."""

    def save(self, **options: Any) -> None:
        self.full_clean(validate_unique=False, validate_constraints=False)
        super().save(**options)

    class Meta:
        app_label = "entities"
        proxy = True


class Line(Entity, models.Model):
    __aggregate__ = "line"

    pk = models.CompositePrimaryKey("order", "article")
    order: models.IntegerField[int, int] = models.IntegerField()
    article: models.CharField[str, str] = models.CharField(max_length=10)

    class Meta:
        app_label = "entities"


Atomic = Callable[..., AbstractContextManager[None]]
TABLES = (Order, UrgentOrder, Line)


@pytest.fixture(params=["sqlite", "postgresql"])
def app(request: pytest.FixtureRequest, schema: str, tmp_path: Path) -> App:
    url = f"sqlite:///{tmp_path}/log.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    app = App("entities", url, schema=schema)
    app.migrate()
    entities(app)
    return app


@pytest.fixture
def using(app: App) -> Iterator[str]:
    """Yield the alias of the database in which the log is."""
    with connection_to(app.log.place.url) as (connection, _):
        alias = connection.alias
        connections.settings[alias] = connection.settings_dict  # for other threads
        with connection.schema_editor() as editor:
            for table in TABLES:
                editor.create_model(table)
        yield alias
        connection.in_atomic_block = False
        connection.rollback()
        with connection.schema_editor() as editor:
            for table in reversed(TABLES):
                editor.delete_model(table)
        del connections.settings[alias]


@pytest.fixture
def several(app: App) -> Iterator[None]:
    """Let transactions of the test change several aggregates."""
    with app.several_aggregates("the test looks at how they are kept apart"):
        yield


@pytest.fixture
async def beside(using: str) -> AsyncIterator[str]:
    """Yield the alias too, and close the connection of Django's thread for async code in the end."""

    def close() -> None:
        connections[using].close()
        del connections[using]

    yield using
    await sync_to_async(close)()


def seen(app: App) -> list[tuple[str | None, int]]:
    return [(each.stream, each.event.number) for each in app.read()]


def numbers(app: App) -> list[int]:
    return [number for _, number in seen(app)]


# -------------------------------------------------------------------------------------------------- when it is recorded


def test_a_new_entity_is_recorded_under_the_key_that_the_database_has_given(app: App, using: str) -> None:
    order = Order()
    order.place(1)
    assert seen(app) == []
    order.save(using=using)
    assert seen(app) == [(f"Order-{order.pk}", 1)]


def test_each_event_is_recorded_once(app: App, using: str) -> None:
    order = Order(pk=1)
    order.place(1)
    order.note(2)
    order.save(using=using)
    order.save(using=using)
    order.note(3)
    order.save(update_fields=[])
    with transaction.atomic(using=using):
        order.place(4)
        order.save()
        order.save()
        order.note(5)
        order.save()
    assert seen(app) == [("Order-1", number) for number in range(1, 6)]
    assert [each.version for each in app.read()] == [1, 2, 3, 4, 5]


def test_a_deleted_entity(app: App, using: str) -> None:
    order = Order.objects.using(using).create(pk=1)
    order.note(1)
    assert order.delete() == (1, {"entities.Order": 1})
    assert seen(app) == [("Order-1", 1)]
    assert not Order.objects.using(using).exists()


def test_managers_save_entities(app: App, using: str) -> None:
    EagerOrder.objects.using(using).create(pk=1)
    EagerOrder.objects.using(using).update_or_create(pk=1, defaults={"number": 3})
    assert seen(app) == [("Order-1", 7), ("Order-1", 7)]


def test_what_receivers_of_signals_raise(app: App, using: str) -> None:
    def receive(instance: Order, **_: object) -> None:
        instance.note(1)

    post_save.connect(receive, sender=Order)
    pre_delete.connect(receive, sender=Order)
    try:
        order = Order(pk=1)
        order.save(using=using)
        assert seen(app) == [("Order-1", 1)]
        order.delete()
        assert seen(app) == [("Order-1", 1), ("Order-1", 1)]
    finally:
        post_save.disconnect(receive, sender=Order)
        pre_delete.disconnect(receive, sender=Order)


async def test_async(app: App, beside: str) -> None:
    order = Order()
    order.place(1)
    await order.asave(using=beside)
    stream = f"Order-{order.pk}"
    order.place(2)
    with context(actor="anna"):
        order.note(3)
    await order.asave()
    order.note(4)
    await order.arefresh_from_db()
    order.note(5)
    await order.adelete()
    assert seen(app) == [(stream, number) for number in (1, 2, 3, 5)]
    assert [each.metadata.actor for each in app.read()] == [None, None, "anna", None]


async def test_async_row_and_event_have_one_fate(app: App, beside: str) -> None:
    await Order(number=1).asave(using=beside)
    order = Order(pk=7)
    order.place(1)
    with pytest.raises(IntegrityError):
        await order.asave(using=beside)
    assert seen(app) == []
    order.number = 2
    await order.asave(using=beside)
    assert seen(app) == [("Order-7", 1)]


# ----------------------------------------------------------------------------------------------- when it is taken back


def test_a_rollback_takes_back_row_and_event(app: App, using: str) -> None:
    order = Order(pk=1)
    order.place(1)
    with pytest.raises(LookupError), transaction.atomic(using=using):
        order.save(using=using)
        raise LookupError
    assert seen(app) == []
    assert not Order.objects.using(using).exists()


def test_a_row_that_is_saved_again_after_a_rollback_brings_its_events(app: App, using: str) -> None:
    order = Order(pk=1)
    order.place(1)
    for _ in range(2):
        with pytest.raises(LookupError), transaction.atomic(using=using):
            order.save(using=using)
            raise LookupError
    order.note(2)
    order.save(using=using)
    order.note(3)
    order.save(using=using)
    assert numbers(app) == [1, 2, 3]


@pytest.mark.usefixtures("several")
def test_a_savepoint_that_is_rolled_back_takes_its_events_back(app: App, using: str) -> None:
    order, other = Order(pk=1), Order(pk=2)
    with transaction.atomic(using=using):
        order.place(1)
        order.save(using=using)
        with pytest.raises(LookupError), transaction.atomic(using=using):
            other.place(2)
            other.save(using=using)
            raise LookupError
        with transaction.atomic(using=using):
            order.place(3)
            order.save()
    assert seen(app) == [("Order-1", 1), ("Order-1", 3)]
    other.save(using=using)
    assert numbers(app) == [1, 3, 2]


def test_transactions_by_hand(app: App, using: str) -> None:
    order = Order(pk=1)
    transaction.set_autocommit(False, using=using)
    order.place(1)
    order.save(using=using)
    transaction.rollback(using=using)
    order.note(2)
    order.save(using=using)
    order.save(using=using)
    transaction.commit(using=using)
    order.save(using=using)
    transaction.commit(using=using)
    transaction.set_autocommit(True, using=using)
    assert numbers(app) == [1, 2]


def test_refreshing_takes_back_the_events_with_the_changes(app: App, using: str) -> None:
    order = Order.objects.using(using).create(pk=1)
    with pytest.raises(LookupError), transaction.atomic(using=using):
        order.place(1)
        order.save()
        raise LookupError
    order.place(2)
    order.refresh_from_db(fields=["number"])
    order.note(3)
    order.refresh_from_db()
    order.note(4)
    order.save()
    assert numbers(app) == [4]


def test_loading_a_deferred_field_keeps_the_events(app: App, using: str) -> None:
    Order.objects.using(using).create(pk=1, number=7)
    order = Order.objects.using(using).defer("number").get()
    order.note(1)
    assert order.number == 7
    order.save()
    assert numbers(app) == [1]


def test_refreshing_keeps_what_an_open_transaction_holds(app: App, using: str) -> None:
    order = Order(pk=1)
    with transaction.atomic(using=using):
        order.place(1)
        order.save(using=using)
        order.refresh_from_db()
        order.save()
    assert numbers(app) == [1]


def test_a_row_that_cannot_be_saved_keeps_its_events(app: App, using: str) -> None:
    Order(number=1).save(using=using)
    order = Order(pk=7)
    order.place(1)
    with pytest.raises(IntegrityError):
        order.save(using=using)
    assert seen(app) == []
    order.number = 2
    order.save(using=using)
    assert seen(app) == [("Order-7", 1)]


def test_an_entity_that_is_never_saved(app: App, using: str) -> None:
    Order(pk=1).place(1)
    Order(pk=2).save(using=using)
    assert seen(app) == []


def test_a_pickled_entity_brings_what_waits_and_not_what_is_recorded(app: App, using: str) -> None:
    order = Order(pk=1)
    with transaction.atomic(using=using):
        order.place(1)
        order.save(using=using)
        order.note(2)
        copy = Order()
        vars(copy).update(pickle.loads(pickle.dumps(order.__getstate__())))
        copy.save(using=using)
    assert numbers(app) == [1, 2]


# ------------------------------------------------------------------------------------------------------ what it is like


def test_the_stream_is_that_of_the_model_whose_table_has_the_key(app: App, using: str) -> None:
    for number, order in enumerate((UrgentOrder(pk=1), LateOrder(pk=2))):
        order.place(number)
        order.save(using=using)
    line = Line(order=1, article="pen")
    line.raise_event(Placed(number=2))
    line.save(using=using)
    assert seen(app) == [("Order-1", 0), ("Order-2", 1), ("line-1:pen", 2)]


def test_an_event_has_the_metadata_of_where_it_was_raised(app: App, using: str) -> None:
    order = Order(pk=1)
    with context(actor="anna"):
        order.note(1)
    with context(actor="otto"):
        order.save(using=using)
        order.note(2)
    order.save()
    assert [each.metadata.actor for each in app.read()] == ["anna", "otto"]


def test_a_model_may_have_an_application_of_its_own(app: App, using: str, schema: str) -> None:
    own = App("own", app.log.place.url, schema=f"{schema}_own")
    own.migrate()
    entities(own, UrgentOrder)
    try:
        for number, order in enumerate((Order(pk=1), UrgentOrder(pk=2))):
            order.place(number)
            order.save(using=using)
    finally:
        entities(app, UrgentOrder)
    assert (seen(app), seen(own)) == ([("Order-1", 0)], [("Order-2", 1)])


# ----------------------------------------------------------------------------------------------------------- what fails


def test_what_is_no_event_is_refused(app: App) -> None:
    for wrong in ("placed", Placed, object()):
        with pytest.raises(EventValueError, match=r"Order\.raise_event: .* is not an event"):
            Order().raise_event(wrong)  # type: ignore[arg-type]
    with pytest.raises(EventValueError, match=r"Deposited is an event-sourced event.*its row"):
        Order().raise_event(Deposited(number=1))


def test_an_entity_without_an_application_says_what_to_do(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Entity, "__ensue_app__")
    with pytest.raises(DeclarationError, match=r"Order raises events, .* call entities\(app, …\) once"):
        Order().place(1)


def test_the_mixin_stands_before_the_model() -> None:
    """Otherwise `Model.save` would win, and forget the events."""
    with pytest.raises(DeclarationError, match=r"class Turned\(Entity, models\.Model\)"):

        class Turned(models.Model, Entity):  # type: ignore[misc, metaclass]
            class Meta:
                app_label = "entities"


def test_entities_wants_an_application_and_entities(app: App) -> None:
    with pytest.raises(DeclarationError, match="the first argument is the App"):
        entities(Order)  # type: ignore[arg-type]
    with pytest.raises(DeclarationError, match="not derived from"):
        entities(app, models.Model)  # type: ignore[arg-type]


@pytest.mark.parametrize("atomic", [False, True])
def test_what_cannot_be_recorded_makes_save_and_delete_fail(app: App, using: str, schema: str, atomic: bool) -> None:
    order = Order.objects.using(using).create(pk=1)
    entities(App("entities", app.log.place.url, schema=f"{schema}_none"))
    for act in (order.save, order.delete):
        order.place(5)
        with pytest.raises(NotMigrated):
            act()
    other = Order(pk=2)
    other.place(1)
    with transaction.atomic(using=using):
        with pytest.raises(NotMigrated):
            other.save(using=using)
        assert connections[using].needs_rollback, "nobody can commit the row alone"
        transaction.set_rollback(True, using=using)
    assert [*Order.objects.using(using).values_list("pk", "number")] == [(1, 0)]
    entities(app)
    assert seen(app) == []


def test_a_second_aggregate_is_refused(app: App, using: str) -> None:
    one, two = Order(pk=1), Order(pk=2)
    one.place(1)
    two.place(2)
    with pytest.raises(SecondAggregate, match=r"'Order-1'.*'Order-2'"), transaction.atomic(using=using):
        one.save(using=using)
        two.save(using=using)
    assert seen(app) == []
    one.save(using=using)
    two.save(using=using)
    assert seen(app) == [("Order-1", 1), ("Order-2", 2)]


def test_a_handler_within_recording_may_refuse(app: App, using: str) -> None:
    @app.within(Placed)
    def refuse(event: Placed) -> None:
        raise ValueError(event.number)

    order = Order(pk=1)
    order.place(1)
    with pytest.raises(ValueError, match="1"):
        order.save(using=using)
    assert not Order.objects.using(using).exists()
    assert seen(app) == []


def test_an_application_in_another_database_makes_save_fail(app: App, using: str) -> None:
    entities(App("elsewhere", "memory://elsewhere_django", migrate=True))
    order = Order(pk=1)
    order.place(1)
    with pytest.raises(WrongDatabase):
        order.save(using=using)
    assert not Order.objects.using(using).exists()


def test_an_error_before_the_row_is_written(app: App, using: str) -> None:
    order = StrictOrder(pk=1, number="many")
    order.note(1)
    with transaction.atomic(using=using):
        with pytest.raises(ValidationError):
            order.save(using=using)
        order.number = 3
        order.save(using=using)
    assert seen(app) == [("Order-1", 1)]
