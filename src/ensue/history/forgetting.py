"""Forgetting a person: the key is destroyed, and with it everything that was encrypted with it, wherever it is."""

from __future__ import annotations

import time
from datetime import datetime

import msgspec

from ensue.errors import EventValueError
from ensue.events import fault_in
from ensue.history.errands import Ask, Errand, Rest
from ensue.keys import Key
from ensue.log import Call, Log, Rows, Steps

_PATIENCE = 10.0
"""Seconds to wait at most for those who read an SQLite file and so keep its write-ahead log from being emptied."""
_PAUSE = 0.05


class Forgotten(msgspec.Struct, frozen=True, kw_only=True):
    """That a person is forgotten."""

    subject: str
    forgotten_at: datetime
    """When it happened, for the first time."""
    known: bool
    """Whether there was a key to destroy now. False: nothing had been encrypted, or the person was forgotten before."""
    swept: bool
    """Whether what is left of the destroyed key has been swept up, as far as the database lets itself be asked. False:
    somebody reads the SQLite file for long, or this role of PostgreSQL does not own the table. Again sweeps again."""


def check_subject(subject: object) -> str:
    """Return it; raise `EventValueError` for what is no person's id."""
    if not isinstance(subject, str) or not subject:
        raise EventValueError(f"subject {subject!r}: it must be text that is not empty, as its events hold it")
    if fault := fault_in(subject):
        raise EventValueError(f"subject … {fault}")
    return subject


def forget(log: Log, subject: str, actor: str, reason: str) -> Errand[Forgotten]:
    """Destroy a person's key in a transaction with an entry in the audit table, then sweep up what is left of it."""
    id, moment, known = yield Ask(log, _destroy(log, subject, actor, reason))
    log.personal.vault.forget(id)
    swept = yield from sweep(log)
    return Forgotten(subject=subject, forgotten_at=datetime.fromisoformat(moment), known=known, swept=swept)


def _destroy(log: Log, subject: str, actor: str, reason: str) -> Steps[tuple[str, str, bool]]:
    steps = log.transaction(log.impatiently(_end(log, subject, actor, reason)))
    return (yield from log.personal.overwriting(steps))


def _end(log: Log, subject: str, actor: str, reason: str) -> Steps[tuple[str, str, bool]]:
    sql = log.dialect.sql
    before = yield sql["person"](subject=subject)
    ((id, moment),) = yield sql["forget_key"](subject=subject, id=Key.new().id)
    yield sql["insert_audit"](
        actor=actor, action="forget", subscription=None, key=subject, event_id=None, reason=reason, detail="{}"
    )
    return id, moment, bool(before and before[0][1])


def sweep(log: Log) -> Errand[bool]:
    """Remove what was overwritten from the table and the files; tell whether that was possible."""
    sql = log.dialect.sql
    if "vacuum_keys" in sql:
        may = (yield Ask(log, _call(Call(sql["may_vacuum_keys"]))))[0][0]
        if may:  # else PostgreSQL would only warn, and skip it
            yield Ask(log, _call(Call(sql["vacuum_keys"])))
        return bool(may)
    deadline = time.monotonic() + _PATIENCE
    while True:
        busy = yield Ask(log, _empty(log))
        if not busy:
            return True
        if time.monotonic() > deadline:
            return False
        yield Rest(_PAUSE)


def _empty(log: Log) -> Steps[bool]:
    sql = log.dialect.sql
    yield Call(sql["wait_briefly"])
    busy = (yield Call(sql["empty_wal"]))[0][0]
    yield Call(sql["wait_as_usual"])
    return bool(busy)


def _call(call: Call) -> Steps[Rows]:
    return (yield call)
