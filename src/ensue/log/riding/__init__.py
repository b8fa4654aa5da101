"""The connections that a record can ride on: those that the user already has."""

from ensue.log.riding.choosing import AsyncConnection, SyncConnection, is_async, ride_on

__all__ = ["AsyncConnection", "SyncConnection", "is_async", "ride_on"]
