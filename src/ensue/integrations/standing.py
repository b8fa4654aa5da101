"""How far the subscriptions are on which the code of an application works."""

from __future__ import annotations

from typing import NamedTuple

from ensue.app import App
from ensue.subscriptions.standings import Partition, Standing, standings


class Standings(NamedTuple):
    """What the log says of an application."""

    found: list[Standing]
    """Of those on which this code works: of each projection the build of its version."""
    missing: list[str]
    """Declared, and not yet in the log."""


def standings_of(app: App) -> Standings:
    """Ask the log; raises what the database raises.

    What is in the log and not declared here is left out: builds that are kept or are built by hand, subscriptions of
    other releases. Nobody has to work on those.
    """
    log = app.log
    with log.own.lend() as connection:
        mine = log.run(app.declarations.cursors(log, create=False), connection).declared
        found: list[Standing] = [each for each in log.run(standings(log), connection) if each.subscription in mine]
    there = {each.subscription for each in found}
    built = {name.partition(":")[0] for name in mine}
    missing = [*(mine.keys() - there), *(app.declarations.projections.keys() - built)]
    return Standings(found, sorted(missing))


def state_of(partition: Partition) -> str:
    """Say whether a partition is `worked` on, `expired` (its worker is dead), or `free` (nobody works on it)."""
    if partition.owner is None:
        return "free"
    return "expired" if partition.expired else "worked"
