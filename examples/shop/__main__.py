"""`python -m examples.shop --orders 50`: run the shop, and see whether everything adds up."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ensue.brokers import Address
from ensue.errors import EnsueError

from .auditing import Books
from .broker import NoBroker, broker
from .processes import Stopped
from .running import NEWCOMER, SERVICES, run


def main() -> int:
    """Run it; return 0 if everything adds up, 1 if not, 2 if it could not be run."""
    parser = argparse.ArgumentParser(prog="python -m examples.shop", description=__doc__)
    parser.add_argument("--orders", type=int, default=50, help="how many are placed (50)")
    parser.add_argument("--kills", type=int, default=0, help="how often one of the processes is killed meanwhile (0)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same orders (1)")
    parser.add_argument("--folder", type=Path, default=Path("shop-data"), help="where databases and logs are kept")
    given = parser.parse_args()
    folder: Path = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    database = os.environ.get("SHOP_DATABASE", f"sqlite:///{folder}/{{service}}.db")
    out = Console()
    try:
        with broker(folder) as url:
            out.print(f"{len(SERVICES)} services and a newcomer, over {Address(url)}")
            environment = {"SHOP_BROKER": url, "SHOP_DATABASE": database}
            books, faults = run(given.orders, given.kills, given.seed, folder, environment)
    except (NoBroker, Stopped, TimeoutError, EnsueError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    show(out, books)
    if not faults:
        out.print(f"It all adds up; processes were killed {given.kills} times." if given.kills else "It all adds up.")
        return 0
    for each in faults[:20]:
        out.print(f"[red]{each}[/]")
    out.print(f"{len(faults)} things do not add up. The logs are in {folder}.")
    return 1


def show(out: Console, books: Books) -> None:
    """Print the table."""
    kept = sum(1 for quantity in books.kept.values() if quantity)
    stock = {"reserved": kept, "released": books.released, "refused": len(books.kept) - kept - books.released}
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row("orders", told(books.states))
    table.add_row("payments", told(Counter(books.payments.values())))
    table.add_row("reservations", told(stock))
    table.add_row("left in stock", told(books.on_hand))
    table.add_row("shipments", str(books.shipments.total()))
    table.add_row(NEWCOMER, f"{books.purchases} orders heard of, {books.points} points for what was shipped")
    out.print(table)


def told(counts: Mapping[str, int]) -> str:
    """Say how many there are of each."""
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"


if __name__ == "__main__":
    sys.exit(main())
