"""A gatherer that is killed: for test_lake_gathering.py.

`python -m tests.lake_gathering LAKE BROKER TOPIC` gathers until it is killed; with `dies` behind that it kills itself
when it has committed for the first time, and has neither filled the table of the type nor acknowledged anything.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from ensue import IntegrationEvent
from ensue.lake import Gatherer, Lake


class Sold(IntegrationEvent, version=1, key="shop", name="lake_gathering.Sold"):
    shop: str
    number: int


class Dies(Gatherer):
    """Dies between its two commits."""

    def _type(self, source: str, added: Any = None) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    place, broker, topic, *how = sys.argv[1:]
    asyncio.run((Dies if how else Gatherer)(Lake(place), broker, [topic]).gather())
