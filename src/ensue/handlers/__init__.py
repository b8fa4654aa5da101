"""What can stand behind a cursor, and what runs inside recording."""

from ensue.handlers.downcasts import Downcasting, check_versions, downcasting
from ensue.handlers.functions import Function, name_of
from ensue.handlers.reactions import Reacting, reaction
from ensue.handlers.threads import in_thread
from ensue.handlers.translations import Translating, translates_to, translation
from ensue.handlers.within import Guards, Watching, Within

__all__ = [
    "Downcasting",
    "Function",
    "Guards",
    "Reacting",
    "Translating",
    "Watching",
    "Within",
    "check_versions",
    "downcasting",
    "in_thread",
    "name_of",
    "reaction",
    "translates_to",
    "translation",
]
