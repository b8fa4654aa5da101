"""Given, when, then for aggregates: no database, and the same steps as loading and saving."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, Self, TypeVar, cast, overload

from ensue.aggregates import Aggregate, AggregateId, Decider
from ensue.aggregates.decider import decided
from ensue.aggregates.models import ClassModel, DeciderModel, Loaded, Model, Stored
from ensue.errors import AggregateDeleted, DeclarationError, EventValueError
from ensue.events import Event, SourcedEvent, write
from ensue.events.ids import new_id
from ensue.log import never_awaited
from ensue.testing.comparing import as_read, compared

A = TypeVar("A", bound=Aggregate)
C = TypeVar("C")
E = TypeVar("E", bound=SourcedEvent)
S = TypeVar("S")


class Decided(Generic[E, S]):
    """What came of a command: events, or a refusal."""

    def __init__(self, events: tuple[E, ...], refusal: Exception | None, load: Callable[[], S]) -> None:
        self._events = events
        self._refusal = refusal
        self._expected = refusal is None
        self._load = load

    @overload
    def then(self, *expected: E) -> Self: ...

    @overload
    def then(self, expected: type[Exception], /) -> Self: ...

    def then(self, *expected: Any) -> Self:
        """Check that exactly these events came, in this order, or that the command was refused by such an exception.

        Events are compared as the log would give them back. Raises `AssertionError` that shows both.
        """
        __tracebackhide__ = True
        if len(expected) == 1 and isinstance(expected[0], type) and issubclass(expected[0], Exception):
            self._refused_by(expected[0])
            return self
        wanted = [as_read(cast("E", each)) for each in expected]
        if self._refusal is not None:
            lines = [*compared(wanted, ())[:-1], _refusal(self._refusal)]
            raise AssertionError("\n".join(["the command was refused", *lines])) from self._refusal
        if wanted != [*self._events]:
            raise AssertionError("\n".join(["other events came of the command", *compared(wanted, self._events)]))
        return self

    def _refused_by(self, expected: type[Exception]) -> None:
        __tracebackhide__ = True
        if isinstance(self._refusal, expected):
            self._expected = True
            return
        wanted = ["expected:", f"  - refused by {expected.__qualname__}"]
        if self._refusal is None:
            got = compared((), self._events)[2:]
            raise AssertionError("\n".join(["the command was not refused", *wanted, *got]))
        lines = ["the command was refused by another exception", *wanted, "got:", _refusal(self._refusal)]
        raise AssertionError("\n".join(lines)) from self._refusal

    @property
    def state(self) -> S:
        """The aggregate, or the decider's state, as it is loaded afterwards: what no event says is not there.

        Raises what the command raised, unless `then` has expected it.
        """
        if self._refusal is not None and not self._expected:
            raise self._refusal
        return self._load()


class GivenAggregate(Generic[A]):
    """An aggregate of a class, with a history."""

    def __init__(self, cls: type[A], events: tuple[SourcedEvent, ...], id: AggregateId | None) -> None:
        self._history = _History[A](ClassModel(cls), events, new_id() if id is None else str(id))

    def when(self, command: Callable[[A], object]) -> Decided[SourcedEvent, A]:
        """Give it a command: a function that calls the aggregate's methods, as in `lambda wallet: wallet.close()`."""

        def act(aggregate: A) -> Iterable[SourcedEvent]:
            answer = command(aggregate)
            if never_awaited(answer):
                raise DeclarationError("when(…) was given an async command: await outside what the aggregate needs")
            aggregate._ensue_refuse()
            return aggregate.pending

        return self._history.decide(act)


class GivenDecider(Generic[C, E, S]):
    """An aggregate of functions, with a history."""

    def __init__(self, decider: Decider[C, E, S], events: tuple[E, ...]) -> None:
        self._decider = decider
        self._history = _History[S](DeciderModel(decider), events, new_id())

    def when(self, command: C) -> Decided[E, S]:
        """Let it decide about a command."""
        return self._history.decide(lambda state: decided(self._decider, command, state))


class _History(Generic[S]):
    """What an aggregate has behind it."""

    def __init__(self, model: Model[S], events: tuple[SourcedEvent, ...], id: str) -> None:
        self.stream = model.stream(id)
        self._model = model
        self._id = id
        self._stored = self._written(events)
        self._ended_by = type(events[-1]) if events and type(events[-1]) in model.deleted_by else None
        self._load([])

    def decide(self, act: Callable[[S], Iterable[E]]) -> Decided[E, S]:
        """Load, act, and check what came of it, as a repository would."""
        new: list[Stored] = []
        events: tuple[E, ...] = ()
        refusal: Exception | None = None
        try:
            self._refuse_if_ended(self._ended_by, 0)
            events = tuple(act(self._load([])))
            for number, event in enumerate(events[:-1], 1):
                self._refuse_if_ended(type(event), number)
            written = self._written(events)
            self._load(written)
            new = written
        except Exception as error:  # noqa: BLE001 a refusal, which `then` compares or shows
            refusal = error
        return Decided(
            tuple(as_read(event) for event in events) if refusal is None else (), refusal, lambda: self._load(new)
        )

    def _refuse_if_ended(self, event: type[Event] | None, number: int) -> None:
        if event is not None and event in self._model.deleted_by:
            raise AggregateDeleted(self._model.name, self._id, len(self._stored) + number, event.__type__)

    def _written(self, events: Iterable[SourcedEvent]) -> list[Stored]:
        events = tuple(events)
        for event in events:
            if not isinstance(event, SourcedEvent):
                raise EventValueError(f"{event!r} is no event-sourced event: only these are an aggregate's state")
        written = write(events, stream=self.stream) if events else []
        return [(None, each.type, bytes(each.data).decode()) for each in written]

    def _load(self, new: list[Stored]) -> S:
        stored = [(number, *each[1:]) for number, each in enumerate((*self._stored, *new), 1)]
        state = self._model.fold(self._id, self._model.begin(self._id), stored)
        self._model.settle(state, Loaded(self._id, state, len(stored), 0, 0))
        return state


def _refusal(error: Exception) -> str:
    return f"  + refused by {type(error).__qualname__}: {error}"
