"""One log's keys in this process: its master keys, and the persons' keys that were unwrapped lately."""

from __future__ import annotations

import base64
import os
import threading
import time
from collections import OrderedDict
from functools import cached_property

import msgspec

from ensue.errors import MasterKeyMissing
from ensue.events.personal import declared
from ensue.keys.cipher import Key, text
from ensue.keys.masters import VARIABLE, MasterKeys, find_masters

_MOST = 10_000
_SECONDS = 300.0


class Kept(msgspec.Struct, frozen=True):
    """A person's key as the database holds it."""

    id: str
    wrapped: str | None
    """None: it is destroyed, the person is forgotten."""
    master: str | None


class Vault:
    """Wraps and unwraps. Any thread may use it.

    What it remembers is what unwrapping a text gives, never that a key exists: that is asked for in the database each
    time, so a key that is destroyed is not used again, here or elsewhere.
    """

    def __init__(self, given: MasterKeys | None, *, in_memory: bool) -> None:
        self._given = given
        self._in_memory = in_memory
        self._lock = threading.Lock()
        self._unwrapped: OrderedDict[str, tuple[float, Key]] = OrderedDict()
        """By what was unwrapped, until when it is kept; the oldest first."""

    @cached_property
    def masters(self) -> MasterKeys | None:
        """The master keys, None if there are none; raises `MasterKeyMissing` for what is none."""
        return find_masters(self._given, in_memory=self._in_memory, environment=os.environ)

    @cached_property
    def _configured(self) -> bool:
        return self._given is not None or bool(os.environ.get(VARIABLE))

    @property
    def used(self) -> bool:
        """Whether anything may be encrypted here: else nobody looks for it."""
        return self._configured or declared()

    def required(self) -> MasterKeys:
        """Return the master keys; raise `MasterKeyMissing` if there are none."""
        if self.masters is None:
            raise MasterKeyMissing(
                f"personal fields are encrypted, and there is no master key here: set {VARIABLE} (`ensue keys make` "
                "prints a new one, once for all processes of the service), or give App(…, master_keys=…)"
            )
        return self.masters

    def new(self) -> tuple[Key, Kept]:
        """Make a person's key."""
        masters, key = self.required(), Key.new()
        kept = Kept(key.id, text(masters.wrap(key.secret)), masters.current)
        self._remember(kept.wrapped or "", key)
        return key, kept

    def known(self, kept: Kept) -> Key | None:
        """Return a key that was unwrapped lately."""
        with self._lock:
            self._drop_old()
            found = self._unwrapped.get(kept.wrapped or "")
        return found[1] if found is not None and found[1].id == kept.id else None

    def unwrap(self, kept: Kept) -> Key:
        """Return a key; raise `MasterKeyMissing`, and whatever the user's key service raises."""
        masters, wrapped = self.required(), kept.wrapped or ""
        content = base64.urlsafe_b64decode(wrapped + "=" * (-len(wrapped) % 4))
        key = Key(kept.id, masters.unwrap(content, kept.master or ""))
        self._remember(wrapped, key)
        return key

    def rewrap(self, kept: Kept) -> Kept:
        """Wrap a key with the current master key."""
        masters, key = self.required(), self.known(kept) or self.unwrap(kept)
        return Kept(kept.id, text(masters.wrap(key.secret)), masters.current)

    def forget(self, id: str) -> None:
        """Drop a key from memory."""
        with self._lock:
            for wrapped in [each for each, (_, key) in self._unwrapped.items() if key.id == id]:
                del self._unwrapped[wrapped]

    def _remember(self, wrapped: str, key: Key) -> None:
        with self._lock:
            self._drop_old()
            self._unwrapped.pop(wrapped, None)
            self._unwrapped[wrapped] = (time.monotonic() + _SECONDS, key)
            while len(self._unwrapped) > _MOST:
                self._unwrapped.popitem(last=False)

    def _drop_old(self) -> None:
        now = time.monotonic()
        while self._unwrapped and next(iter(self._unwrapped.values()))[0] < now:
            self._unwrapped.popitem(last=False)
