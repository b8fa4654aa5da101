"""The web console: what operators see and do, in a browser and as JSON.

It only calls `App` and what that offers; nothing here knows how anything is stored.
"""

from ensue.console.access import Recognise, Role, Token, Tokens, Visitor, loopback
from ensue.console.application import Console

__all__ = ["Console", "Recognise", "Role", "Token", "Tokens", "Visitor", "loopback"]
