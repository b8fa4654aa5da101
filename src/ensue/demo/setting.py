"""Where a process of the demo finds the others; handed down in an environment variable."""

from __future__ import annotations

import os
from typing import Any

import msgspec
import sqlalchemy
from sqlalchemy import Engine, event

VARIABLE = "ENSUE_DEMO"


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One design's databases and services."""

    design: str
    database: str
    """The accounts' database, as SQLAlchemy takes it."""
    schema: str | None
    """The PostgreSQL schema of its tables; None for SQLite."""
    log_url: str
    log_schema: str
    newsletter: str
    mailer: str
    client_timeout: float

    def engine(self) -> Engine:
        """Connect to the accounts' database."""
        if self.schema is not None:
            search = {"options": f"-c search_path={self.schema}"}
            return sqlalchemy.create_engine(self.database, connect_args=search)
        engine = sqlalchemy.create_engine(self.database, connect_args={"timeout": 10})

        @event.listens_for(engine, "connect")
        def check_foreign_keys(connection: Any, _: object) -> None:
            connection.execute("pragma foreign_keys = on")

        return engine


def setting() -> Setting:
    """Return what the parent process has handed down."""
    return msgspec.json.decode(os.environ[VARIABLE], type=Setting)
