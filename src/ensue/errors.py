"""Everything that ensue raises, in one tree.

EnsueError
├── EventError                   an event class or an event cannot be used
│   ├── EventDefinitionError     the class: found when it is defined
│   ├── EventValueError          the object: found when it is recorded
│   └── UndecodableEvent         a stored row: found when it is read
├── RecordingError               nothing was written
│   ├── NotInTransaction
│   ├── UnusableConnection
│   ├── WrongDatabase
│   ├── VersionConflict
│   └── SecondAggregate          one transaction, one aggregate
├── AggregateError               an aggregate cannot be used
│   ├── AggregateNotFound
│   ├── AggregateDeleted
│   └── AggregateSpoiled         a command failed half way: load it again
├── NotMigrated                  the schema is missing or old
├── DeclarationError             the application contradicts itself or the log
│   ├── DuplicateName
│   ├── RenamedSubscription
│   ├── BoundaryCrossed          a module uses what is private to another one
│   └── ContractBroken           an event is not what its contract file says
├── ProjectionError              a projection cannot be built, compared or switched
│   ├── LeavesTheDatabase        it tried to do something else than write tables
│   ├── NotReached               it has not come so far in time
│   └── ProjectionInUse          something else depends on it
├── UnusableContract             a contract file cannot be read, or cannot be put in other words
├── MalformedMessage             a broker's message is no event
├── UnverifiedMessage            a webhook is not signed as it should be
├── PersonalDataError            personal fields cannot be encrypted or read
│   ├── MasterKeyMissing         the key that the persons' keys are wrapped with is not here
│   └── SubjectForgotten         nothing personal is recorded about this person any more
├── LakeError                    a lake cannot be written or read
│   └── Overtaken                another collector has gone on with the source
├── StillNeeded                  events cannot be pruned: somebody needs them
├── SealError                    a seal cannot be made, taken elsewhere or checked
│   ├── UnusableKey              there is no key, or it is none
│   ├── NotSealed                this has not been sealed yet
│   └── SealBroken               the log no longer is what was sealed
├── UnknownName                  no such event, subscription or dead letter
├── DatabaseUnavailable          the database did not answer
├── BrokerError                  a broker cannot be used
│   ├── BrokerUnavailable        it did not answer: later, perhaps
│   ├── BrokerRefused            it answered: somebody has to mend something
│   └── NotPrepared              a receiver has nothing there yet that keeps messages for it
├── ConsoleRefused               the console cannot be opened like this, or the visitor may not do that
└── Permanent                    raised by handlers: trying again is no use
"""

from __future__ import annotations


class EnsueError(Exception):
    """Anything that ensue raises."""


class EventError(EnsueError):
    """An event class or an event cannot be used."""


class EventDefinitionError(EventError, TypeError):
    """An event class cannot be defined like this."""


class EventValueError(EventError, ValueError):
    """An event holds a value that cannot be recorded."""


class UndecodableEvent(EventError):
    """A stored event does not fit its class, or no class has its type."""

    def __init__(
        self, message: str, *, position: int | None, type: str, stream: str | None = None, version: int | None = None
    ) -> None:
        super().__init__(message)
        self.position = position
        """None where an aggregate was loaded: that knows of streams and versions only."""
        self.type = type
        self.stream = stream
        self.version = version


class RecordingError(EnsueError):
    """Nothing was recorded."""


class NotInTransaction(RecordingError):
    """The connection has no transaction that the record could be part of."""


class UnusableConnection(RecordingError):
    """The connection is closed, in a failed transaction, or of a kind that ensue does not know."""


class WrongDatabase(RecordingError):
    """The connection leads to another database, or the log there belongs to another application."""


class VersionConflict(RecordingError):
    """The stream is not at the version that was expected."""

    def __init__(self, stream: str, expected: int | None, actual: int | None) -> None:
        self.stream = stream
        self.expected = expected
        self.actual = actual
        wanted = {None: "any version", 0: "no stream yet"}.get(expected, f"version {expected}")
        found = "another version" if actual is None else f"version {actual}"
        super().__init__(
            f"stream {stream!r} is at {found}, expected {wanted}: somebody else has recorded in it. "
            "Roll back, load it again and repeat the decision"
        )


class SecondAggregate(RecordingError):
    """One transaction changes one aggregate: it has recorded in the stream of another one before."""

    def __init__(self, first: str, second: str) -> None:
        self.first = first
        self.second = second
        super().__init__(
            f"this transaction has changed aggregate {first!r} and would now change {second!r}: one transaction, one "
            f"aggregate. Let {second!r} follow: handle the event of {first!r} with @app.on(…) and change {second!r} "
            "there, in a transaction of its own. If both must change together, say why: "
            "with app.several_aggregates('…')"
        )


class AggregateRuleWarning(UserWarning):
    """One transaction has changed two aggregates, and the application asked only to be told."""


class AggregateError(EnsueError):
    """An aggregate cannot be used."""


class AggregateNotFound(AggregateError, LookupError):
    """There is no event of this aggregate."""

    def __init__(self, aggregate: str, id: str) -> None:
        self.aggregate = aggregate
        self.id = id
        super().__init__(
            f"there is no {aggregate} with the id {id!r}: nothing has been recorded in stream {f'{aggregate}-{id}'!r}"
        )


class AggregateDeleted(AggregateError):
    """The aggregate is gone: an event has ended it."""

    def __init__(self, aggregate: str, id: str, version: int, type: str) -> None:
        self.aggregate = aggregate
        self.id = id
        self.version = version
        """The version of the event that ended it."""
        self.type = type
        super().__init__(
            f"{aggregate} {id!r} is deleted: event {type!r} ended it at version {version}. "
            f"What it was before is still there: get({id!r}, at_version={version - 1})"
        )


class AggregateSpoiled(AggregateError):
    """A command failed while it changed the state: the object no longer is what the log says."""

    def __init__(self, stream: str, cause: BaseException) -> None:
        super().__init__(f"{stream!r}: an event failed while it was applied ({cause!r}): load the aggregate again")


class NotMigrated(EnsueError):
    """The database has no log, or one of an older release. Run `ensue migrate`."""


class DeclarationError(EnsueError):
    """The declarations of an application contradict each other or the log."""


class DuplicateName(DeclarationError):
    """Two things have one name."""


class RenamedSubscription(DeclarationError):
    """A new subscription appeared where another vanished: a rename would deliver again or lose events."""


class BoundaryCrossed(DeclarationError):
    """Something uses what is private to a module, or makes an integration event of one."""

    def __init__(self, message: str, crossings: tuple[str, ...]) -> None:
        super().__init__(message)
        self.crossings = crossings
        """What crosses which boundary, one sentence each."""


class ContractBroken(DeclarationError):
    """An integration event is not what its contract file says, or has none."""

    def __init__(self, message: str, differences: tuple[str, ...]) -> None:
        super().__init__(message)
        self.differences = differences
        """What differs, one sentence each."""


class ProjectionError(EnsueError):
    """A projection cannot be built, compared or switched."""


class LeavesTheDatabase(ProjectionError):
    """A projection's function tried to do something else than write tables."""


class NotReached(ProjectionError, TimeoutError):
    """A projection has not come as far as was waited for, or what was waited for has failed there."""


class ProjectionInUse(ProjectionError):
    """Something depends on a projection's tables, or is at work on them."""


class UnusableContract(EnsueError):
    """A contract file cannot be read, or what it says cannot be expressed where it was to go."""


class MalformedMessage(EnsueError):
    """A broker's message is no CloudEvent, or its data does not fit the class of its type."""


class UnverifiedMessage(EnsueError):
    """A webhook was not signed with one of the secrets, or too long ago."""


class PersonalDataError(EnsueError):
    """Personal fields cannot be encrypted or read."""


class MasterKeyMissing(PersonalDataError):
    """The master key with which the persons' keys are wrapped is not here, or is no key."""


class SubjectForgotten(PersonalDataError):
    """The person is forgotten: nothing personal is recorded about that person any more."""

    def __init__(self, subject: str, field: str) -> None:
        self.subject = subject
        self.field = field
        """The field, with its event class."""
        super().__init__(
            f"subject {subject!r} is forgotten, and {field} would record something personal about it: leave its mask "
            "there, or, if the person has come back, give it another id"
        )


class LakeError(EnsueError):
    """A lake cannot be written or read."""


class Overtaken(LakeError):
    """Somebody else has collected from this source meanwhile; nothing was written."""


class StillNeeded(EnsueError):
    """Events cannot be pruned: a subscription has not passed them, a hold keeps them, or they are kept for ever."""


class SealError(EnsueError):
    """A seal cannot be made, taken elsewhere, or checked."""


class UnusableKey(SealError):
    """There is no key to seal or to check with, or what is given is none."""


class NotSealed(SealError):
    """What is asked for has not been sealed yet."""


class SealBroken(SealError):
    """The log, or the tree beside it, no longer is what was sealed: nothing new is signed over it."""


class UnknownName(EnsueError, LookupError):
    """Nothing has this name."""


class DatabaseUnavailable(EnsueError):
    """The database cannot be reached or broke off the connection."""


class BrokerError(EnsueError):
    """A broker cannot be used."""


class BrokerUnavailable(BrokerError):
    """The broker cannot be reached, broke off the connection, or wants to be asked later."""

    def __init__(self, message: str, *, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after
        """Seconds before which it does not want to be asked again, where it says so."""


class BrokerRefused(BrokerError):
    """The broker refuses: credentials, permissions, or something of that name that does not fit."""


class NotPrepared(BrokerError):
    """Some receivers have nothing yet at their brokers that keeps messages for them; all others have."""

    def __init__(self, failures: dict[str, str], made: dict[str, list[str]]) -> None:
        self.failures = failures
        """Why not, by receiver."""
        self.made = made
        """What was made for the others, by receiver."""
        super().__init__("\n".join(f"receiver {name} is not prepared: {why}" for name, why in failures.items()))


class ConsoleRefused(EnsueError):
    """The console cannot be opened like this, or whoever asks may not do that."""


class Permanent(EnsueError):
    """Raise it in a handler to say that trying again is no use: the event becomes a dead letter at once."""
