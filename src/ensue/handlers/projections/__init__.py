"""Projections: read models whose effect and checkpoint are written in one transaction, and which can be built anew."""

from ensue.handlers.projections.applying import Applying, subscription_of
from ensue.handlers.projections.builds import (
    Build,
    Resolved,
    all_builds,
    create_build,
    cursor_of,
    first_build,
    lacking,
    live_build,
    refuse_if_pruned,
    resolve,
)
from ensue.handlers.projections.projection import Clear, Projection, SetUp, Tables, set_up_of, table_names
from ensue.handlers.projections.quiet import listen
from ensue.handlers.projections.repairing import Repair, keys_of
from ensue.handlers.projections.switching import (
    NotThere,
    Reach,
    TableDifference,
    compare,
    copy,
    drop,
    pick,
    reach,
    switch,
)
from ensue.handlers.projections.tables import tables_of

__all__ = [
    "Applying",
    "NotThere",
    "Reach",
    "Repair",
    "TableDifference",
    "compare",
    "copy",
    "drop",
    "keys_of",
    "pick",
    "reach",
    "refuse_if_pruned",
    "switch",
    "Build",
    "Clear",
    "Projection",
    "Resolved",
    "all_builds",
    "create_build",
    "cursor_of",
    "first_build",
    "lacking",
    "listen",
    "live_build",
    "resolve",
    "subscription_of",
    "Tables",
    "table_names",
    "tables_of",
    "SetUp",
    "set_up_of",
]
