"""How it fails: what the client raises, and what that means."""

from __future__ import annotations

import ssl

from ensue.brokers.address import Address
from ensue.brokers.kafka.client import errors
from ensue.errors import BrokerError, BrokerRefused, BrokerUnavailable


def refuses(error: BaseException) -> bool:
    """Tell whether somebody has to mend something."""
    kinds = (
        errors.AuthenticationFailedError,
        errors.AuthenticationMethodNotSupported,
        errors.SaslAuthenticationFailed,
        errors.UnsupportedSaslMechanismError,
        errors.IllegalSaslStateError,
        errors.TopicAuthorizationFailedError,
        errors.GroupAuthorizationFailedError,
        errors.ClusterAuthorizationFailedError,
        errors.InvalidGroupIdError,
        errors.InvalidTopicError,
        ssl.SSLCertVerificationError,
    )
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, kinds):
            return True
        chain = chain.__cause__ or chain.__context__
    return False


def failure_of(address: Address, error: BaseException) -> BrokerError:
    """Return the error of ours for one of the client's."""
    if isinstance(error, TimeoutError):
        return BrokerUnavailable(f"{address}: no answer within {address.timeout:g} s")
    kind = BrokerRefused if refuses(error) else BrokerUnavailable
    return kind(f"{address}: {words(error)}")


def words(error: BaseException) -> str:
    """Return what an error says."""
    told = str(error) or type(error).__name__
    description = getattr(error, "description", "")
    return f"{told} ({description})" if description and description not in told else told
