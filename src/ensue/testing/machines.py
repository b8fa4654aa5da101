"""A machine that drives an aggregate through random commands, and shows the shortest history that goes wrong."""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast, overload

from hypothesis import note
from hypothesis.stateful import RuleBasedStateMachine, rule
from hypothesis.strategies import SearchStrategy

from ensue.aggregates import Aggregate, Decider
from ensue.app import App
from ensue.errors import AggregateDeleted
from ensue.testing.strategies import arguments

A = TypeVar("A", bound=Aggregate)
C = TypeVar("C")
S = TypeVar("S")

_ID = "1"


@overload
def machine_of(
    aggregate: type[A],
    *,
    refusals: tuple[type[Exception], ...] = (),
    commands: Mapping[str, Mapping[str, SearchStrategy[Any]]] | None = None,
    invariants: Sequence[Callable[[A], bool]] = (),
) -> type[RuleBasedStateMachine]: ...


@overload
def machine_of(
    aggregate: Decider[C, Any, S],
    *,
    refusals: tuple[type[Exception], ...] = (),
    commands: SearchStrategy[C],
    invariants: Sequence[Callable[[S], bool]] = (),
) -> type[RuleBasedStateMachine]: ...


def machine_of(
    aggregate: type[Aggregate] | Decider[Any, Any, Any],
    *,
    refusals: tuple[type[Exception], ...] = (),
    commands: Any = None,
    invariants: Sequence[Callable[[Any], bool]] = (),
) -> type[RuleBasedStateMachine]:
    """Return a hypothesis state machine whose rules are the commands of an aggregate.

    `class TestWallet(machine_of(Wallet, refusals=(InsufficientFunds,)).TestCase)` runs it. The commands of a class are
    its public methods, with arguments of their annotated types; `commands={"withdraw": {"amount": …}}` replaces single
    strategies. Those of a decider are drawn from `commands`. After every command the aggregate is saved in a log in
    memory and loaded again: it must be the same, its `check` and all `invariants` must hold. `refusals` are the errors
    with which a command may refuse; any other is a failure. What fails is shown as the shortest history that does.
    """
    if isinstance(aggregate, Decider):
        rules = {"handle": _rule(handle, {"command": commands})}
    else:
        wanted: Mapping[str, Mapping[str, SearchStrategy[Any]]] = commands or {}
        rules = {
            name: _rule(_call(name), arguments(getattr(aggregate, name), **wanted.get(name, {})))
            for name in _commands(aggregate)
        }
        if unknown := wanted.keys() - rules.keys():
            raise TypeError(f"{aggregate.__qualname__} has no command {', '.join(sorted(unknown))}")
    if not rules:
        raise TypeError(f"{aggregate} has no commands: public methods with annotated parameters")
    members = {
        **rules,
        "subject": aggregate,
        "refusals": (*refusals, AggregateDeleted),
        "invariants_": tuple(invariants),
    }
    name = aggregate.name if isinstance(aggregate, Decider) else aggregate.__qualname__
    return cast("type[RuleBasedStateMachine]", type(f"{name}Machine", (_Machine,), members))


class _Machine(RuleBasedStateMachine):
    subject: Any
    refusals: tuple[type[Exception], ...]
    invariants_: tuple[Callable[[Any], bool], ...]

    def __init__(self) -> None:
        super().__init__()
        self.app = App("machine", f"memory://machine-{secrets.token_hex(8)}", migrate=True)
        self.repository: Any = self.app.repository(self.subject)

    def done(self, state: Any) -> None:
        """Check what must hold after a command, on the state that the repository gives back."""
        for holds in self.invariants_:
            if not holds(state):
                self.tell()
                raise AssertionError(f"{_described(holds)} does not hold for {_shown(state)}")

    def tell(self) -> None:
        """Let the history stand below the failure."""
        for recorded in self.app.read():
            note(f"history {recorded.version}: {recorded.event!r}")

    def teardown(self) -> None:
        self.app.log.own.close()


def _rule(function: Callable[..., None], given: Mapping[str, SearchStrategy[Any]]) -> Any:
    make: Any = rule
    return make(**given)(function)


def _call(name: str) -> Callable[..., None]:
    def call(self: _Machine, **given: Any) -> None:
        try:
            with self.repository.edit(_ID, create=True) as aggregate:
                getattr(aggregate, name)(**given)
        except self.refusals:
            return
        except BaseException:
            self.tell()
            raise
        try:
            again = self.repository.get(_ID)
        except (AggregateDeleted, LookupError):  # gone, or not begun by this command
            return
        if again._ensue_state() != aggregate._ensue_state():
            self.tell()
            raise AssertionError(f"saved as {_shown(aggregate)}, and loaded as {_shown(again)}")
        again.check()
        self.done(again)

    call.__name__ = name
    return call


def handle(self: _Machine, command: Any) -> None:
    try:
        state = self.repository.handle(_ID, command)
    except self.refusals:
        return
    except BaseException:
        self.tell()
        raise
    try:
        again = self.repository.get(_ID)
    except (AggregateDeleted, LookupError):
        return
    if again != state:
        self.tell()
        raise AssertionError(f"decided as {state!r}, and loaded as {again!r}")
    self.done(again)


def _commands(cls: type[Aggregate]) -> list[str]:
    evolving = {id(each) for each in cls.__evolvers__.values()}
    return [
        name
        for name, member in inspect.getmembers(cls, inspect.isfunction)
        if not name.startswith("_") and not hasattr(Aggregate, name) and id(member) not in evolving
    ]


def _shown(state: Any) -> str:
    return f"{state!r} {state._ensue_state()}" if isinstance(state, Aggregate) else repr(state)


def _described(holds: Callable[[Any], bool]) -> str:
    try:
        return inspect.getsource(holds).strip()
    except (OSError, TypeError):
        return getattr(holds, "__qualname__", repr(holds))
