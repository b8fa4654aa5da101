"""The persons' keys in the log's database: found or made for writing, found for reading; all on the user's connection.

A key is asked for in the database each time, by the transaction that needs it: so one that another transaction has made
and rolled back is never used, and one that is destroyed is not used again from that moment on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from ensue.events import Recorded, Written, find_class, look_at
from ensue.events.personal import (
    TOKEN,
    PersonalField,
    declared,
    holds_tokens,
    is_personal,
    is_token,
    personal_members,
    tokens_in,
)
from ensue.keys import Concealing, Kept, Key, Ring, Vault
from ensue.log.dialect import Dialect
from ensue.log.sqlite import Sqlite
from ensue.log.statements import BEGIN, Call, Rows, Steps, T, wait

_json = msgspec.json.Encoder().encode

KeyOf = tuple[str, Key | None]
"""The id of a person's key, and the key; None: it is destroyed."""


class PersonalData:
    """One log's persons' keys."""

    def __init__(self, dialect: Dialect, vault: Vault) -> None:
        self._dialect = dialect
        self.vault = vault

    # --- writing

    def conceal(self, written: Sequence[Written]) -> Steps[list[Written]]:
        """Encrypt the personal fields of events that are about to be stored, in the open transaction.

        Raises `EventValueError` if nobody can say whose they are, `SubjectForgotten`, `MasterKeyMissing`.
        """
        if not declared() or not any(is_personal(each.type) for each in written):
            return list(written)
        work = [
            Concealing(fields, each.type, each.type, each.id, bytes(each.data))
            if (fields := _fields_of(each.type))
            else None
            for each in written
        ]
        keys = yield from self.keys_of(set[str]().union(*(each.subjects for each in work if each is not None)))
        return [
            one if each is None else msgspec.structs.replace(one, data=msgspec.Raw(each.done(keys)))
            for one, each in zip(written, work, strict=True)
        ]

    def conceal_one(self, concealing: Concealing, *, masking: bool = False) -> Steps[bytes]:
        """Encrypt the personal fields of something else that is about to be stored; see `Concealing.done`."""
        keys = yield from self.keys_of(concealing.subjects)
        return concealing.done(keys, masking=masking)

    def conceal_edited(self, type: str, id: str, data: str) -> Steps[str]:
        """Encrypt what is personal in an event that a person has edited, and is not encrypted already."""
        known = tuple(each for each in personal_members(type).values() if each.subject)
        fields = tuple(each for each in known if not is_token(data, each.member))
        if not fields:
            return data
        return (yield from self.conceal_one(Concealing(fields, type, type, id, data.encode()))).decode()

    def keys_of(self, subjects: Iterable[str]) -> Steps[Mapping[str, KeyOf]]:
        """Return the keys of persons, in the open transaction; who has none and is not forgotten gets one."""
        wanted = sorted(set(subjects))
        if not wanted:
            return {}
        self.vault.required()
        yield BEGIN
        sql = self._dialect.sql
        if isinstance(self._dialect, Sqlite):
            yield Call(sql["lock"])
        kept = yield from self._kept_of(wanted)
        keys: dict[str, KeyOf] = {}
        for subject in wanted:
            if subject not in kept:
                key, made = yield from wait(self.vault.new)
                row = sql["insert_key"](subject=subject, id=made.id, wrapped=made.wrapped, master=made.master)
                if (yield from self.overwriting(one(row))):
                    keys[subject] = (key.id, key)
        if missing := [each for each in wanted if each not in kept and each not in keys]:
            kept |= yield from self._kept_of(missing)  # another transaction was faster
        for subject, found in kept.items():
            keys[subject] = (found.id, None if found.wrapped is None else (yield from self._unwrapped(found)))
        return keys

    def overwriting(self, steps: Steps[T]) -> Steps[T]:
        """Let an operation on the keys leave nothing behind of what it replaces, or moves, in an SQLite file.

        A row that grows a tree moves others: what they leave in their old places is a key, too.
        """
        sql = self._dialect.sql
        before = 1 if not isinstance(self._dialect, Sqlite) else (yield Call(sql["overwrites_deleted"]))[0][0]
        if before == 1:
            return (yield from steps)
        yield Call(sql["overwrite_deleted"])
        usual = Call(sql["overwrite_deleted_cheaply" if before else "leave_deleted"])
        try:
            found = yield from steps
        except Exception:
            yield usual
            raise
        yield usual
        return found

    def _kept_of(self, subjects: Sequence[str]) -> Steps[dict[str, Kept]]:
        rows = yield Call(self._dialect.sql["keys_of_subjects"], (_json(subjects).decode(),))
        return {subject: Kept(*row) for subject, *row in rows}

    def _unwrapped(self, kept: Kept) -> Steps[Key]:
        known = self.vault.known(kept)
        if known is None:
            known = yield from wait(partial(self.vault.unwrap, kept))
        return known

    # --- reading

    def equip(self, events: Sequence[Recorded[Any]]) -> Steps[None]:
        """Give events that were read what opens them, where something in them is encrypted."""
        closed = [each for each in events if holds_tokens(each.data)]
        if closed:
            look_at(each.type for each in closed)
            ring = yield from self.ring(each.data for each in closed)
            for each in closed:
                each.opener = ring

    def ring(self, texts: Iterable[str | None]) -> Steps[Ring]:
        """Return the keys that tokens in these texts name, as far as they can be had."""
        names = {key for text in texts if text is not None for key in _names(text)}
        keys: dict[str, Key] = {}
        forgotten: set[str] = set()
        unavailable: dict[str, Exception] = {}
        rows: Rows = ()
        if names:
            rows = yield Call(self._dialect.sql["keys_by_id"], (_json(sorted(names)).decode(),))
        for row in rows:
            kept = Kept(*row)
            if kept.wrapped is None:
                forgotten.add(kept.id)
                continue
            try:
                keys[kept.id] = yield from self._unwrapped(kept)
            except Exception as error:  # noqa: BLE001 raised where it is needed, and only there
                unavailable[kept.id] = error
        return Ring(keys, frozenset(forgotten), unavailable)

    def open_rows(self, rows: Rows, stream: str) -> Steps[Rows]:
        """Return events of a stream (version, type, JSON) with their personal fields in them.

        Raises as `Ring.open` does.
        """
        closed = [row for row in rows if holds_tokens(row[2])]
        if not closed:
            return rows
        look_at(row[1] for row in closed)
        ring = yield from self.ring(row[2] for row in closed)
        found = yield self._dialect.sql["ids_of_stream"](stream=stream, after=closed[0][0] - 1, until=closed[-1][0])
        ids: dict[int, str] = {row[0]: row[1] for row in found}
        opened = {row[0]: ring.open(row[1], ids[row[0]], row[2]).data for row in closed}
        return [(row[0], row[1], opened.get(row[0], row[2]), *row[3:]) for row in rows]

    def tell(self, texts: Mapping[Any, tuple[str | None, str]]) -> Steps[dict[Any, str | None]]:
        """Return sealed texts, each given with its context, for people: what cannot be read says so."""
        if not any(text is not None and text.startswith(TOKEN) for text, _ in texts.values()):
            return {name: text for name, (text, _) in texts.items()}
        ring = yield from self.ring(text for text, _ in texts.values())
        return {name: None if text is None else ring.tell(text, context) for name, (text, context) in texts.items()}


def one(call: Call) -> Steps[Rows]:
    """Return an operation of one statement."""
    return (yield call)


def _fields_of(type: str) -> tuple[PersonalField, ...]:
    cls = find_class(type) if is_personal(type) else None
    return () if cls is None else cls.__structure__.personal


def _names(text: str) -> Iterable[str]:
    whole = f'"{text}"' if text.startswith(TOKEN) else text
    return (key for token in tokens_in(whole) for key in token.keys)
