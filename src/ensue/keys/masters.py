"""Master keys: they wrap the persons' keys, and never stand in the database."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from typing import Protocol

from ensue.errors import MasterKeyMissing
from ensue.keys.cipher import aesgcm, text

VARIABLE = "ENSUE_MASTER_KEY"
_NONCE = 12
_LENGTH = 32


class MasterKeys(Protocol):
    """Wraps and unwraps the persons' keys: give `App(…, master_keys=)` one of yours where a key service does it.

    Both methods may take long, and may be called in any thread; whatever they raise keeps the event from being
    recorded or read, and it is tried again like any other failure. What they return is kept for five minutes.
    """

    @property
    def current(self) -> str:
        """The name of the key that wraps now; it stands beside what it has wrapped, and changes with rotation."""
        ...

    def wrap(self, key: bytes) -> bytes:
        """Encrypt a person's key, of 32 bytes, with the current key."""
        ...

    def unwrap(self, wrapped: bytes, name: str) -> bytes:
        """Return the person's key that was wrapped when `current` was this name."""
        ...


class LocalKeys:
    """Master keys of which this process holds the bytes: the first wraps, all unwrap."""

    def __init__(self, *secrets: bytes) -> None:
        if not secrets or any(len(each) != _LENGTH for each in secrets):
            raise MasterKeyMissing(f"a master key has {_LENGTH} bytes: `ensue keys make` prints one")
        self._secrets = {_name(each): each for each in secrets}
        self._current = _name(secrets[0])

    @classmethod
    def written(cls, texts: str) -> LocalKeys:
        """Return those that a text holds, base64, separated by commas; raise `MasterKeyMissing` for what is none."""
        secrets: list[bytes] = []
        for number, each in enumerate(texts.split(","), 1):
            plain = each.strip()
            try:
                secret = base64.urlsafe_b64decode(plain + "=" * (-len(plain) % 4))
            except ValueError:
                secret = b""
            if len(secret) != _LENGTH:
                raise MasterKeyMissing(
                    f"{VARIABLE}: number {number} is no master key: that is {_LENGTH} bytes in base64, as "
                    "`ensue keys make` prints it; several are separated by commas"
                )
            secrets.append(secret)
        return cls(*secrets)

    def __repr__(self) -> str:
        return f"LocalKeys({', '.join(self._secrets)})"

    @property
    def current(self) -> str:
        """A digest of the first."""
        return self._current

    def wrap(self, key: bytes) -> bytes:
        """Encrypt a person's key with the first."""
        nonce = os.urandom(_NONCE)
        sealed: bytes = aesgcm(self._secrets[self._current]).encrypt(nonce, key, b"ensue: a person's key")
        return nonce + sealed

    def unwrap(self, wrapped: bytes, name: str) -> bytes:
        """Return the person's key; raise `MasterKeyMissing` if the key that wrapped it is none of these."""
        secret = self._secrets.get(name)
        if secret is None:
            raise MasterKeyMissing(
                f"this person's key is wrapped with the master key {name}, and here there "
                f"{'is' if len(self._secrets) == 1 else 'are'} {', '.join(self._secrets)}: add that one to {VARIABLE}"
            )
        key: bytes = aesgcm(secret).decrypt(wrapped[:_NONCE], wrapped[_NONCE:], b"ensue: a person's key")
        return key


def _name(secret: bytes) -> str:
    return hashlib.sha256(b"ensue master key " + secret).hexdigest()[:12]


def make_master_key() -> str:
    """Return a new master key, as `ENSUE_MASTER_KEY` takes it."""
    return text(os.urandom(_LENGTH))


_for_tests = os.urandom(_LENGTH)


def find_masters(given: MasterKeys | None, *, in_memory: bool, environment: Mapping[str, str]) -> MasterKeys | None:
    """Return the master keys: those that were given, those of the environment, or, for a log in memory, one of its own.

    Raises `MasterKeyMissing` if what the environment holds is none.
    """
    if given is not None:
        return given
    if said := environment.get(VARIABLE, "").strip():
        return LocalKeys.written(said)
    return LocalKeys(_for_tests) if in_memory else None
