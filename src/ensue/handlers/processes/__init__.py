"""Process managers: durable state for each key, moved by events and timers."""

from ensue.handlers.processes.applying import Surroundings, managing
from ensue.handlers.processes.declared import Keys, ProcessManager
from ensue.handlers.processes.diagram import diagram
from ensue.handlers.processes.keeping import Status
from ensue.handlers.processes.looking import ProcessSeen, ProcessShown, StepSeen, begun, cancelling, processes, shown
from ensue.handlers.processes.process import Process
from ensue.handlers.processes.stepping import moves, starts
from ensue.handlers.processes.tracing import recorded_by
from ensue.handlers.processes.undoing import Undoing, ticket_of

__all__ = [
    "Keys",
    "Process",
    "ProcessManager",
    "ProcessSeen",
    "ProcessShown",
    "Status",
    "StepSeen",
    "Surroundings",
    "Undoing",
    "begun",
    "cancelling",
    "diagram",
    "managing",
    "moves",
    "processes",
    "recorded_by",
    "shown",
    "starts",
    "ticket_of",
]
