"""`App`: the one object that ties the log, the subscriptions and the handlers together."""

from ensue.app.app import App
from ensue.app.modules import Module
from ensue.app.reading import Reading
from ensue.log import OwnAsyncConnection, OwnConnection, Transaction

__all__ = ["App", "Module", "OwnAsyncConnection", "OwnConnection", "Reading", "Transaction"]
