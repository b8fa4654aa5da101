"""Contracts: what a service publishes to others, in which structure, and how a message carries it."""

from ensue.contracts.folder import Folder
from ensue.contracts.locking import check_contracts
from ensue.contracts.service import Publication, Reading, Service

__all__ = ["Folder", "Publication", "Reading", "Service", "check_contracts"]
