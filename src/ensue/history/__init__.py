"""Looking back: what caused what, what was at a moment, and how much of the past is kept."""

from ensue.history.appearances import Appearance, Appearances, Readable
from ensue.history.forgetting import Forgotten
from ensue.history.history import History
from ensue.history.pruning import Need, Prunable, Pruning
from ensue.history.rewrapping import MasterUse, Rewrapped
from ensue.history.states import Difference, State
from ensue.history.tracing import Trace, Traced

__all__ = [
    "Appearance",
    "Appearances",
    "Difference",
    "Forgotten",
    "History",
    "MasterUse",
    "Need",
    "Prunable",
    "Pruning",
    "Readable",
    "Rewrapped",
    "State",
    "Trace",
    "Traced",
]
