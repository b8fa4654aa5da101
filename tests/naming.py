"""What tests are called: the same in every process."""

from __future__ import annotations

import re


def named(value: object) -> str:
    """Return how a value is shown, without its address in memory."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
