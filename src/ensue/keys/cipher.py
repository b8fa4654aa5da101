"""AES-GCM (NIST SP 800-38D) with a person's key; what is encrypted is bound to where it stands."""

from __future__ import annotations

import base64
import os
from binascii import a2b_base64, b2a_base64
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from ensue.errors import PersonalDataError
from ensue.events.personal import Token

_NONCE = 12
_LENGTH = 32


class Key:
    """A person's key: it encrypts what is personal, and is kept wrapped."""

    def __init__(self, id: str, secret: bytes) -> None:
        self.id = id
        self.secret = secret

    def __repr__(self) -> str:
        return f"Key({self.id!r})"

    @classmethod
    def new(cls) -> Key:
        """Return a new one, by the operating system's random numbers."""
        return cls(text(os.urandom(12)), os.urandom(_LENGTH))

    @cached_property
    def cipher(self) -> Any:
        """What encrypts with it."""
        return aesgcm(self.secret)


def aesgcm(secret: bytes) -> Any:
    """Return AES-GCM with a key; raise `PersonalDataError` where `cryptography` is not installed."""
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise PersonalDataError(
            "personal fields need the library cryptography: pip install 'ensue[personal]'"
        ) from error
    return AESGCM(secret)


def encrypt(keys: Sequence[Key], content: bytes, context: str) -> Token:
    """Encrypt something so that all of these keys, and the same context, are needed to read it."""
    nonce = os.urandom(_NONCE)
    sealed = _cipher(keys).encrypt(nonce, content, context.encode())
    return Token(tuple(each.id for each in keys), b2a_base64(nonce + sealed, newline=False).decode())


def decrypt(content: str, keys: Sequence[Key], context: str) -> bytes:
    """Return what was encrypted; raise `PersonalDataError` if it was changed, or moved to another place."""
    cipher = keys[0].cipher if len(keys) == 1 else _cipher(keys)
    try:
        sealed = a2b_base64(content)
        found: bytes = cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], context.encode())
    except Exception as error:
        raise PersonalDataError("what is encrypted there was changed, or moved from another event or field") from error
    return found


def _cipher(keys: Sequence[Key]) -> Any:
    if len(keys) == 1:
        return keys[0].cipher
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    together = HKDF(algorithm=SHA256(), length=_LENGTH, salt=None, info=b"ensue: of several persons")
    return aesgcm(together.derive(b"".join(each.secret for each in keys)))


def text(content: bytes) -> str:
    """Return bytes as base64 that needs no quoting."""
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
