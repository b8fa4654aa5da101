"""A set of positions that is small in memory, however many there are."""

from __future__ import annotations

_BITS = 16


class Positions:
    """One bit for each position, in blocks of 65,536 that there are only where there is something."""

    def __init__(self) -> None:
        self._blocks: dict[int, bytearray] = {}

    def add(self, first: int, last: int) -> None:
        """Add all positions from one to another."""
        while first <= last:
            block = self._blocks.setdefault(first >> _BITS, bytearray(1 << _BITS - 3))
            end = min(last, first | (1 << _BITS) - 1)
            low, high = first & (1 << _BITS) - 1, end & (1 << _BITS) - 1
            if low >> 3 == high >> 3:
                block[low >> 3] |= (2 << high - low) - 1 << (low & 7)
            else:
                block[low >> 3] |= 0xFF << (low & 7) & 0xFF
                block[high >> 3] |= (2 << (high & 7)) - 1
                block[(low >> 3) + 1 : high >> 3] = b"\xff" * ((high >> 3) - (low >> 3) - 1)
            first = end + 1

    def __contains__(self, position: int) -> bool:
        block = self._blocks.get(position >> _BITS)
        if block is None:
            return False
        bit = position & (1 << _BITS) - 1
        return bool(block[bit >> 3] >> (bit & 7) & 1)
