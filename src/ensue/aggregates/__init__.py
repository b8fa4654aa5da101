"""Aggregates: what decides, whose history is its state, and of which one transaction changes one."""

from ensue.aggregates.aggregate import Aggregate, AggregateId
from ensue.aggregates.decider import Decider
from ensue.aggregates.deciding import DecidingRepository
from ensue.aggregates.evolving import evolves
from ensue.aggregates.history import Change
from ensue.aggregates.repository import Edit, Repository
from ensue.aggregates.snapshots import Snapshots
from ensue.aggregates.store import Recorder

__all__ = [
    "Aggregate",
    "AggregateId",
    "Change",
    "Decider",
    "DecidingRepository",
    "Edit",
    "Recorder",
    "Repository",
    "Snapshots",
    "evolves",
]
