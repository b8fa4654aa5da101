"""The reference mentions every public name, parameter, error, table and column."""

from __future__ import annotations

import inspect
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import ensue
from ensue import App, Backoff, Delivery, Metadata, Park, Projection, Receipt, Recorded, Retry, errors
from ensue.app.operations import Operations
from ensue.app.replaying import Replays
from ensue.handlers.projections import TableDifference
from ensue.history import Difference, History, Need, Prunable, Pruning, State, Trace, Traced
from ensue.log import Hold, Pruned
from ensue.seals import CheckpointSealed, Finding, Growth, Proof, Sealed, Seals, SigningKey, Verified
from ensue.seals import Standing as SealStanding
from ensue.subscriptions.operating import AuditEntry, DeadLetter, Filter
from ensue.subscriptions.standings import Holder, Partition, Standing, WorkerSeen
from ensue.tables import Table

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
INTERNAL = {"id_text", "id_texts", "kind_text", "recorded_at_text", "own_key", "own_correlation_id", "extra"}


def mentioned(page: str = "*") -> set[str]:
    """Return the words of all code on a page of the reference, in blocks or inside a line."""
    words: set[str] = set()
    for path in REFERENCE.glob(f"{page}.md"):
        text = path.read_text()
        for code in re.findall(r"^```\w*.*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            words.update(re.findall(r"\w+", code))
        for code in re.findall(r"`([^`\n]+)`", text):
            words.update(re.findall(r"\w+", code))
    return words


def public(cls: type) -> set[str]:
    """Return the public methods, properties and fields of a class."""
    names = {name for each in cls.__mro__ if each.__module__.startswith("ensue") for name in vars(each)}
    fields = set(getattr(cls, "__struct_fields__", ())) | set(getattr(cls, "__dataclass_fields__", ()))
    return {name for name in names | fields if not name.startswith("_")} - INTERNAL


def test_every_public_name() -> None:
    assert set(ensue.__all__) - mentioned() == set()


def test_every_error() -> None:
    defined = {name for name, each in vars(errors).items() if inspect.isclass(each)}
    assert defined - mentioned("errors") == set()


@pytest.mark.parametrize(
    "cls, page",
    [
        (App, "app"),
        (Operations, "operations"),
        (Filter, "operations"),
        (DeadLetter, "operations"),
        (Standing, "operations"),
        (Partition, "operations"),
        (AuditEntry, "operations"),
        (Holder, "operations"),
        (WorkerSeen, "operations"),
        (History, "history"),
        (Trace, "history"),
        (Traced, "history"),
        (State, "history"),
        (Difference, "history"),
        (Pruning, "history"),
        (Seals, "seals"),
        (Sealed, "seals"),
        (Verified, "seals"),
        (SealStanding, "seals"),
        (Finding, "seals"),
        (Proof, "seals"),
        (Growth, "seals"),
        (SigningKey, "seals"),
        (CheckpointSealed, "seals"),
        (Prunable, "history"),
        (Need, "history"),
        (Pruned, "history"),
        (Hold, "history"),
        (Backoff, "outcomes"),
        (Retry, "outcomes"),
        (Park, "outcomes"),
        (Delivery, "outcomes"),
        (Table, "tables"),
        (Projection, "app"),
        (Replays, "replays"),
        (TableDifference, "replays"),
        (Receipt, "events"),
        (Recorded, "events"),
        (Metadata, "events"),
    ],
)
def test_what_a_class_offers(cls: type, page: str) -> None:
    assert public(cls) - mentioned(page) == set()


@pytest.mark.parametrize("cls, page", [(App, "app"), (Operations, "operations"), (History, "history")])
def test_every_parameter_of_its_methods(cls: type, page: str) -> None:
    methods = [each for name, each in vars(cls).items() if inspect.isfunction(each) and name[0] != "_"]
    made_by_users: list[Any] = [cls] if cls is App else []
    parameters = {name for each in (*methods, *made_by_users) for name in inspect.signature(each).parameters} - {"self"}
    assert parameters - mentioned(page) == set()


def test_every_table_and_column(tmp_path: Path) -> None:
    App("reference", f"sqlite:///{tmp_path}/log.db").migrate()
    with closing(sqlite3.connect(tmp_path / "log.db")) as connection:
        found = connection.execute(
            "select t.name, c.name from sqlite_master t, pragma_table_info(t.name) c "
            "where t.type = 'table' and t.name like 'ensue_%'"
        ).fetchall()
    names = {table.removeprefix("ensue_") for table, _ in found} | {column for _, column in found}
    assert "checkpoint" in names
    assert names - mentioned("schema") == set()
