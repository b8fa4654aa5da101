"""Entities of SQLAlchemy: aggregates whose state is a row, and whose events are recorded when the row is flushed.

An event shares the fate of the unflushed changes of its entity: it waits in the session, is recorded by the next flush,
and a rollback takes it back. What SQLAlchemy keeps, ensue keeps: an object that was new in a transaction has its
attributes still after the rollback, and its events too.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from sqlalchemy import event as hooks
from sqlalchemy import inspect
from sqlalchemy.orm import InstanceState, Session, SessionTransaction
from sqlalchemy.orm.attributes import flag_dirty

from ensue.app import App
from ensue.events import Event
from ensue.integrations.raising import Raised, app_of, connect, next_number, raised, record, stream_of

_State = InstanceState[Any]
_KEY = "ensue"


class Entity:
    """A mixin for mapped classes: `class Order(Entity, Base)`.

    Its events are recorded in the stream `<aggregate>-<primary key>`, the parts of a composite key joined by colons.
    """

    __aggregate__: ClassVar[str]
    """The aggregate's name in the stream; without it, the name of the class (of the uppermost one mapped to it)."""
    __raises__: ClassVar[tuple[type[Event], ...]] = ()
    """The events that it raises, and no other; an empty tuple says nothing. Maps and modules read it."""

    def raise_event(self, event: Event) -> None:
        """Record an event in the transaction that writes this entity, with the next flush.

        Raises `EventValueError` for what is no event or is an event-sourced one, `DeclarationError` if `entities` has
        not named the application.
        """
        waiting = raised(event, type(self))
        flag_dirty(self)  # the session flushes, and holds the entity until then, even if no column has changed
        state: _State = inspect(self)
        _waiting(state).append(waiting)


def entities(app: App, base: type[object], *more: type[object]) -> None:
    """Record what the entities of a declarative base, or of a class, raise in the log of an application.

    It may be called before or after the classes are mapped. A later call for the same base replaces the application.
    """
    for each in (base, *more):
        connect(app, each)
    for name, hook in _HOOKS.items():
        if not hooks.contains(Session, name, hook):
            hooks.listen(Session, name, hook)


class _Book:
    """What a session knows of the events of its entities."""

    def __init__(self) -> None:
        self.waiting: dict[_State, list[Raised]] = {}
        self.recorded: WeakKeyDictionary[_State, list[Raised]] = WeakKeyDictionary()
        """In this transaction: new entities get it back if it is rolled back, or the savepoint that inserted them."""
        self.savepoints: WeakKeyDictionary[SessionTransaction, int] = WeakKeyDictionary()
        """What was raised in a savepoint has a greater number than this."""


def _book(session: Session) -> _Book:
    book: _Book = session.info.setdefault(_KEY, _Book())
    return book


def _waiting(state: _State) -> list[Raised]:
    """Return where the events of an entity wait: in its session if it has one."""
    if state.session is not None:
        return _book(state.session).waiting.setdefault(state, [])
    waiting: list[Raised] = state.info.setdefault(_KEY, [])
    return waiting


# --------------------------------------------------------------------------------------- what happens in a session


def _attached(session: Session, instance: object) -> None:
    if isinstance(instance, Entity):
        state: _State = inspect(instance)
        if waiting := state.info.pop(_KEY, None):
            _book(session).waiting.setdefault(state, []).extend(waiting)


def _left(session: Session, instance: object) -> None:
    """Let an entity that leaves the session take along what waits; as it takes its unflushed changes along."""
    book: _Book | None = session.info.get(_KEY)
    if book is not None and isinstance(instance, Entity):
        state: _State = inspect(instance)
        _take_along(state, book.waiting.pop(state, []))


def _not_inserted(session: Session, instance: object) -> None:
    """Let an entity whose insertion was rolled back take along what was recorded too; it may be added again."""
    book: _Book | None = session.info.get(_KEY)
    if book is not None and isinstance(instance, Entity):
        state: _State = inspect(instance)
        _take_along(state, book.recorded.pop(state, []) + book.waiting.pop(state, []))


def _take_along(state: _State, events: list[Raised]) -> None:
    if events:
        state.info[_KEY] = events


def _flushed(session: Session, _: object) -> None:
    _record(session)


def _committing(session: Session) -> None:
    """Record what no flush would: of entities that have been deleted, or expired after they raised an event."""
    book: _Book | None = session.info.get(_KEY)
    if book is not None and book.waiting:
        session.flush()
        _record(session)


def _record(session: Session) -> None:
    """Record what waits, in the order in which it was raised; what is not inserted yet waits on."""
    book: _Book | None = session.info.get(_KEY)
    if book is None or not book.waiting:
        return
    ready = {state: state.key for state in book.waiting if state.key is not None}
    ordered = sorted((each.number, each, state) for state in ready for each in book.waiting[state])
    for state, group in groupby(ordered, lambda each: each[2]):
        identified_by, key, *_ = ready[state]
        record(
            app_of(state.class_),
            [each for _, each, _ in group],
            stream=stream_of(identified_by, key),
            via=session.connection(bind_arguments={"mapper": state.mapper}),
        )
    for state in ready:
        book.recorded.setdefault(state, []).extend(book.waiting.pop(state))


def _begun(session: Session, transaction: SessionTransaction) -> None:
    book: _Book | None = session.info.get(_KEY)
    if book is not None and transaction.nested:
        book.savepoints[transaction] = next_number()


def _rolled_back(session: Session, transaction: SessionTransaction) -> None:
    """Forget what waits, and what was recorded in a savepoint; what was new has taken its events along."""
    book: _Book | None = session.info.get(_KEY)
    if book is None:
        return
    book.waiting.clear()
    if transaction.nested:
        start = book.savepoints.get(transaction, 0)
        for events in book.recorded.values():
            events[:] = [each for each in events if each.number < start]


def _ended(session: Session, transaction: SessionTransaction) -> None:
    book: _Book | None = session.info.get(_KEY)
    if book is not None and transaction.parent is None:
        book.recorded.clear()


_HOOKS: dict[str, Callable[..., None]] = {
    "after_attach": _attached,
    "pending_to_transient": _left,
    "persistent_to_detached": _left,
    "persistent_to_transient": _not_inserted,
    "after_flush_postexec": _flushed,
    "before_commit": _committing,
    "after_transaction_create": _begun,
    "after_soft_rollback": _rolled_back,
    "after_transaction_end": _ended,
}
