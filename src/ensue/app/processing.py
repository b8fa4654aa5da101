"""What an application and its modules declare that goes on over time: commands, process managers, schedules."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, overload

from ensue.app.declarations import Declarations, Handler, handler_of
from ensue.app.declaring import Declaring, Options
from ensue.errors import DeclarationError, DuplicateName
from ensue.events import Command, Event
from ensue.handlers import Function, Reacting, name_of
from ensue.handlers.carrying import Record
from ensue.handlers.processes import Keys, Process, ProcessManager, Surroundings, Undoing, managing, recorded_by
from ensue.handlers.projections import listen
from ensue.handlers.timers import Schedule, Ticking, Timer, drop_timers, firing, set_timers, setting, ticking
from ensue.log import AsyncConnection, Log, Steps, SyncConnection
from ensue.seals import signing
from ensue.subscriptions import Backoff, Chore, Start, When

if TYPE_CHECKING:
    from typing import Unpack

C = TypeVar("C", bound=Command)
P = TypeVar("P", bound=type[Process])


class ProcessOptions(TypedDict, total=False):
    """How a process manager works."""

    start: Start
    """Where it begins when it is new: "now" (the default), "beginning", a moment, or a position."""
    retry: Backoff
    """What happens after a step has failed."""
    partitions: int
    """Into how many parts it is cut, for several processes (1): by the keys of the events, see the page about it."""
    batch: int
    """How many events are taken in one transaction at most (100)."""


class Processing(Declaring):
    """What an `App` and a module declare that goes on over time."""

    def handle(self, type: type[C], /, *, name: str | None = None, **options: Unpack[Options]) -> Reacting[C]:
        """Call a sync or async function with every command of this type, at least once, in the order of its key.

        A command has one handler: `DuplicateName` if it has another one. Else it is as with `on`.
        """
        if not (isinstance(type, _type) and issubclass(type, Command) and hasattr(type, "__type__")):
            raise DeclarationError(
                f"app.handle({getattr(type, '__qualname__', type)}): that is no command class; write "
                "@app.handle(CommandClass) above the function, with a class derived from Command"
            )

        def declare(function: Callable[..., Any]) -> Any:
            label = name or name_of(function)
            if other := self.declarations.handler_of(type):
                raise DuplicateName(
                    f"command {type.__qualname__} has two handlers, {other!r} and {label!r}: a command is carried out "
                    "once, by one of them; what several want to know is an event"
                )
            undoing = undoing_of(self._log, self.declarations, self._recording.by_workers.record)
            self._subscribe("handle", function, function, (type,), label, options, undoing=undoing)
            return function

        return declare

    def process(self, *, key: Keys, **options: Unpack[ProcessOptions]) -> Callable[[P], P]:
        """Let a class of processes be started and moved by the events that its steps take, each exactly once.

        `key` is the field that says which process an event is about, or such a field for each event class. Several
        versions of a process are declared one by one: a new one starts on the newest, a running one finishes on the one
        that it began with. Raises `DuplicateName` and `DeclarationError`.
        """
        if unknown := sorted(options.keys() - ProcessOptions.__optional_keys__):
            raise DeclarationError(
                f"process(…): there is no option {', '.join(unknown)}; there are key, "
                f"{', '.join(sorted(ProcessOptions.__optional_keys__))}"
            )

        def declare(cls: P) -> P:
            if not (isinstance(cls, _type) and issubclass(cls, Process) and cls is not Process):
                raise DeclarationError(f"process(…): {cls!r} is no class derived from Process")
            self._declare_process(cls, key, options)
            return cls

        return declare

    def _declare_process(self, cls: type[Process], key: Keys, options: ProcessOptions) -> None:
        declared, name = self.declarations, cls.__process__
        known = declared.managers.get(name)
        manager = known or ProcessManager(name)
        manager.add(cls, key)
        subscription = managing(
            manager, surroundings(self._log, declared, self._recording.by_workers.record), **options
        )
        if known is None:
            declared.subscribe(subscription)
        elif cls is manager.newest.cls:
            declared.subscriptions[name] = subscription
        else:
            declared.subscriptions[name] = replace(declared.subscriptions[name], types=subscription.types)
        declared.managers[name] = manager
        listen()
        declared.handlers[:] = [each for each in declared.handlers if (each.how, each.name) != ("process", name)]
        declared.handlers.append(
            Handler(name, "process", manager.types, None, self._module, records=lambda: recorded(manager))
        )

    def schedule(self, cron: str, /, timezone: str = "UTC", *, name: str | None = None) -> Callable[[Ticking], Ticking]:
        """Record what a function returns at every tick of a cron expression: an event, several, or None.

        It is called with the moment of the tick, in that time zone; what it returns is recorded exactly once for each
        tick, however many workers there are. Of ticks that were missed while no worker ran, the last one is made up
        for. The name is the function's unless `name` pins another. Raises `DuplicateName` and `DeclarationError`.
        """

        def declare(function: Ticking) -> Ticking:
            label = name or name_of(function)
            if label in self.declarations.schedules:
                raise DuplicateName(f"two schedules are called {label!r}: give one of them another name with name=…")
            called = Function(function, label, "nothing else")
            self.declarations.schedules[label] = Schedule(label, cron, timezone, called)
            return function

        return declare


_type = type


class Timing(Processing):
    """What an `App` does with timers."""

    @overload
    def after(self, when: When, event: Event, /, *, via: SyncConnection, name: str | None = None) -> Timer: ...

    @overload
    def after(
        self, when: When, event: Event, /, *, via: AsyncConnection, name: str | None = None
    ) -> Coroutine[Any, Any, Timer]: ...

    def after(
        self, when: When, event: Event, /, *, via: SyncConnection | AsyncConnection, name: str | None = None
    ) -> Timer | Coroutine[Any, Any, Timer]:
        """Let an event be recorded later, by a timer that is set in the open transaction of the user's own connection.

        `when` is seconds, a timedelta, text such as "3d", or a moment; the clock is the database's. A worker records
        the event, exactly once. A timer of the same `name` is replaced. On an async connection it returns an awaitable.
        Raises what `record` raises, and `DeclarationError` for what is no time or no name.
        """
        self.declarations.guards.check_timer(event)
        with self._log.traced():
            prepared = setting(when, event, name=name)
        if prepared.at is None:
            self.declarations.alarm.due_in(prepared.seconds)

        def steps() -> Steps[Timer]:
            return (yield from set_timers(self._log, [prepared]))[0]

        timer: Timer | Coroutine[Any, Any, Timer] = self._log.run(self._recording.ready(steps(), via), via)
        return timer

    @overload
    def cancel_timer(self, name: str, /, *, via: SyncConnection) -> bool: ...

    @overload
    def cancel_timer(self, name: str, /, *, via: AsyncConnection) -> Coroutine[Any, Any, bool]: ...

    def cancel_timer(self, name: str, /, *, via: SyncConnection | AsyncConnection) -> bool | Coroutine[Any, Any, bool]:
        """Cancel a timer by its name, in the open transaction; tell whether it had not fired.

        On an async connection it returns an awaitable. Raises as `record` does.
        """

        def steps() -> Steps[bool]:
            return bool((yield from drop_timers(self._log, [("", name)])))

        found: bool | Coroutine[Any, Any, bool] = self._log.run(self._recording.ready(steps(), via), via)
        return found


def surroundings(log: Log, declarations: Declarations, record: Record) -> Surroundings:
    """Return what a process manager needs of an application; the declarations hold it, so it does not hold them."""
    handlers = declarations.handlers
    return Surroundings(
        log=log,
        alarm=declarations.alarm,
        record=record,
        is_handled=lambda command: handler_of(command, handlers) is not None,
        check_timer=declarations.guards.check_timer,
    )


def undoing_of(log: Log, declarations: Declarations, record: Record) -> Undoing:
    """Return who takes in that a command which compensates is done; the declarations hold it, as `surroundings`."""
    handlers = declarations.handlers
    return Undoing(log, record, lambda command: handler_of(command, handlers) is not None)


def chores(log: Log, declarations: Declarations) -> list[Chore]:
    """Return what a worker has to do beside its subscriptions."""
    schedules = tuple(declarations.schedules.values())
    found = [firing(log, declarations.alarm)]
    if schedules:
        found.append(ticking(log, schedules))
    if declarations.sealer is not None:
        found.append(signing(log, declarations.sealer, declarations.bell))
    return [*found, *declarations.chores]


def recorded(manager: ProcessManager) -> tuple[type[Event], ...]:
    """Return what any version of a process may record, as far as its source says so."""
    found = (event for version in manager.versions.values() for event in recorded_by(version.cls))
    return tuple(dict.fromkeys(found))


def check_commands(declarations: Declarations) -> None:
    """Raise `DeclarationError` if a process sends a command that nobody handles."""
    missing = [
        f"{event.__qualname__}, which process {name!r} sends"
        for name, manager in declarations.managers.items()
        for event in recorded(manager)
        if issubclass(event, Command) and declarations.handler_of(event) is None
    ]
    if missing:
        raise DeclarationError(
            f"no handler for {'; '.join(missing)}: give each command one with @app.handle(…), and import the module "
            "that holds it where the App is made"
        )
