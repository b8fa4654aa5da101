"""`Process`: a class whose objects remember where something stands that takes several steps."""

from __future__ import annotations

import copy
import inspect
import re
from datetime import datetime
from typing import Any, ClassVar, get_type_hints

import msgspec

from ensue.errors import DeclarationError, EventDefinitionError, Permanent
from ensue.events import Command, Event, SourcedEvent, new_id
from ensue.events.methods import Marked
from ensue.events.personal import PersonalField, personal_fields, register
from ensue.events.plain import from_plain, to_plain
from ensue.handlers.processes.stepping import steps
from ensue.subscriptions import When

_NAME = re.compile(r"[A-Za-z_][\w.-]{0,99}")
_encode = msgspec.json.Encoder(enc_hook=to_plain).encode


_OURS = frozenset(("key", "moment", "_ensue_doing"))


class Doing:
    """What a step has asked for, to be done when it has ended."""

    def __init__(self) -> None:
        self.messages: list[Event] = []
        self.timers: list[tuple[When, Event, str]] = []
        self.cancelled: list[str] = []
        self.undo: list[Event] = []
        self.compensates_at: int | None = None
        """Behind how many of the messages."""
        self.outcome: str | None = None


class Process:
    """Where something stands that takes several steps: it is started by an event, and moved by events and timers.

    State is annotated fields with defaults, of types that msgspec knows. The methods under `@starts` and `@moves`
    decide what comes next, and do nothing else: what they ask for is written in one transaction with the state. Class
    keywords: `version=` grows when the steps change, and a process finishes on the version that it began with; `name=`
    pins the name, the same for all versions (the class's name otherwise). What is `Personal[…]` in the state is of the
    person whose id is the process's key, or stands in the field that `subject=` names.

    Raises `DeclarationError` when the class is made and contradicts itself.
    """

    __process__: ClassVar[str]
    __version__: ClassVar[int]
    __steps__: ClassVar[dict[type[Event], Marked]] = {}
    __state__: ClassVar[type[msgspec.Struct]]
    __personal__: ClassVar[tuple[PersonalField, ...]] = ()

    key: str
    """What the process is about, as text: the value that all its events share."""
    moment: datetime
    """When the event in hand was recorded: the only clock that a step should look at."""
    _ensue_doing: Doing

    def __init_subclass__(
        cls, *, version: int = 1, name: str | None = None, subject: str | None = None, **options: Any
    ) -> None:
        super().__init_subclass__(**options)
        label = cls.__name__ if name is None else name
        if not isinstance(label, str) or not _NAME.fullmatch(label):
            raise DeclarationError(f"process {cls.__qualname__}: name={label!r}: letters, digits, '_', '.' and '-'")
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise DeclarationError(f"process {cls.__qualname__}: version={version!r}: 1, 2, …")
        cls.__process__, cls.__version__ = label, version
        cls.__steps__ = {**cls.__steps__, **steps.collect(cls)}
        cls.__state__ = _state(cls)
        cls.__personal__ = _personal(cls, subject)
        register(stored_as(label), cls.__personal__, today=True)

    def __init__(self) -> None:
        raise DeclarationError(f"{type(self).__qualname__}: ensue makes the objects of a process, when an event comes")

    def __repr__(self) -> str:
        return f"<{type(self).__qualname__} {self.key}>"

    # --- what a step may ask for

    def send(self, command: Command, /, *more: Command) -> None:
        """Record commands, for the one handler that each of them has. Raises `DeclarationError` for what is none."""
        for each in (command, *more):
            if not isinstance(each, Command):
                raise DeclarationError(f"send({each!r}): that is no command; an event is recorded: self.record(…)")
        self._ensue_doing.messages += (command, *more)

    def record(self, event: Event, /, *more: Event) -> None:
        """Record events for whoever wants them. Raises `DeclarationError` for what is none."""
        for each in (event, *more):
            _check_recordable("record", each)
            if isinstance(each, Command):
                raise DeclarationError(f"record({each!r}): that is a command; it is sent: self.send(…)")
        self._ensue_doing.messages += (event, *more)

    def after(self, when: When, event: Event, *, name: str | None = None) -> str:
        """Let an event be recorded after seconds, a duration such as "3d", or at a moment; return the timer's name.

        A timer of that name is replaced. When the process ends, those that have not fired are cancelled.
        """
        _check_recordable("after", event)
        named = new_id() if name is None else name
        self._ensue_doing.timers = [each for each in self._ensue_doing.timers if each[2] != named]
        self._ensue_doing.timers.append((when, event, named))
        return named

    def cancel(self, name: str) -> None:
        """Cancel a timer; if it has fired already, its event will not come here. None of that name: nothing happens."""
        self._ensue_doing.timers = [each for each in self._ensue_doing.timers if each[2] != name]
        self._ensue_doing.cancelled.append(name)

    def undo(self, message: Event, /, *more: Event) -> None:
        """Say what compensates for what this step does: commands, or events, in the order in which things are done."""
        for each in (message, *more):
            _check_recordable("undo", each)
        self._ensue_doing.undo += (message, *more)

    def compensate(self) -> None:
        """Undo what the steps have said by `undo`, the last first: each command when the one before it is done.

        It goes on after this step, and after `end` too. What the step sends besides does not wait for it.
        """
        if self._ensue_doing.compensates_at is None:
            self._ensue_doing.compensates_at = len(self._ensue_doing.messages)

    def end(self, outcome: str = "done") -> None:
        """End the process: its timers are cancelled, and nothing moves it any more. `outcome` is for those who look."""
        if not isinstance(outcome, str) or not outcome or len(outcome) > 200:
            raise DeclarationError(f"end({outcome!r}): say how it ended, in at most 200 characters")
        self._ensue_doing.outcome = outcome


def begin(cls: type[Process], key: str) -> Process:
    """Return a process in its first state."""
    return _make(cls, key, cls.__state__())


def load(cls: type[Process], key: str, state: str) -> Process:
    """Return a process in a state that was kept; raise `Permanent` if its class does not take that."""
    try:
        values = msgspec.json.decode(state, type=cls.__state__, dec_hook=from_plain)
    except Exception as error:
        raise Permanent(
            f"process {cls.__process__!r} of {key!r}: its state does not fit {cls.__qualname__} any more ({error}): "
            "give new fields defaults, or make what has changed a new version"
        ) from error
    return _make(cls, key, values)


def _make(cls: type[Process], key: str, values: msgspec.Struct) -> Process:
    made = cls.__new__(cls)
    made.key = key
    made._ensue_doing = Doing()  # noqa: SLF001 its own room
    for name in values.__struct_fields__:
        setattr(made, name, getattr(values, name))
    return made


def keep(process: Process) -> str:
    """Return the state as JSON; raise `Permanent` if it could not be read again."""
    cls = type(process)
    try:
        state = _encode({name: getattr(process, name) for name in cls.__state__.__struct_fields__}).decode()
        msgspec.json.decode(state, type=cls.__state__, dec_hook=from_plain)
    except Exception as error:
        raise Permanent(f"process {cls.__process__!r} of {process.key!r}: its state cannot be kept: {error}") from error
    if unknown := sorted(vars(process).keys() - set(cls.__state__.__struct_fields__) - _OURS):
        raise Permanent(
            f"process {cls.__process__!r} of {process.key!r}: {', '.join(unknown)} would be forgotten: annotate it in "
            f"{cls.__qualname__}, with a default"
        )
    return state


def take(process: Process) -> Doing:
    """Return what its step has asked for."""
    return process._ensue_doing  # noqa: SLF001 its own room


def _check_recordable(how: str, event: object) -> None:
    if not isinstance(event, Event):
        raise DeclarationError(f"{how}({event!r}): that is no event")
    if isinstance(event, SourcedEvent):
        raise DeclarationError(
            f"{how}({event!r}): an event-sourced event belongs to an aggregate: send a command, and let its handler "
            "change the aggregate"
        )


def _state(cls: type[Process]) -> type[msgspec.Struct]:
    """Make a structure of what a class annotates."""
    try:
        hints = get_type_hints(cls)
    except NameError as error:
        raise DeclarationError(
            f"process {cls.__qualname__}: {error}: define or import it before the process"
        ) from error
    fields: list[tuple[str, Any, Any]] = []
    for each in reversed(cls.__mro__):
        if each in Process.__mro__:
            continue
        for name, hint in inspect.get_annotations(each).items():
            if "ClassVar" in str(hint):
                continue
            if hasattr(Process, name) or name in _OURS or name.startswith("_"):
                raise DeclarationError(
                    f"{cls.__qualname__}.{name}: that is what every process has from ensue; give yours another name"
                )
            if not hasattr(cls, name):
                raise DeclarationError(f"{cls.__qualname__}.{name}: give it a default: a process begins without any")
            fields.append((name, hints[name], _default(getattr(cls, name))))
    state = msgspec.defstruct(f"{cls.__qualname__}State", fields, kw_only=True)
    try:
        msgspec.json.Decoder(state, dec_hook=from_plain)
    except TypeError as error:
        raise DeclarationError(f"process {cls.__qualname__}: {error}: its state is kept as JSON") from error
    return state


def stored_as(process: str) -> str:
    """Return the name under which the personal fields of a process's state are known."""
    return f"process {process}"


def _personal(cls: type[Process], subject: str | None) -> tuple[PersonalField, ...]:
    hints = get_type_hints(cls, include_extras=True)
    fields = [(each, hints[each]) for each in cls.__state__.__struct_fields__]
    try:
        return personal_fields(msgspec.defstruct(cls.__qualname__, fields, kw_only=True), subject, read_only=True)
    except EventDefinitionError as error:
        raise DeclarationError(str(error).replace("event ", "process ", 1)) from error


def _default(value: Any) -> Any:
    return msgspec.field(default_factory=lambda: copy.deepcopy(value))
