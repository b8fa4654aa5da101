"""What an application declares about its seal."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

from ensue.app.declaring import Declares
from ensue.errors import DuplicateName
from ensue.seals import Party, Sealer, SigningKey, sealing
from ensue.subscriptions import seconds


class Sealing(Declares):
    """The part of an `App` that is about the seal."""

    def seal(
        self,
        key: SigningKey | str | Path | None = None,
        *,
        every: float | timedelta | str = 60.0,
        events: int = 10_000,
        to: str | Path | Party | Iterable[str | Path | Party] = (),
        trusted: Iterable[str] = (),
    ) -> None:
        """Let a worker seal the log: every event becomes a leaf of a tree whose root is signed from time to time.

        It is a subscription, called "seal", to all events from the first; recording costs nothing more. What is new is
        signed after so many seconds (`every`), or at once when there are so many `events`, and taken to the places of
        `to`: folders, `git:FOLDER`, URLs that fsspec knows, other applications. Only what is signed and elsewhere is
        safe from who holds the database. `key` is a `SigningKey`, its text, or its file; without it `ENSUE_SEAL_KEY`
        counts. `trusted` are the public keys of those that signed before it.

        Raises `DuplicateName` and `DeclarationError`; a worker raises `UnusableKey` when it starts.
        """
        if self.declarations.sealer is not None:
            raise DuplicateName("the application has a seal already: one log, one seal; to= takes several places")
        places = (to,) if isinstance(to, (str, Path)) or not isinstance(to, Iterable) else tuple(to)
        sealer = Sealer(key=key, trusted=tuple(trusted), every=seconds(every), events=events, to=places)
        self.declarations.subscribe(sealing(self._log, self.declarations.bell))
        self.declarations.sealer = sealer
