"""Measure ensue beside the bare driver and a peer, print a table, write JSON."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.harness import Figure, Room
from bench.machine import machine
from bench.report import Report, line, show
from bench.stores import folder, server

GROUPS = {
    "a": "postgres_single",
    "b": "postgres_writers",
    "c": "postgres_batch",
    "d": "sqlite_recording",
    "e": "reading",
    "f": "peer",
    "g": "latency",
    "h": "tail",
    "i": "growth",
    "j": "aggregate_loading",
    "k": "aggregate_saving",
    "l": "aggregate_snapshots",
    "m": "relaying",
    "n": "projecting",
    "o": "timers",
    "p": "personal",
    "q": "lake",
    "s": "sealing",
    "t": "console",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for; return 1 if something broke, or with `--check` if a target was missed."""
    asked = _parser().parse_args(arguments)
    shown, waiting = Console(), Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        server(asked.postgres) as url,
        folder() as place,
        Progress(*columns, console=waiting, transient=True, disable=not waiting.is_terminal) as progress,
    ):
        room = Room(url, place, asked.runs or (2 if asked.quick else 7), asked.quick, progress)
        found = _measure(room, asked.only or list(GROUPS))
    show(found, shown if shown.is_terminal else Console(width=120))
    if asked.json:
        found.save(asked.json)
    return 1 if found.failed or (asked.check and not found.good) else 0


def _measure(room: Room, groups: Sequence[str]) -> Report:
    about = machine(room.postgres)
    figures: list[Figure] = []
    failed: dict[str, str] = {}
    for group in groups:
        room.group = group
        try:
            for figure in importlib.import_module(f"bench.{GROUPS[group]}").figures(room):
                figures.append(figure)
                room.progress.console.print(line(figure), highlight=False)
        except Exception as error:  # noqa: BLE001  what others took minutes to measure is kept
            failed[group] = f"{type(error).__name__}: {error}"
            room.progress.console.print_exception()
    return Report(
        at=datetime.now(UTC),
        machine=about,
        runs=room.runs,
        quick=room.quick,
        figures=figures,
        failed=failed,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", type=_groups, metavar="a,c", help=f"only these groups, out of {', '.join(GROUPS)}")
    parser.add_argument("--runs", type=int, help="how often each side is measured (7)")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it works, not how fast")
    parser.add_argument("--check", action="store_true", help="fail if a target is missed")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures there, too")
    parser.add_argument(
        "--postgres", metavar="URL", help="a PostgreSQL; else ENSUE_TEST_POSTGRES, localhost, or one of its own"
    )
    return parser


def _groups(text: str) -> list[str]:
    found = text.split(",")
    if unknown := set(found) - GROUPS.keys():
        raise argparse.ArgumentTypeError(f"no group {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    return found


def _end(number: int, _: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)  # schemas and files are removed on the way out
    sys.exit(main())
