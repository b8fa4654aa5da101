"""A checksum of rows, whatever order they come in: SQLite has none of its own."""

from __future__ import annotations

from hashlib import blake2b

NAME = "ensue_checksum"
_SIZE = 8


class Checksum:
    """An aggregate of SQLite over the values of any columns: the sum of a hash of each row."""

    def __init__(self) -> None:
        self._sum = 0

    def step(self, *values: object) -> None:
        """Take in a row."""
        self._sum += int.from_bytes(blake2b(repr(values).encode(), digest_size=_SIZE).digest(), "big")

    def finalize(self) -> str:
        """Return the checksum, as text: it may be more than SQLite's integers hold."""
        return str(self._sum)
