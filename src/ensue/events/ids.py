"""UUIDv7: ids that grow with time (RFC 9562, section 5.7)."""

from __future__ import annotations

import os
import random
import threading
import time

_lock = threading.Lock()
_last = 0
_random = random.Random()  # seeded by the operating system; ids are unique, not secret
os.register_at_fork(after_in_child=_random.seed)


def new_id() -> str:
    """Return a new UUIDv7 in its text form; in one process every id is greater than the one before.

    The 12 bits behind the milliseconds count up within a millisecond (RFC 9562, section 6.2, method 3).
    """
    global _last
    stamp = time.time_ns() * 4096 // 1_000_000
    with _lock:
        stamp = _last = stamp if stamp > _last else _last + 1
        tail = _random.getrandbits(62)
    text = f"{stamp:015x}{tail | 0x8000_0000_0000_0000:x}"
    return f"{text[:8]}-{text[8:12]}-7{text[12:15]}-{text[15:19]}-{text[19:]}"
