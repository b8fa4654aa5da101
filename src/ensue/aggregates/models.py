"""What the repository needs to know of an aggregate, whichever style it is written in."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from operator import length_hint
from typing import Any, ClassVar, Final, Generic, TypeVar, cast, get_args, get_origin, get_type_hints

import msgspec

from ensue.aggregates.aggregate import Aggregate, AggregateId, check_begins, check_id, stream_of
from ensue.aggregates.decider import Decider
from ensue.aggregates.fingerprints import fingerprint, reading_of, structure_of
from ensue.aggregates.keeping import Unkeepable, check_same, check_type, decoded, decoder_of, encode
from ensue.errors import DeclarationError, UndecodableEvent
from ensue.events import Event, SourcedEvent, decode, event_class, has_past

A = TypeVar("A", bound=Aggregate)
S = TypeVar("S")

Stored = Sequence[Any]
"""A row of an event's version, its wire type and its JSON."""


@dataclass(slots=True)
class Loaded(Generic[S]):
    """A state, and where in its stream it is."""

    id: str
    state: S
    version: int
    snapshot: int
    """The version of its snapshot; 0 if it has none that fits."""
    size: int
    """Bytes of the events behind that, where snapshots are taken."""
    ended_by: str | None = None
    """The wire type of the event that deleted it."""
    dedupe: str | None = None
    """The key under which what follows is recorded once."""


class Model(ABC, Generic[S]):
    """How states begin, take events in, and are kept in snapshots."""

    name: str
    deleted_by: frozenset[type[Event]]

    def stream(self, id: AggregateId) -> str:
        check_id(self.name, str(id))
        return stream_of(self.name, id)

    @property
    @abstractmethod
    def events(self) -> tuple[type[Event], ...]:
        """The event classes it is made of, as far as its declaration says."""

    @abstractmethod
    def begin(self, id: str) -> S:
        """Return the state before the first event."""

    def fold(self, id: str, state: S, stored: Sequence[Stored], position: int | None = None) -> S:
        """Return the state after stored events.

        Raises `UndecodableEvent` for one that does not load, at this position if it is known, and what evolving raises.
        """
        rows = iter(stored)
        try:
            return self._fold(state, rows)
        except Exception as error:
            taken = len(stored) - length_hint(rows)
            self._locate(id, stored[taken - 1], position, error)
            raise

    @abstractmethod
    def _fold(self, state: S, stored: Iterator[Stored]) -> S:
        """Return the state after stored events. Raises what decoding and evolving raise."""

    def _locate(self, id: str, stored: Stored, position: int | None, error: Exception) -> None:
        """Say of which event an error is: of the stored one if it does not load, else of what takes it in."""
        version, type, data, *_ = stored
        stream = self.stream(id)
        where = f"version {version} of stream {stream!r} ({type})"
        try:
            decode(type, data)
        except Exception as problem:
            raise UndecodableEvent(
                f"{where} does not load: {problem}", position=position, type=type, stream=stream, version=version
            ) from problem
        error.add_note(f"while {self.name} {id!r} took in {where}")

    @abstractmethod
    def evolve(self, state: S, event: Event) -> S:
        """Return the state after one event."""

    @abstractmethod
    def settle(self, state: S, loaded: Loaded[S]) -> None:
        """Tell a state where in its stream it is, if it wants to know."""

    @abstractmethod
    def copy(self, state: S) -> S:
        """Return a state that can be changed without changing this one."""

    @abstractmethod
    def plain(self, state: S) -> dict[str, Any]:
        """Return the state's parts by name, as JSON would have them."""

    @abstractmethod
    def check_types(self) -> None:
        """Raise `DeclarationError` if there can be no snapshots of it."""

    @abstractmethod
    def structure(self, edition: int) -> str:
        """Return a text that changes with what a snapshot must fit."""

    @abstractmethod
    def dump(self, state: S) -> bytes:
        """Return the state as JSON, for a snapshot; raise `Unkeepable` if `load` would make another one of it."""

    @abstractmethod
    def load(self, id: str, data: str | bytes) -> S:
        """Return the state that a snapshot holds. Raises what decoding raises."""


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value, enc_hook=_unknown, str_keys=True)


def _unknown(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if dump else repr(value)


class ClassModel(Model[A]):
    """An aggregate written as a class; built on the functions below, as a decider is on the user's."""

    def __init__(self, cls: type[A]) -> None:
        check_begins(cls)
        self._cls = cls
        self.name = cls.__aggregate__
        self.deleted_by = cls.__deleted_by__
        self._known: dict[str, tuple[Callable[[str], Any], Callable[[A, Any], None]]] = {}
        self._decoder: msgspec.json.Decoder[Any] | None = None

    @property
    def events(self) -> tuple[type[Event], ...]:
        return tuple(self._cls.__evolvers__)

    def begin(self, id: str) -> A:
        state = self._cls(id=id)
        if getattr(state, "id", None) != id:
            state._ensue_refuse()  # noqa: SLF001 its own room
            raise DeclarationError(
                f"{self._cls.__qualname__}.__init__ was given the id {id!r} and made {state.id!r} of it"
            )
        return state

    def _fold(self, state: A, stored: Iterator[Stored]) -> A:
        known = self._known
        for state.version, type, data in stored:
            decode, evolver = known.get(type) or self._learn(type)
            evolver(state, decode(data))
        return state

    def _learn(self, type: str) -> tuple[Callable[[str], Any], Callable[[A, Any], None]]:
        found: tuple[Callable[[str], Any], Callable[[A, Any], None]]
        if has_past(type):
            found = (partial(decode, type), self._evolve_all)
        else:
            event = event_class(type)
            found = (event.__structure__.decoding(), self._evolver(event))
        self._known[type] = found
        return found

    def _evolve_all(self, state: A, events: tuple[Event, ...]) -> None:
        for event in events:
            self._evolver(type(event))(state, event)

    def _evolver(self, event: type[Event]) -> Callable[[A, Any], None]:
        evolver = self._cls.__evolvers__.get(event)
        if evolver is None:
            raise DeclarationError(
                f"{self._cls.__qualname__} does not evolve {event.__qualname__}, and there is one in its stream: give "
                f"it a method @evolves def _(self, event: {event.__qualname__})"
            )
        return evolver

    def evolve(self, state: A, event: Event) -> A:
        self._evolver(type(event))(state, event)
        return state

    def settle(self, state: A, loaded: Loaded[A]) -> None:
        state._ensue_settle(loaded.version, loaded.snapshot, loaded.size)  # noqa: SLF001 its own room

    def copy(self, state: A) -> A:
        return copy.deepcopy(state)

    def plain(self, state: A) -> dict[str, Any]:
        return {name: _plain(value) for name, value in state._ensue_state().items()}  # noqa: SLF001

    # --- snapshots

    def check_types(self) -> None:
        where = f"aggregate {self.name!r}, field "
        hints = self._hints()
        for name, hint in hints.items():
            check_type(hint, f"{where}{name!r}")
        for name in self._begun():
            if name not in hints:
                raise DeclarationError(f"{where}{name!r}: a snapshot needs to know its type: annotate it in the class")

    def structure(self, edition: int) -> str:
        evolvers = {event.__type__: evolver for event, evolver in self._cls.__evolvers__.items()}
        return fingerprint(structure_of(self._type()), self._begun(), evolvers, reading_of(self.events), edition)

    def _begun(self) -> dict[str, Any]:
        """Return the state before the first event, without what is another one each time, as a new id is."""
        one, other = (self._cls(id="1")._ensue_state() for _ in range(2))  # noqa: SLF001 its own room
        return {name: value for name, value in one.items() if fingerprint(value) == fingerprint(other.get(name))}

    def _hints(self) -> dict[str, Any]:
        ours = get_type_hints(Aggregate)
        hints = get_type_hints(self._cls, include_extras=True)
        return {
            name: get_args(hint)[0] if get_origin(hint) is Final else hint
            for name, hint in hints.items()
            if name not in ours and get_origin(hint) is not ClassVar and hint is not ClassVar
        }

    def _type(self) -> type[msgspec.Struct]:
        fields = [(name, hint | msgspec.UnsetType, msgspec.UNSET) for name, hint in self._hints().items()]
        return msgspec.defstruct(f"{self._cls.__name__}State", fields)

    def _decode(self, data: str | bytes) -> dict[str, Any]:
        if self._decoder is None:
            self._decoder = decoder_of(self._type())
        found = msgspec.structs.asdict(self._decoder.decode(data))
        return {name: value for name, value in found.items() if value is not msgspec.UNSET}

    def dump(self, state: A) -> bytes:
        values = state._ensue_state()  # noqa: SLF001
        for name in values.keys() - self._hints().keys():
            raise Unkeepable(f"{name} has no type: annotate it in the class")
        data = encode(values, "its state")
        again = decoded(self._decode, data)
        for name, value in values.items():
            check_same(value, again[name], name)
        return data

    def load(self, id: str, data: str | bytes) -> A:
        state = self._cls(id=id)
        for name, value in self._decode(data).items():
            setattr(state, name, value)
        return state


class DeciderModel(Model[S]):
    """An aggregate written as functions."""

    def __init__(self, decider: Decider[Any, Any, S]) -> None:
        self.decider = decider
        self.name = decider.name
        self.deleted_by = frozenset(decider.deleted_by)
        self._known: dict[str, Callable[[str], tuple[Any, ...]]] = {}
        self._decoder: msgspec.json.Decoder[Any] | None = None

    @property
    def events(self) -> tuple[type[SourcedEvent], ...]:
        return self.decider.events()

    def begin(self, id: str) -> S:
        return self.decider.initial

    def _fold(self, state: S, stored: Iterator[Stored]) -> S:
        known, evolve = self._known, self.decider.evolve
        for _, type, data in stored:
            decoder = known.get(type)
            if decoder is None:
                decoder = known[type] = _decoder_of(type)
            for event in decoder(data):
                state = evolve(state, event)
        return state

    def evolve(self, state: S, event: Event) -> S:
        return self.decider.evolve(state, event)

    def settle(self, state: S, loaded: Loaded[S]) -> None:
        """Tell it nothing: a value does not know."""

    def copy(self, state: S) -> S:
        return state

    def plain(self, state: S) -> dict[str, Any]:
        found: Any = _plain(state)
        return cast("dict[str, Any]", found) if isinstance(found, dict) else {"state": found}

    # --- snapshots

    def check_types(self) -> None:
        check_type(self.decider.state(), f"decider {self.name!r}, its state")

    def structure(self, edition: int) -> str:
        decider = self.decider
        return fingerprint(
            structure_of(decider.state()), decider.initial, decider.evolve, reading_of(decider.events()), edition
        )

    def dump(self, state: S) -> bytes:
        data = encode(state, "its state")
        check_same(state, decoded(partial(self.load, ""), data), "its state")
        return data

    def load(self, id: str, data: str | bytes) -> S:
        if self._decoder is None:
            self._decoder = decoder_of(self.decider.state())
        state: S = self._decoder.decode(data)
        return state


def _decoder_of(type: str) -> Callable[[str], tuple[Any, ...]]:
    if has_past(type):
        return partial(decode, type)
    only = event_class(type).__structure__.decoding()
    return lambda data: (only(data),)
