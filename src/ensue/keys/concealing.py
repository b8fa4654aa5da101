"""Encrypting: the personal members of an event's JSON become tokens, and nothing else changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ensue.errors import SubjectForgotten
from ensue.events.personal import PersonalField, Token, subject_id
from ensue.keys.cipher import Key, encrypt

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_NULL = b"null"


class Concealing:
    """One structure that is about to be stored: whose fields it has, and what becomes of it when there are keys.

    `owner` is whose those fields are that name no subject.
    """

    def __init__(
        self, fields: Sequence[PersonalField], where: str, type: str, id: str, data: bytes, owner: str | None = None
    ) -> None:
        self._where = where
        self._type = type
        self._id = id
        self._members = _members(data)
        self._of: dict[str, tuple[PersonalField, str]] = {}
        """By member, the field and whose it is: of those that hold something."""
        for field in fields:
            value = self._members.get(field.member)
            if value is None or bytes(value) == _NULL:
                continue
            if owner is not None and not field.subject:
                subject = owner
            else:
                subject = subject_id(f"{where}.{field.subject}", self._members.get(field.subject_member))
            self._of[field.member] = (field, subject)

    @property
    def subjects(self) -> set[str]:
        """Whose they are."""
        return {subject for _, subject in self._of.values()}

    def done(self, keys: Mapping[str, tuple[str, Key | None]], *, masking: bool = False) -> bytes:
        """Return the JSON to be stored, given each person's key and its id; None is the key of who is forgotten.

        If it would tell something about such a person, `SubjectForgotten` is raised: only masks may stand there. With
        `masking`, for what cannot be refused, it is left out instead.
        """
        for member, (field, subject) in self._of.items():
            id, key = keys[subject]
            if key is None:
                if not masking and bytes(self._members[member]) != bytes(field.mask):
                    raise SubjectForgotten(subject, f"{self._where}.{field.name}")
                token = Token((id,), "-")
            else:
                token = encrypt([key], bytes(self._members[member]), context(self._type, self._id, member))
            self._members[member] = msgspec.Raw(_encode(str(token)))
        return _encode(self._members)


def context(type: str, id: str, member: str) -> str:
    """Return what binds a token to its place: moved to another event or field, it cannot be read."""
    return f"{type}\0{id}\0{member}"
