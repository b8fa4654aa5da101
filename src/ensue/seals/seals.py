"""`app.seals`: sealing the log, verifying it, proving things about it; the same in both styles."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from uuid import UUID

from ensue.errors import SealError
from ensue.history import errands
from ensue.history.errands import Ask, Errand
from ensue.log import Log, Steps
from ensue.seals.findings import Verified
from ensue.seals.keys import SigningKey, public_keys, signing_key
from ensue.seals.proving import Growth, Proof, event_lines, prove, prove_growth
from ensue.seals.sealer import Sealer
from ensue.seals.sealing import Sealed, Standing, checkpoints, extend, sign, standing
from ensue.seals.targets import Party, target
from ensue.seals.verifier import Checkpoint, Untrue, read_checkpoint
from ensue.seals.verifying import Evidence, Tell, evidence, verify

_AT_ONCE = 20_000
_ALL = 2**62
"""Events that get their leaves in one transaction."""
Key = SigningKey | str | Path
Keys = Sequence[str | Path]


class Seals:
    """Seals an application's log, so that nobody can change it unnoticed; verifies it; proves what is in it.

    Every method uses a connection of ensue's own. Those called `…_async` are for event loops. Where no key is given it
    is that of `app.seal(…)`, else that of the environment: `ENSUE_SEAL_KEY`, `ENSUE_SEAL_PUBLIC_KEY`. A key is given as
    text or by its file. Errors are `SealError` and below.
    """

    def __init__(self, log: Log, declared: Callable[[], Sealer | None]) -> None:
        self._log = log
        self._declared = declared

    # --- sealing

    def seal(self, key: Key | None = None, *, trusted: Keys = (), tell: Tell | None = None) -> Sealed:
        """Seal everything that has been recorded so far, once; return the signed checkpoint.

        It goes in several transactions, and beside a worker that does the same. `trusted` are public keys besides that
        of the key: those of keys before it. Raises `UnusableKey`, and `SealBroken` if what was sealed before has been
        altered: then nothing is signed.
        """
        return errands.run(self._seal(key, trusted, tell))

    async def seal_async(self, key: Key | None = None, *, trusted: Keys = (), tell: Tell | None = None) -> Sealed:
        """As `seal`, in an event loop."""
        return await errands.run_async(self._seal(key, trusted, tell))

    def _seal(self, key: Key | None, trusted: Keys, tell: Tell | None) -> Errand[Sealed]:
        log, signing = self._log, signing_key(key or self._key)
        keys = tuple(dict.fromkeys((signing.public, *self._trusted(trusted))))
        until: int = yield Ask(log, log.horizon())
        waiting: int = yield Ask(log, _waiting(log, until))
        done, added = 0, _AT_ONCE
        while added >= _AT_ONCE:
            added = yield Ask(log, log.transaction(extend(log, until, _AT_ONCE)))
            done += added
            if tell is not None:
                tell(min(done, waiting), waiting)
        sealed: Sealed = yield Ask(log, log.transaction(sign(log, signing, keys)))
        return sealed

    def take(self, to: str | Path | Party, *, trusted: Keys = ()) -> int:
        """Take the checkpoints elsewhere, with the hashes that they are made of; return how many are new there.

        `to` is a folder, `git:FOLDER`, a URL that fsspec knows, or another application, in whose log the last
        checkpoint is recorded. Nothing that is there is overwritten. Raises `SealBroken` if what is there is not of
        this history: it was rewritten, or an older backup was restored.
        """
        return target(to).take(self._log, self._public(trusted))

    async def take_async(self, to: str | Path | Party, *, trusted: Keys = ()) -> int:
        """As `take`, in an event loop."""
        return await asyncio.to_thread(self.take, to, trusted=trusted)

    def checkpoints(self, *, trusted: Keys = (), after: int = 0) -> list[Checkpoint]:
        """Return the signed checkpoints of more than so many events, the oldest first."""
        return self._log.own.run(checkpoints(self._log, self._public(trusted), after))

    async def checkpoints_async(self, *, trusted: Keys = (), after: int = 0) -> list[Checkpoint]:
        """As `checkpoints`, in an event loop."""
        return await self._log.own.run_async(checkpoints(self._log, self._public(trusted), after))

    def standing(self, *, trusted: Keys = ()) -> Standing | None:
        """Return how far the seal is and whether it can go on, None if nothing has ever been sealed.

        It looks at a few hashes and at no event: `verify` looks at all.
        """
        return self._log.own.run(self._log.at_one_moment(standing(self._log, self._public(trusted))))

    async def standing_async(self, *, trusted: Keys = ()) -> Standing | None:
        """As `standing`, in an event loop."""
        steps = self._log.at_one_moment(standing(self._log, self._public(trusted)))
        return await self._log.own.run_async(steps)

    # --- verifying

    def verify(
        self,
        *,
        keys: Keys = (),
        kept: Sequence[str | Path | Party] = (),
        since: int | datetime | None = None,
        tell: Tell | None = None,
    ) -> Verified:
        """Compare the log with its seal; return what is not as it was sealed, each with its position.

        `keys` are the public keys that are trusted. `kept` are checkpoints from outside of the database: files, folders
        of an export, or applications in whose logs they were recorded. Without them who holds the database *and* the
        key can have rewritten everything. `since` is a position or a moment from which on events are compared; hashes
        before it are not looked at one by one. It keeps nobody from writing. Raises `NotSealed`, `UnusableKey`, and
        `SealError` for what is no evidence.
        """
        trusted = self._public(keys)
        return errands.run(verify(self._log, trusted, _evidence(kept, trusted), since, tell))

    async def verify_async(
        self,
        *,
        keys: Keys = (),
        kept: Sequence[str | Path | Party] = (),
        since: int | datetime | None = None,
        tell: Tell | None = None,
    ) -> Verified:
        """As `verify`, in an event loop."""
        trusted = self._public(keys)
        found = await asyncio.to_thread(_evidence, kept, trusted)
        return await errands.run_async(verify(self._log, trusted, found, since, tell))

    # --- proving

    def prove(self, event: UUID | str | int, *, keys: Keys = ()) -> Proof:
        """Prove that an event, given by its id or its position, is in what the last checkpoint has sealed.

        Of an event that was pruned, given by its position, only the hash is proved. Raises `UnknownName`, `NotSealed`
        if it is in no checkpoint yet, and `SealBroken` if it is not what was sealed.
        """
        return self._log.own.run(prove(self._log, event, self._public(keys)))

    async def prove_async(self, event: UUID | str | int, *, keys: Keys = ()) -> Proof:
        """As `prove`, in an event loop."""
        return await self._log.own.run_async(prove(self._log, event, self._public(keys)))

    def prove_growth(self, old: str | Path, *, keys: Keys = ()) -> Growth:
        """Prove that the last checkpoint has grown out of an older one, which is in a file; raise `SealBroken`."""
        trusted = self._public(keys)
        return self._log.own.run(prove_growth(self._log, _checkpoint(old, trusted), trusted))

    async def prove_growth_async(self, old: str | Path, *, keys: Keys = ()) -> Growth:
        """As `prove_growth`, in an event loop."""
        trusted = self._public(keys)
        return await self._log.own.run_async(prove_growth(self._log, _checkpoint(old, trusted), trusted))

    def events(self, *, keys: Keys = ()) -> Iterator[bytes]:
        """Yield the sealed events for an auditor: one line of JSON each, exactly what was hashed of it."""
        return event_lines(self._log, self._public(keys))

    # --- keys

    @property
    def _key(self) -> Key | None:
        declared = self._declared()
        return None if declared is None else declared.key

    def _trusted(self, given: Keys) -> tuple[str, ...]:
        declared = self._declared()
        return (*(public_keys(given) if given else ()), *(() if declared is None else declared.trusted))

    def _public(self, given: Keys) -> tuple[str, ...]:
        """Return the public keys that are trusted: those given, else those of the declaration or the environment."""
        if given:
            return public_keys(given)
        declared = self._declared()
        more = () if declared is None else declared.trusted
        return tuple(dict.fromkeys((*public_keys((), self._key), *(public_keys(more) if more else ()))))


def _evidence(kept: Sequence[str | Path | Party], trusted: Sequence[str]) -> list[Evidence]:
    return [evidence(each, trusted) for each in kept]


def _checkpoint(file: str | Path, trusted: Sequence[str]) -> Checkpoint:
    try:
        return read_checkpoint(Path(file).read_text("utf-8"), trusted)
    except (OSError, UnicodeDecodeError) as error:
        raise SealError(f"the checkpoint cannot be read: {error}") from error
    except Untrue as error:
        raise SealError(f"{file} proves nothing: {error}") from None


def _waiting(log: Log, until: int) -> Steps[int]:
    rows = yield log.dialect.sql["seal_state"]()
    found: int = (yield log.dialect.sql["count_all"](after=rows[0][1] if rows else 0, until=until, most=_ALL))[0][0]
    return found
