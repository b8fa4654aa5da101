"""Looking back: what caused what, what was at a moment, and how much of the past is kept."""

from ensue.history.history import History
from ensue.history.pruning import Need, Prunable, Pruning
from ensue.history.states import Difference, State
from ensue.history.tracing import Trace, Traced

__all__ = ["Difference", "History", "Need", "Prunable", "Pruning", "State", "Trace", "Traced"]
