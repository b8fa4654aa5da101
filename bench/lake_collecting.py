"""A process that collects a log into a lake: `python -m bench.lake_collecting URL SCHEMA LAKE` prints how it grew."""

from __future__ import annotations

import sys

import msgspec

from bench.reader import peak
from ensue import App
from ensue.lake import Collector, Lake


class Growth(msgspec.Struct, frozen=True):
    """Megabytes by which the process had grown at its peak."""

    early: float
    """When a quarter of the events had been collected."""
    late: float
    """In the end."""


def main(url: str, schema: str, lake: str) -> None:
    """Collect, and print the growth as JSON."""
    collector = Collector(App("bench", url, schema=schema).log, Lake(lake), rows=50_000)
    collector.begin()
    before, early = peak(), 0.0

    def look(done: int, goal: int) -> None:
        nonlocal early
        if done <= goal // 4 or not early:
            early = peak() - before

    collector.collect(look)
    sys.stdout.buffer.write(msgspec.json.encode(Growth(early, peak() - before)))


if __name__ == "__main__":
    main(*sys.argv[1:])
