"""The way out and the way in: relays publish integration events to a broker, the inbox handles what comes from one."""

from ensue.brokers.address import Address
from ensue.brokers.broker import Broker, Consumer, Incoming, Outgoing, Publisher, Refused
from ensue.brokers.choosing import broker_at

__all__ = ["Address", "Broker", "Consumer", "Incoming", "Outgoing", "Publisher", "Refused", "broker_at"]
