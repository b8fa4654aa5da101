"""Rotating the master key: every person's key is wrapped anew, and nothing that it has encrypted changes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec

from ensue.errors import PersonalDataError
from ensue.history.errands import Ask, Errand
from ensue.history.forgetting import sweep
from ensue.keys import Kept
from ensue.log import Call, Log, Rows, Steps, wait

Progress = Callable[[int, int], None]
"""Is told how many keys are wrapped anew, and of how many."""

_BATCH = 100
"""Keys that are wrapped in one transaction."""


class Rewrapped(msgspec.Struct, frozen=True, kw_only=True):
    """What rotating did."""

    master: str
    """The name of the master key that has wrapped all of them now."""
    keys: int
    """How many were wrapped anew; the others had been."""
    swept: bool
    """Whether what the old master key had wrapped is gone from the table and the files, see `Forgotten`."""


class MasterUse(msgspec.Struct, frozen=True, kw_only=True):
    """How many persons' keys a master key has wrapped."""

    master: str
    keys: int
    current: bool
    """Whether it wraps new ones, here."""


def rewrap(log: Log, progress: Progress | None = None) -> Errand[Rewrapped]:
    """Wrap every key that another master key has wrapped with the current one, in batches, each in a transaction.

    It may be broken off at any time, and goes on where it was. Raises `MasterKeyMissing`, before it begins a batch, if
    a master key is not here that has wrapped one of them.
    """
    master = log.personal.vault.required().current
    planned = (yield Ask(log, _call(log.dialect.sql["count_keys_to_rewrap"](master=master))))[0][0]
    done, after = 0, ""
    while True:
        rows = yield Ask(log, _call(log.dialect.sql["keys_to_rewrap"](master=master, after=after, limit=_BATCH)))
        if not rows:
            break
        fresh = yield Ask(log, _wrapped(log, rows))
        steps = log.transaction(log.impatiently(_replace(log, rows, fresh)))
        done += yield Ask(log, log.personal.overwriting(steps))
        after = rows[-1][0]
        if progress is not None:
            progress(done, planned)
    return Rewrapped(master=master, keys=done, swept=(yield from sweep(log)))


def _wrapped(log: Log, rows: Rows) -> Steps[list[Kept]]:
    """Wrap keys anew; outside of a transaction, a key service may take long."""
    fresh: list[Kept] = []
    for subject, *row in rows:
        try:
            fresh.append((yield from wait(partial(log.personal.vault.rewrap, Kept(*row)))))
        except Exception as error:
            raise PersonalDataError(f"the key of subject {subject!r} cannot be wrapped anew: {error}") from error
    return fresh


def _replace(log: Log, rows: Rows, fresh: list[Kept]) -> Steps[int]:
    done = 0
    for (subject, _, before, _), new in zip(rows, fresh, strict=True):
        done += len(
            (
                yield log.dialect.sql["rewrap_key"](
                    subject=subject, before=before, wrapped=new.wrapped, master=new.master
                )
            )
        )
    return done


def masters(log: Log) -> Steps[list[MasterUse]]:
    """Return which master keys have wrapped persons' keys, and how many."""
    keys = log.personal.vault.masters
    current = None if keys is None else keys.current
    rows = yield Call(log.dialect.sql["count_masters"])
    found = [MasterUse(master=name, keys=count, current=name == current) for name, count in rows if name is not None]
    if current is not None and all(each.master != current for each in found):
        found.append(MasterUse(master=current, keys=0, current=True))
    return found


def _call(call: Call) -> Steps[Rows]:
    return (yield call)
