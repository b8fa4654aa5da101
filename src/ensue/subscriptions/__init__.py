"""Subscriptions: durable cursors over the log, and the worker that carries events to what stands behind them."""

from ensue.subscriptions.chores import Carry, Chore
from ensue.subscriptions.declared import (
    Applies,
    Beside,
    Condition,
    Cursors,
    Handle,
    NotApplied,
    Opened,
    Outlet,
    Start,
    Subscription,
    edges,
    partition_of,
    slot_of,
)
from ensue.subscriptions.failing import Failure
from ensue.subscriptions.outcomes import Backoff, Delivery, Done, Hold, Outcome, Park, Retry, When, seconds
from ensue.subscriptions.parking import GOES_ON
from ensue.subscriptions.registering import pause, register, repartition, retire
from ensue.subscriptions.worker import Worker

__all__ = [
    "GOES_ON",
    "Applies",
    "Backoff",
    "Beside",
    "Carry",
    "Chore",
    "Condition",
    "Cursors",
    "Delivery",
    "Done",
    "Handle",
    "Failure",
    "Hold",
    "NotApplied",
    "Opened",
    "Outcome",
    "Outlet",
    "Park",
    "Retry",
    "Start",
    "Subscription",
    "When",
    "Worker",
    "edges",
    "partition_of",
    "pause",
    "register",
    "repartition",
    "retire",
    "seconds",
    "slot_of",
]
