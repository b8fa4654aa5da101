"""Hot aggregates, kept in memory and never believed without a look at the stream."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Kept(Generic[S]):
    """A state as it was after the event with this id, which was the stream's at this version."""

    state: S
    version: int
    event_id: str
    snapshot: int
    size: int


class Cache(Generic[S]):
    """The aggregates that were used last, at most so many; any thread may use it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Kept[S]] = OrderedDict()

    def get(self, id: str) -> Kept[S] | None:
        """Return what is kept of an aggregate."""
        with self._lock:
            found = self._kept.get(id)
            if found is not None:
                self._kept.move_to_end(id)
            return found

    def put(self, id: str, kept: Kept[S]) -> None:
        """Keep it, and forget the one that was not used for the longest."""
        with self._lock:
            known = self._kept.get(id)
            if known is not None and known.version > kept.version:
                return
            self._kept[id] = kept
            self._kept.move_to_end(id)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)

    def forget(self, id: str) -> None:
        """Drop it."""
        with self._lock:
            self._kept.pop(id, None)
