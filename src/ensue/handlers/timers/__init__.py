"""Timers and schedules: events that are recorded when their time has come."""

from ensue.handlers.timers.alarm import Alarm
from ensue.handlers.timers.asking import Asking, Timers
from ensue.handlers.timers.firing import firing
from ensue.handlers.timers.schedules import Schedule, Scheduled, Ticking, missed, ticking
from ensue.handlers.timers.setting import (
    Setting,
    Timer,
    WaitingTimer,
    drop_timers,
    next_timers,
    set_timers,
    setting,
    steer_timer,
    timers_of,
)

__all__ = [
    "Alarm",
    "Asking",
    "Schedule",
    "Scheduled",
    "Setting",
    "Ticking",
    "Timer",
    "WaitingTimer",
    "Timers",
    "drop_timers",
    "firing",
    "missed",
    "next_timers",
    "set_timers",
    "setting",
    "steer_timer",
    "ticking",
    "timers_of",
]
