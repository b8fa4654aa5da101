"""Keys: with one a seal is signed, with its public half everybody can check it."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ensue.errors import UnusableKey
from ensue.seals.verifier import HASH, Untrue, key_id, read_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SECRET = "ENSUE_SEAL_KEY"  # noqa: S105 the name of a variable
PUBLIC = "ENSUE_SEAL_PUBLIC_KEY"
_HEAD = "PRIVATE+KEY+"
_ED25519 = b"\1"
_NAME = re.compile(r"[^\s+]{1,200}")


class SigningKey:
    """An Ed25519 key with a name, which is the origin of what it signs; written as Go's sumdb/note writes it."""

    def __init__(self, name: str, seed: bytes) -> None:
        if not _NAME.fullmatch(name):
            raise UnusableKey(f"a key cannot be called {name!r}: no spaces, no +, at most 200 characters")
        self.name = name
        self._seed = seed
        self._private = _ed25519(seed)
        self._public = _ED25519 + self._private.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"SigningKey({self.public!r})"

    @classmethod
    def make(cls, name: str) -> SigningKey:
        """Return a new key."""
        return cls(name, os.urandom(HASH))

    @classmethod
    def parse(cls, text: str) -> SigningKey:
        """Return the key that is written as text; raise `UnusableKey` if it is none. The error does not show it."""
        name, _, rest = text.strip().removeprefix(_HEAD).partition("+")
        id, _, coded = rest.partition("+")
        try:
            raw = base64.b64decode(coded, validate=True)
        except ValueError:
            raw = b""
        if not text.strip().startswith(_HEAD) or raw[:1] != _ED25519 or len(raw) != HASH + 1:
            raise UnusableKey(
                "this is no key for sealing: it begins with PRIVATE+KEY+, as `ensue seal --make-key FILE` writes it"
            )
        made = cls(name, raw[1:])
        if id != made.id:
            raise UnusableKey(f"the key of {name} is damaged: its id does not fit")
        return made

    @property
    def id(self) -> str:
        """Tells two keys of one name apart; in hexadecimal digits."""
        return key_id(self.name, self._public).hex()

    @property
    def public(self) -> str:
        """The public key as text: name+id+base64."""
        return f"{self.name}+{self.id}+{base64.b64encode(self._public).decode()}"

    @property
    def secret(self) -> str:
        """The key as text, for a file that nobody else can read."""
        return f"{_HEAD}{self.name}+{self.id}+{base64.b64encode(_ED25519 + self._seed).decode()}"

    def sign(self, text: str) -> str:
        """Return a signed note of a text that ends with a new line (C2SP signed-note)."""
        signature = bytes.fromhex(self.id) + self._private.sign(text.encode())
        return f"{text}\n— {self.name} {base64.b64encode(signature).decode()}\n"


def _ed25519(seed: bytes) -> Ed25519PrivateKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as error:
        raise UnusableKey("sealing needs the package cryptography: pip install 'ensue[seals]'") from error
    return Ed25519PrivateKey.from_private_bytes(seed)


def signing_key(given: SigningKey | str | Path | None) -> SigningKey:
    """Return the key that is given: itself, as text, in a file; or by ENSUE_SEAL_KEY, text or a file.

    Raises `UnusableKey` if there is none, or it is none.
    """
    if isinstance(given, SigningKey):
        return given
    source = given or os.environ.get(SECRET)
    if not source:
        raise UnusableKey(
            f"there is no key to sign with: name its file with --key or in {SECRET}; "
            "`ensue seal --make-key FILE` makes one"
        )
    return SigningKey.parse(_read(source, _HEAD))


def public_keys(given: Sequence[str | Path], signing: SigningKey | str | Path | None = None) -> tuple[str, ...]:
    """Return the public keys that are trusted: those given, else ENSUE_SEAL_PUBLIC_KEY, else that of the signing key.

    Raises `UnusableKey` if there is none.
    """
    sources: Sequence[str | Path] = given or os.environ.get(PUBLIC, "").split()
    if not sources:
        try:
            return (signing_key(signing).public,)
        except UnusableKey:
            if signing or os.environ.get(SECRET):
                raise
            raise UnusableKey(
                f"whose seal should it be? Name the public key, or its file, with --public-key or in {PUBLIC}"
            ) from None
    texts = tuple(line for source in sources for line in _read(source, "").split())
    try:
        for each in texts:
            read_key(each)
    except Untrue as error:
        raise UnusableKey(str(error)) from None
    return texts


def _read(source: str | Path, head: str) -> str:
    """Return a key that is given as text or by its file."""
    if isinstance(source, str) and (source.startswith(_HEAD) if head else source.count("+") >= 2):
        return source
    try:
        return Path(source).read_text("utf-8")
    except (OSError, ValueError) as error:
        raise UnusableKey(f"the key cannot be read: {error}") from error


def write_key(file: Path, name: str) -> SigningKey:
    """Make a key, write it into a new file for its owner only, and the public one beside it, with .pub at the end."""
    made = SigningKey.make(name)
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
            out.write(made.secret + "\n")
        Path(f"{file}.pub").write_text(made.public + "\n", "utf-8")
    except FileExistsError:
        raise UnusableKey(f"{file} is there already: a key that has sealed something is needed for ever") from None
    except OSError as error:
        raise UnusableKey(f"the key cannot be written: {error}") from error
    return made
