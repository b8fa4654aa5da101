"""`Aggregate`: a class whose state is its events."""

from __future__ import annotations

import copy
import inspect
from dataclasses import is_dataclass
from typing import Any, ClassVar
from uuid import UUID

from ensue.aggregates.defaults import classes_below, defaults_to_copy, fields_of
from ensue.aggregates.evolving import Evolver, collect
from ensue.errors import AggregateDeleted, AggregateSpoiled, DeclarationError
from ensue.events import Event, SourcedEvent
from ensue.events.ids import new_id

AggregateId = str | int | UUID

_OURS = frozenset({"id", "version", "pending", "_ensue_snapshot", "_ensue_size", "_ensue_spoiled"})

_TAKEN = _OURS | {"apply"}
_NOT_BEGUN = DeclarationError("Aggregate.__init__ was not called")


class Aggregate:
    """A thing with an identity whose state is made of its events, and which alone decides what happens to it.

    Commands are methods: they check and then `apply` an event. Methods under `@evolves` take events in, new ones and
    those of the past. State is attributes of any shape; a default given in the class, or in a mixin, is copied for each
    aggregate if it can be changed. Class keywords: `name=` pins the name that its streams begin with (the class's name
    otherwise), `deleted_by=` names the event, or the events, after which it is gone.

    Raises `DeclarationError` when the class is made and contradicts itself.
    """

    __aggregate__: ClassVar[str]
    __evolvers__: ClassVar[dict[type[Event], Evolver]] = {}
    __deleted_by__: ClassVar[frozenset[type[Event]]] = frozenset()
    __fields__: ClassVar[tuple[str, ...]] = ()
    __mutable__: ClassVar[tuple[tuple[str, Any], ...]] = ()

    id: str
    version: int
    """How many events its state is made of, those that are pending included; under `@evolves`, that event's number."""
    pending: list[SourcedEvent]
    """What has been applied and not been saved."""

    _ensue_spoiled: BaseException | None = _NOT_BEGUN

    def __init_subclass__(
        cls,
        *,
        name: str | None = None,
        deleted_by: type[SourcedEvent] | tuple[type[SourcedEvent], ...] = (),
        **options: Any,
    ) -> None:
        super().__init_subclass__(**options)
        label = cls.__name__ if name is None else name
        check_name(label, f"aggregate {cls.__qualname__}")
        _check_names(cls)
        cls.__aggregate__ = label
        cls.__evolvers__ = {**cls.__evolvers__, **collect(cls)}
        cls.__mutable__ = defaults_to_copy(cls, Aggregate)
        cls.__fields__ = fields_of(cls, Aggregate)
        ends = deleted_by if isinstance(deleted_by, tuple) else (deleted_by,)
        cls.__deleted_by__ = cls.__deleted_by__ | frozenset(ends)
        for event in cls.__deleted_by__:
            if event not in cls.__evolvers__:
                cls.__evolvers__[event] = _nothing

    def __init__(self, id: AggregateId | None = None) -> None:
        """Begin an aggregate that has no event yet, under an id of the user's or a new UUIDv7."""
        self.id = new_id() if id is None else str(id)
        self.version = 0
        self.pending = []
        self._ensue_snapshot = 0
        self._ensue_size = 0
        self._ensue_spoiled = None
        check_id(type(self).__qualname__, self.id)
        for name, value in self.__mutable__:
            setattr(self, name, copy.deepcopy(value))

    def __repr__(self) -> str:
        return f"<{type(self).__qualname__} {self.id} at version {self.version}>"

    def apply(self, event: SourcedEvent) -> None:
        """Take a new event in: the state changes now, the event is recorded when the aggregate is saved.

        Raises `AggregateDeleted` after the event that ended it, `DeclarationError` if nothing evolves such an event,
        and whatever the evolving method or `check` raises; then the aggregate cannot be used any further.
        """
        if self._ensue_spoiled is not None:
            self._ensue_refuse()
        if self.pending and type(self.pending[-1]) in self.__deleted_by__:
            raise AggregateDeleted(type(self).__aggregate__, self.id, self.version, self.pending[-1].__type__)
        evolver = self.__evolvers__.get(type(event))
        if evolver is None:
            raise DeclarationError(
                f"{type(self).__qualname__} does not evolve {type(event).__qualname__}: give it a method "
                f"@evolves def _(self, event: {type(event).__qualname__})"
            )
        self.version += 1
        try:
            evolver(self, event)
            self.check()
        except BaseException as error:
            self.version -= 1
            self._ensue_spoiled = error
            raise
        self.pending.append(event)

    def check(self) -> None:
        """Raise if the state breaks a rule that must always hold; called after every new event. Override it."""

    # --- what the repository needs

    def _ensue_refuse(self) -> None:
        """Raise if it cannot be used (any further)."""
        if self._ensue_spoiled is _NOT_BEGUN:
            raise not_begun(type(self))
        if self._ensue_spoiled is not None:
            raise AggregateSpoiled(stream_of(type(self).__aggregate__, self.id), self._ensue_spoiled)

    def _ensue_settle(self, version: int, snapshot: int, size: int) -> None:
        self.version, self._ensue_snapshot, self._ensue_size = version, snapshot, size
        self.pending = []

    def _ensue_state(self) -> dict[str, Any]:
        """Return its attributes without those of ensue."""
        defaults = {name: getattr(self, name) for name in self.__fields__ if hasattr(self, name)}
        return defaults | {name: value for name, value in vars(self).items() if name not in _OURS}


def _nothing(_: Any, __: Any) -> None:
    """Evolve nothing: the aggregate is gone."""


def _check_names(cls: type[Aggregate]) -> None:
    for each in classes_below(cls, Aggregate):
        for name in (*vars(each), *inspect.get_annotations(each)):
            if name in _TAKEN or name.startswith("_ensue_"):
                raise DeclarationError(
                    f"{cls.__qualname__}.{name}: that is what every aggregate has from ensue; give yours another name"
                )


def check_begins(cls: type[Aggregate]) -> None:
    """Raise `DeclarationError` if a repository could not make an aggregate of the class, by its id alone."""
    if is_dataclass(cls):
        raise DeclarationError(
            f"{cls.__qualname__} is a dataclass, whose __init__ knows of no id and no events: leave @dataclass out; "
            "annotations with defaults are enough"
        )
    try:
        inspect.signature(cls).bind(id="1")
    except TypeError as error:
        raise DeclarationError(
            f"{cls.__qualname__}.__init__ cannot be called with an id alone ({error}), as is done on loading: write it "
            "as def __init__(self, id: AggregateId | None = None), and let an event say the rest"
        ) from error


def not_begun(cls: type[Aggregate]) -> DeclarationError:
    """Return what is to be said of an aggregate whose class forgets to begin it."""
    return DeclarationError(
        f"{cls.__qualname__} has not begun as an aggregate does: its __init__ must call super().__init__(id)"
    )


def check_id(aggregate: str, id: str) -> None:
    """Raise `DeclarationError` for an id that no stream can be named after."""
    if not id or "\0" in id:
        raise DeclarationError(f"{aggregate}: the id {id!r} is empty or holds a NUL character")


def check_name(name: object, where: str) -> None:
    """Raise `DeclarationError` unless streams can be named after it."""
    if not isinstance(name, str) or not name or "-" in name or not name.isprintable() or name != name.strip():
        raise DeclarationError(f"{where}: name={name!r}: printable text without '-', which parts it from the id")


def stream_of(name: str, id: AggregateId) -> str:
    """Return the stream of an aggregate."""
    return f"{name}-{id}"
