"""How it fails: what the client raises, and what that means."""

from __future__ import annotations

import ssl

from aiormq import exceptions

from ensue.brokers.address import Address
from ensue.errors import BrokerError, BrokerRefused, BrokerUnavailable

GONE = (exceptions.AMQPError, exceptions.ChannelInvalidStateError, ConnectionError, OSError, RuntimeError)
"""What aio-pika raises when something is wrong with a channel or a connection."""

_REFUSALS = (
    exceptions.AuthenticationError,
    exceptions.ProbableAuthenticationError,
    exceptions.ChannelAccessRefused,
    exceptions.ChannelPreconditionFailed,
    exceptions.ChannelLockedResource,
    exceptions.ConnectionNotAllowed,
)


def failure_of(address: Address, error: BaseException) -> BrokerError:
    """Return the error of ours for one of the client's."""
    if isinstance(error, BrokerError):
        return error
    told = f"{address}: {words(error)}"
    if isinstance(error, exceptions.InvalidFrameError) and "Connection.OpenOk" in told:  # it does not tell which frame
        vhost = address.path or "/"
        return BrokerRefused(f"{address}: there is no virtual host {vhost!r}, or the user has no access to it")
    if isinstance(error, _REFUSALS) or _is_certificate(error):
        return BrokerRefused(told)
    if isinstance(error, TimeoutError):
        return BrokerUnavailable(f"{address}: no answer within {address.timeout:g} s")
    return BrokerUnavailable(told)


def words(error: BaseException) -> str:
    """Return what an error says."""
    return " ".join(str(part) for part in error.args if part is not None) or type(error).__name__


def _is_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
