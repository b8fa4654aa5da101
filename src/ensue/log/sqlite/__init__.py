"""The log in SQLite 3.35 and newer."""

from ensue.log.sqlite.dialect import Sqlite

__all__ = ["Sqlite"]
