"""Riding on Django's connection."""

from __future__ import annotations

from typing import Any, ClassVar

import django.db
from django.db.backends.base.base import BaseDatabaseWrapper

from ensue.errors import NotInTransaction, UnusableConnection
from ensue.log.dialect import Fault
from ensue.log.driving import drive
from ensue.log.place import Place
from ensue.log.postgres import Postgres
from ensue.log.riding.sqlite import BEGIN, DATABASE, PRIVATE, sqlite_fault
from ensue.log.sqlite import Sqlite
from ensue.log.statements import Call, Rows, Steps, Style, T

_KINDS = {"postgresql": Postgres.label, "sqlite": Sqlite.label}


class DjangoRide:
    """`django.db.connection`, or one of `django.db.connections`."""

    asynchronous: ClassVar[bool] = False

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        self.kind = _KINDS.get(connection.vendor, connection.display_name)

    def run(self, steps: Steps[T], place: Place) -> T:
        return drive(steps, self, place)

    def begin(self, place: Place) -> None:
        connection = self._connection
        if connection.needs_rollback:
            raise UnusableConnection("the atomic block has failed earlier and takes nothing more; nothing was recorded")
        if not connection.in_atomic_block and connection.get_autocommit():
            raise NotInTransaction(
                "Django is in autocommit mode and has no open transaction: the event would not be part of anything. "
                "Use transaction.atomic(); nothing was recorded"
            )
        if self.kind != Sqlite.label:
            place.confirm(str(connection.settings_dict["NAME"]))
            return
        place.confirm(self._execute(DATABASE, ())[0][2] or PRIVATE)
        if not connection.connection.in_transaction:
            self._execute(BEGIN, ())

    def execute(self, call: Call) -> Rows:
        query = call.query
        if call.many:
            with self._connection.cursor() as cursor:
                cursor.executemany(query.format, [query.arrange(Style.FORMAT, row) for row in call.values])
            return ()
        return self._execute(query.format, query.arrange(Style.FORMAT, call.values))

    def _execute(self, sql: str, values: Any) -> Rows:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, tuple(values) or None)
            rows: Rows = cursor.fetchall() if cursor.description else ()
            return rows

    def fault(self, error: Exception) -> Fault | None:
        if not isinstance(error, django.db.Error):
            return None
        original: Any = error.__cause__
        if self.kind == Sqlite.label:
            return sqlite_fault(original)
        code = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
        about = getattr(original, "diag", None)
        return Fault(
            code or ("08006" if isinstance(error, (django.db.OperationalError, django.db.InterfaceError)) else None),
            getattr(about, "message_primary", None) or str(error),
            getattr(about, "message_detail", None),
            getattr(about, "constraint_name", None),
        )
