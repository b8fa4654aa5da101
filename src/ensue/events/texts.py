"""Texts beside the event: what every database can store, and every index hold."""

from __future__ import annotations

LONGEST = 400
"""Characters of a key, a stream, a dedupe key, a correlation id. A row of an index in PostgreSQL has 2,704 bytes; one
of them holds a key and a subscription's name, of 200 characters, and each character may take four."""


def fault_in(text: object, at_most: int | None = LONGEST) -> str | None:
    """Say what is wrong with a text, to go on with behind its name; None if nothing is."""
    if type(text) is str and text.isascii() and (at_most is None or len(text) <= at_most) and "\0" not in text:
        return None  # nearly always
    if not isinstance(text, str):
        return f"is {text!r}: it must be text"
    if at_most is not None and len(text) > at_most:
        return f"has {len(text)} characters, {text[:40]!r} and so on: it may have {at_most}"
    if "\0" in text:
        return "holds a NUL character, which PostgreSQL cannot store: remove it"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return f"holds {text[error.start]!r}, half a character, which no database can store: remove it"
    return None
