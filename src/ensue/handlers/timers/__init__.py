"""Timers and schedules: events that are recorded when their time has come."""

from ensue.handlers.timers.alarm import Alarm
from ensue.handlers.timers.firing import firing
from ensue.handlers.timers.schedules import Schedule, Scheduled, Ticking, ticking
from ensue.handlers.timers.setting import Setting, Timer, When, drop_timers, set_timers, setting, timers_of

__all__ = [
    "Alarm",
    "Schedule",
    "Scheduled",
    "Setting",
    "Ticking",
    "Timer",
    "When",
    "drop_timers",
    "firing",
    "set_timers",
    "setting",
    "ticking",
    "timers_of",
]
