"""The log in PostgreSQL 13 and newer."""

from ensue.log.postgres.dialect import Postgres

__all__ = ["Postgres"]
