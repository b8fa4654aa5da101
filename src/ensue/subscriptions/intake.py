"""What a runner has taken in, how much of it is done, and where its checkpoint can be."""

from __future__ import annotations

from bisect import insort
from collections import deque

WINDOW = 1000
"""How many events of a partition are in memory at most, beyond the batch being taken in."""


class Intake:
    """The positions in a runner's hands."""

    def __init__(self, checkpoint: int) -> None:
        self.read_to = checkpoint
        """Everything up to here has been taken in."""
        self.saved_to = checkpoint
        """The checkpoint as last written down."""
        self._open: deque[int] = deque()
        """What is not done, or is but has something before it that is not."""
        self._done: set[int] = set()
        self._unsaved: deque[tuple[int, str]] = deque()
        """What has been taken in since the saved checkpoint: position and id."""
        self._again: frozenset[str] = frozenset()
        """After an outage: what need not be taken in again."""

    @property
    def checkpoint(self) -> int:
        """The position up to which everything is done or parked."""
        return min(self._open[0] - 1, self.read_to) if self._open else self.read_to

    @property
    def full(self) -> bool:
        """So much is in memory that nothing more should be read."""
        return len(self._open) >= WINDOW

    @property
    def last_done(self) -> int:
        """The last position that is done while something before it is not; 0 if there is none."""
        return max(self._done, default=0)

    def is_new(self, position: int, id: str) -> bool:
        """Note that an event comes in; tell whether it had not been before."""
        if self._again and id in self._again:
            return False
        self._unsaved.append((position, id))
        return True

    def open(self, position: int) -> None:
        """Keep the checkpoint before a position until it is finished."""
        if self._open and position < self._open[-1]:  # read again after an outage
            insort(self._open, position)
        else:
            self._open.append(position)

    def finish(self, position: int) -> None:
        """Let the checkpoint pass a position that is open."""
        track, done = self._open, self._done
        if track[0] == position:
            track.popleft()
            while track and track[0] in done:
                done.remove(track.popleft())
        else:
            done.add(position)

    def saved(self, checkpoint: int) -> None:
        """Note that a checkpoint has been written down for good."""
        self.saved_to = checkpoint
        unsaved = self._unsaved
        while unsaved and unsaved[0][0] <= checkpoint:
            unsaved.popleft()
        if self._again and not (self._again & {id for _, id in unsaved}):
            self._again = frozenset()

    def rewind(self) -> None:
        """Go back to the saved checkpoint; what has been taken in since is known, and not new when it comes again."""
        if self.read_to > self.saved_to:
            self._again = frozenset(id for _, id in self._unsaved)
            self.read_to = self.saved_to
