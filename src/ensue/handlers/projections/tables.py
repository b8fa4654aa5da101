"""Which database has the tables of a log's builds."""

from __future__ import annotations

from ensue.handlers.projections.placing import Tables
from ensue.handlers.projections.postgres_tables import PostgresTables
from ensue.handlers.projections.sqlite_tables import SqliteTables
from ensue.log import Log, Postgres


def tables_of(log: Log) -> Tables:
    """Return what can be done with the tables of builds in the log's database."""
    return PostgresTables(log.place.schema) if isinstance(log.dialect, Postgres) else SqliteTables()
