"""Entities of Django: aggregates whose state is a row, and whose events are recorded when the row is saved or deleted.

An event shares the fate of the unsaved changes of its entity. Django leaves the attributes of an object as they are
when a transaction is rolled back, and the next `save()` writes them all again: then the events are recorded again too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, cast
from weakref import ref

from django.db import connections, models, router, transaction

from ensue.app import App
from ensue.errors import DeclarationError
from ensue.events import Event
from ensue.integrations.raising import Raised, app_of, connect, raised, record, stream_of

if TYPE_CHECKING:
    from django.db.models.base import ModelBase

    _Model = models.Model
else:  # a model cannot be defined before Django is set up, and apps.py is imported before that
    _Model = object

_BOOK = "_ensue_book"


class Entity(_Model):
    """A mixin for models, named before them: `class Order(Entity, models.Model)`.

    Its events are recorded in the stream `<aggregate>-<primary key>`, the parts of a composite key joined by colons.
    Raises `DeclarationError` for a class that names it after `models.Model`.
    """

    __aggregate__: ClassVar[str]
    """The aggregate's name in the stream; without it, the name of the model (of the one whose table has the key)."""
    __raises__: ClassVar[tuple[type[Event], ...]] = ()
    """The events that it raises, and no other; an empty tuple says nothing. Maps and modules read it."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        order = cls.__mro__
        if models.Model in order and order.index(models.Model) < order.index(Entity):
            raise DeclarationError(
                f"{cls.__qualname__} would be saved without its events: name Entity first, "
                f"class {cls.__name__}(Entity, models.Model)"
            )

    def raise_event(self, event: Event) -> None:
        """Record an event in the transaction of the next `save()` or `delete()` of this entity.

        Raises `EventValueError` for what is no event or is an event-sourced one, `DeclarationError` if `entities` has
        not named the application.
        """
        _book(self).waiting.append(raised(event, type(self)))

    def save(
        self,
        *,
        force_insert: bool | tuple[ModelBase, ...] = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
    ) -> None:
        """Save the row and record what was raised, in one transaction."""
        alias = using or router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=alias, savepoint=False):
            super().save(force_insert=force_insert, force_update=force_update, using=using, update_fields=update_fields)
            _record(self, stream(self), alias)

    def delete(self, using: str | None = None, keep_parents: bool = False) -> tuple[int, dict[str, int]]:
        """Delete the row and record what was raised, in one transaction."""
        alias = using or router.db_for_write(type(self), instance=self)
        before = stream(self)  # deleting takes the key away
        with transaction.atomic(using=alias, savepoint=False):
            deleted = super().delete(using=using, keep_parents=keep_parents)
            _record(self, before, alias)
        return deleted

    def refresh_from_db(
        self,
        using: str | None = None,
        fields: Iterable[str] | None = None,
        from_queryset: models.QuerySet[Any] | None = None,
    ) -> None:
        """Take back what was changed and raised since the last save; only what was changed if `fields` are named."""
        super().refresh_from_db(using=using, fields=fields, from_queryset=from_queryset)
        if fields is None:
            _book(self).clear()


Entity.__module__ = "ensue.integrations.django"  # as migrations name it, wherever it is


def entities(app: App, *models: type[Entity]) -> None:
    """Record what these models, or those derived from them, raise in the log of an application; all, if none is named.

    `AppConfig.ready` is a good place. A later call for the same model replaces the application.
    """
    for each in models or (Entity,):
        if not isinstance(each, type) or not issubclass(each, Entity):
            raise DeclarationError(f"entities(…, {each!r}): it is not derived from ensue.integrations.django.Entity")
        connect(app, each)


class _Book:
    """What an entity knows of its events."""

    def __init__(self) -> None:
        self.waiting: list[Raised] = []
        self._unsure: list[tuple[ref[_Committed], list[Raised]]] = []
        """What was recorded in transactions that have not been seen to commit."""

    def __getstate__(self) -> dict[str, Any]:
        return {"waiting": self.waiting, "_unsure": []}  # a copy has no part in the transaction

    def take_back(self) -> None:
        """Let what was recorded in a transaction that has been rolled back wait again: the row is written again too."""
        lost = [each for committed, events in self._unsure if committed() is None for each in events]
        self._unsure = [(committed, events) for committed, events in self._unsure if committed() is not None]
        self.waiting = lost + self.waiting

    def recorded(self, alias: str) -> None:
        committed = _Committed(self)
        self._unsure.append((ref(committed), self.waiting))
        self.waiting = []
        transaction.on_commit(committed, using=alias)

    def committed(self, seen: _Committed) -> None:
        self._unsure = [(committed, events) for committed, events in self._unsure if committed() is not seen]

    def clear(self) -> None:
        self.take_back()
        self.waiting = []


class _Committed:
    """What Django calls when a transaction has committed, and drops when it, or its savepoint, is rolled back."""

    def __init__(self, book: _Book) -> None:
        self._book = book

    def __call__(self) -> None:
        self._book.committed(self)


def _book(entity: Entity) -> _Book:
    book: _Book = vars(entity).setdefault(_BOOK, _Book())
    return book


def stream(entity: Entity) -> str:
    model = type(entity)._meta.concrete_model or type(entity)  # noqa: SLF001 Django's own, and documented
    while (link := getattr(model._meta.pk, "remote_field", None)) and getattr(link, "parent_link", False):  # noqa: SLF001
        model = link.model
    key: object = entity.pk
    return stream_of(model, cast("tuple[object, ...]", key) if isinstance(key, tuple) else (key,))


def _record(entity: Entity, stream: str, alias: str) -> None:
    book = _book(entity)
    book.take_back()
    if book.waiting:
        record(app_of(type(entity)), book.waiting, stream=stream, via=connections[alias])
        book.recorded(alias)
