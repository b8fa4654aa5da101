"""Reading: tokens become what they were, or the masks of those who are forgotten."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ensue.errors import PersonalDataError
from ensue.events.personal import TOKEN, Opened, Token, holds_tokens, personal_members, token_of, tokens_in
from ensue.keys.cipher import Key, decrypt, encrypt
from ensue.keys.concealing import context

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_text = msgspec.json.Decoder(str).decode
_NULL = msgspec.Raw(b"null")
_BEGINS = f'"{TOKEN}'.encode()
_LENGTH = len(_BEGINS)
FORGOTTEN = "(forgotten)"
HIDDEN = "(personal)"
_UNREAD = (_encode(FORGOTTEN), _encode(HIDDEN))


class Ring:
    """The keys that tokens in something that was read name: one for all of a batch."""

    def __init__(
        self, keys: Mapping[str, Key], forgotten: frozenset[str], unavailable: Mapping[str, Exception]
    ) -> None:
        self.keys = keys
        self.forgotten = forgotten
        """Ids of the keys that are destroyed."""
        self._unavailable = unavailable
        """Why a key cannot be unwrapped, by its id."""

    def open(self, type: str, id: str, data: str) -> Opened:
        """Return an event with its personal fields in it, those of who is forgotten with their masks.

        Raises `PersonalDataError` for what was changed or moved, and what unwrapping its key has raised.
        """
        fields = personal_members(type)
        masked: list[str] = []
        members = _members(data)
        for member, value in members.items():
            raw = bytes(value)
            if not raw.startswith(_BEGINS):
                continue
            name, _, content = raw[_LENGTH:-1].decode().partition(":")
            if (key := self.keys.get(name)) is not None:  # the usual case
                members[member] = msgspec.Raw(decrypt(content, (key,), context(type, id, member)))
                continue
            token = _token(value)
            if token is None:
                continue
            if self._is_forgotten(token):
                masked.append(member)
                members[member] = fields[member].mask if member in fields else _NULL
            elif (keys := self._keys(token)) is not None:
                members[member] = msgspec.Raw(decrypt(content, keys, context(type, id, member)))
            elif member in fields:
                raise PersonalDataError(
                    f"{member} is encrypted with a key that is not in this log ({'.'.join(token.keys)})"
                )
        return Opened(_encode(members).decode(), frozenset(masked))

    def show(self, type: str, id: str, data: str) -> str:
        """Return an event with what of it can be read, for people."""
        if not holds_tokens(data):
            return data
        try:
            members = _members(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return data
        for member, value in members.items():
            token = _token(value)
            if token is not None:
                members[member] = self._shown(token, context(type, id, member))
        return _encode(members).decode()

    def _shown(self, token: Token, where: str) -> msgspec.Raw:
        if self._is_forgotten(token):
            return msgspec.Raw(_encode(FORGOTTEN))
        try:
            keys = self._keys(token)
            return msgspec.Raw(_encode(str(token)) if keys is None else decrypt(token.content, keys, where))
        except Exception:  # noqa: BLE001 whoever looks is told that something stands there
            return msgspec.Raw(_encode(HIDDEN))

    def restored(self, type: str, id: str, edited: str, stored: str) -> str:
        """Return what a person has made of an event, with the tokens that stand for what the person was not shown.

        What a member held that no class marks any more is encrypted again, with the same keys. Raises
        `PersonalDataError` if that is not possible, because its person is forgotten.
        """
        if not holds_tokens(stored):
            return edited
        members, fields = _members(edited), personal_members(type)
        for member, value in _members(stored).items():
            token = _token(value)
            if token is None or member not in members:
                continue
            now, known = bytes(members[member]), member in fields
            mask = bytes(fields[member].mask if known else _NULL)
            if now in _UNREAD or (self._is_forgotten(token) and now == mask):
                members[member] = value
            elif not known or not fields[member].subject:
                keys = None if self._is_forgotten(token) else self._keys(token)
                if keys is None:
                    raise PersonalDataError(f"{type}.{member} is of a person who is forgotten: leave its mask there")
                members[member] = msgspec.Raw(_encode(str(encrypt(keys, now, context(type, id, member)))))
        return _encode(members).decode()

    # --- texts that may tell of what is personal

    def seal(self, text: str, context: str, *, like: str) -> str:
        """Encrypt a text with the keys of all persons of whom something encrypted stands in `like`."""
        named = sorted({key for token in tokens_in(like) for key in token.keys if key in self.keys})
        return str(encrypt([self.keys[each] for each in named], text.encode(), context)) if named else text

    def read(self, text: str, context: str) -> str | None:
        """Return a text that was sealed, or that never was; None if one of the persons is forgotten.

        Raises as `open` does.
        """
        token = token_of(text)
        if token is None:
            return text
        if self._is_forgotten(token):
            return None
        keys = self._keys(token)
        return text if keys is None else decrypt(token.content, keys, context).decode()

    def tell(self, text: str, context: str) -> str:
        """As `read`, for people: where it cannot be read, it says so."""
        try:
            found = self.read(text, context)
        except Exception:  # noqa: BLE001 whoever looks is told that something stands there
            return HIDDEN
        return FORGOTTEN if found is None else found

    def _is_forgotten(self, token: Token) -> bool:
        return any(each in self.forgotten for each in token.keys)

    def _keys(self, token: Token) -> list[Key] | None:
        """Return the keys of a token, None if the log has none of that name; raise what unwrapping has raised."""
        for each in token.keys:
            if (error := self._unavailable.get(each)) is not None:
                raise error
        found = [self.keys[each] for each in token.keys if each in self.keys]
        return found if len(found) == len(token.keys) else None


def _token(value: msgspec.Raw) -> Token | None:
    raw = bytes(value)
    return token_of(_text(raw)) if raw.startswith(_BEGINS) else None
