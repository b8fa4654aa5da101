"""When a snapshot is taken."""

from __future__ import annotations

from dataclasses import dataclass

from ensue.errors import DeclarationError


@dataclass(frozen=True, kw_only=True)
class Snapshots:
    """Take a snapshot when so many events, or so many bytes of events (as JSON), have come since the last one.

    A snapshot is read only if the state has the structure that it had when it was taken, begins as it did, and the code
    that evolves it and upcasts its events is the same. What that code calls, and the globals that it reads, are not
    looked at: when you change these, count `edition` up. A state that a snapshot would not give back as it is, is not
    kept, and a warning is logged.
    """

    every: int | None = None
    bytes: int | None = None
    edition: int = 1

    def __post_init__(self) -> None:
        if self.every is None and self.bytes is None:
            raise DeclarationError("Snapshots(): say when: every=100 events, or bytes=100_000")
        for name, value in (("every", self.every), ("bytes", self.bytes)):
            if value is not None and value < 1:
                raise DeclarationError(f"Snapshots({name}={value}): at least 1")

    def due(self, events: int, size: int) -> bool:
        """Tell whether one is due, after so many events of so many bytes together."""
        return (self.every is not None and events >= self.every) or (self.bytes is not None and size >= self.bytes)
