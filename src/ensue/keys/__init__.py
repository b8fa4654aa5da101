"""Keys: every person's own, wrapped by a master key; and what is encrypted with them. No I/O but the user's own."""

from ensue.keys.cipher import Key
from ensue.keys.concealing import Concealing
from ensue.keys.masters import LocalKeys, MasterKeys, find_masters, make_master_key
from ensue.keys.opening import FORGOTTEN, HIDDEN, Ring
from ensue.keys.vault import Kept, Vault

__all__ = [
    "FORGOTTEN",
    "HIDDEN",
    "Concealing",
    "Kept",
    "Key",
    "LocalKeys",
    "MasterKeys",
    "Ring",
    "Vault",
    "find_masters",
    "make_master_key",
]
