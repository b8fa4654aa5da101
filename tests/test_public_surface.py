"""What can be imported from `ensue`: no more than its users need, and what the documentation names."""

from __future__ import annotations

import inspect
import subprocess
import sys
from types import ModuleType

import ensue
from ensue import errors

SURFACE = {
    "ANY",
    "Aggregate",
    "App",
    "Backoff",
    "Command",
    "Decider",
    "Delivery",
    "DomainEvent",
    "Done",
    "Hold",
    "IntegrationEvent",
    "Metadata",
    "NO_STREAM",
    "Park",
    "PastEvent",
    "Personal",
    "Process",
    "Projection",
    "Receipt",
    "Recorded",
    "Retry",
    "Snapshots",
    "SourcedEvent",
    "Timer",
    "applies",
    "context",
    "errors",
    "evolves",
    "moves",
    "personal",
    "starts",
    "upcast",
}

ERRORS = {
    "AggregateDeleted",
    "AggregateError",
    "AggregateNotFound",
    "AggregateSpoiled",
    "BoundaryCrossed",
    "BrokerError",
    "BrokerRefused",
    "BrokerUnavailable",
    "ConsoleRefused",
    "ContractBroken",
    "DatabaseUnavailable",
    "DeclarationError",
    "DuplicateName",
    "EnsueError",
    "EventDefinitionError",
    "EventError",
    "EventValueError",
    "LeavesTheDatabase",
    "MalformedMessage",
    "MasterKeyMissing",
    "NotInTransaction",
    "NotMigrated",
    "NotPrepared",
    "NotReached",
    "NotSealed",
    "Permanent",
    "PersonalDataError",
    "ProjectionError",
    "ProjectionInUse",
    "RecordingError",
    "RenamedSubscription",
    "SealBroken",
    "SealError",
    "SecondAggregate",
    "LakeError",
    "Overtaken",
    "StillNeeded",
    "SubjectForgotten",
    "UndecodableEvent",
    "UnknownName",
    "UnverifiedMessage",
    "UnusableConnection",
    "UnusableContract",
    "UnusableKey",
    "VersionConflict",
    "WrongDatabase",
}


def names(module: ModuleType) -> set[str]:
    return {name for name in vars(module) if not name.startswith("_")}


def test_ensue_exports_what_is_promised() -> None:
    assert set(ensue.__all__) == SURFACE
    rooms = {name for name in names(ensue) if inspect.ismodule(getattr(ensue, name)) and name != "errors"}
    assert names(ensue) - rooms == SURFACE


def test_errors_are_what_is_promised() -> None:
    raised = {name for name in names(errors) if inspect.isclass(getattr(errors, name))}
    assert raised == ERRORS | {"AggregateRuleWarning"}
    assert issubclass(errors.AggregateRuleWarning, UserWarning)
    assert all(issubclass(getattr(errors, name), errors.EnsueError) for name in ERRORS)


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    """The drawing in the module's docstring names each error under its base."""
    drawn: dict[str, str | None] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        name = line.lstrip("│├└─ ").split(" ")[0]
        if name not in ERRORS:
            continue
        depth = len(line) - len(line.lstrip("│├└─ "))
        above = [(other, base) for other, base in above if other < depth]
        drawn[name] = above[-1][1] if above else None
        above.append((depth, name))
    assert set(drawn) == ERRORS
    for name, base in drawn.items():
        assert getattr(errors, name).__bases__[0].__name__ == (base or "Exception"), name


def test_importing_ensue_needs_no_driver() -> None:
    """They are optional: each is imported when a connection of it comes along."""
    program = """
import sys
for driver in (
    "psycopg", "aiosqlite", "asyncpg", "sqlalchemy", "django", "pydantic", "pytest",
    "opentelemetry", "prometheus_client", "fastapi", "starlette",
):
    sys.modules[driver] = None
import ensue
app = ensue.App("surface", "memory://surface", migrate=True)
class Noted(ensue.DomainEvent): ...
with app.transaction() as connection:
    app.record(Noted(), via=connection)
assert len(list(app.read())) == 1
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_the_package_says_that_it_is_typed() -> None:
    from importlib.resources import files

    assert (files("ensue") / "py.typed").is_file()
