"""The log: one append-only table, in the user's own database, written on the user's own connection."""

from ensue.log.calling import is_awaited, never_awaited
from ensue.log.dialect import AggregateRule
from ensue.log.driving import drive, drive_async
from ensue.log.log import ANY, NO_STREAM, Expected, Log
from ensue.log.muting import muted
from ensue.log.opening import open_postgres_async, open_sqlite
from ensue.log.outages import passes
from ensue.log.place import Place
from ensue.log.postgres import Postgres
from ensue.log.reading import Selection, iso, legible
from ensue.log.retaining import Hold, Pruned
from ensue.log.riding import AsyncConnection, SyncConnection, is_async
from ensue.log.sqlite import Sqlite
from ensue.log.statements import Call, Query, Rows, Steps, wait
from ensue.log.transaction import OwnAsyncConnection, OwnConnection, Transaction

__all__ = [
    "ANY",
    "NO_STREAM",
    "AggregateRule",
    "AsyncConnection",
    "Call",
    "Expected",
    "Hold",
    "Log",
    "OwnAsyncConnection",
    "OwnConnection",
    "Place",
    "Postgres",
    "Pruned",
    "Query",
    "Rows",
    "Selection",
    "Sqlite",
    "Steps",
    "SyncConnection",
    "Transaction",
    "drive",
    "drive_async",
    "is_async",
    "is_awaited",
    "iso",
    "legible",
    "muted",
    "never_awaited",
    "open_postgres_async",
    "open_sqlite",
    "passes",
    "wait",
]
