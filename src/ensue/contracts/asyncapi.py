"""What a service publishes and reads, as an AsyncAPI 3.0 document (https://www.asyncapi.com)."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

from ensue.contracts.cloudevents import AMQP, HTTP, JSON, KAFKA, NATS, REDIS, Binding, source_of
from ensue.contracts.schemas import Schema, schema_of
from ensue.contracts.service import Publication, Reading, Service
from ensue.contracts.shapes import Contract
from ensue.contracts.structures import contract_of

VERSION = "3.0.0"
_BINDINGS: dict[str, Binding] = {"nats": NATS, "kafka": KAFKA, "amqp": AMQP, "redis": REDIS, "http": HTTP}
_HEADERS: dict[str, Schema] = {
    "specversion": {"type": "string", "const": "1.0"},
    "id": {"type": "string", "description": "Unique for its source: a message that comes twice has the same."},
    "source": {"type": "string", "format": "uri-reference"},
    "type": {"type": "string"},
    "time": {"type": "string", "format": "date-time", "description": "When it was recorded."},
    "partitionkey": {"type": "string", "description": "What its order is kept by."},
    "correlationid": {"type": "string"},
    "causationid": {"type": "string"},
    "traceparent": {"type": "string", "description": "W3C trace context."},
    "sequence": {"type": "string", "description": "It grows, with gaps, in the order of the source."},
}
_REQUIRED = ("specversion", "id", "source", "type", "time")


def asyncapi(service: Service, version: str = "1.0.0", description: str | None = None) -> Schema:
    """Return the AsyncAPI document of a service; `version` is the document's."""
    writing = _Writing(service)
    for publication in service.publishes:
        writing.publish(publication)
    for reading in service.reads:
        writing.read(reading)
    about: Schema = {"title": service.name, "version": version}
    if description is not None:
        about["description"] = description
    return writing.document(about)


class _Where(NamedTuple):
    """Where a channel is."""

    protocol: str | None
    server: str | None
    exchange: str | None


class _Writing:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._servers: dict[str, Schema] = {}
        self._channels: dict[str, Schema] = {}
        self._operations: dict[str, Schema] = {}
        self._messages: dict[str, Schema] = {}
        self._schemas: dict[str, Schema] = {}

    def document(self, about: Schema) -> Schema:
        found: Schema = {"asyncapi": VERSION, "info": about, "defaultContentType": JSON}
        if self._servers:
            found["servers"] = dict(sorted(self._servers.items()))
        found["channels"] = dict(sorted(self._channels.items()))
        found["operations"] = dict(sorted(self._operations.items()))
        if self._messages:
            found["components"] = {
                "messages": dict(sorted(self._messages.items())),
                "schemas": dict(sorted(self._schemas.items())),
            }
        return found

    def publish(self, publication: Publication) -> None:
        contract = contract_of(publication.event, self._service.name)
        address = publication.channel
        server = self._server(publication.protocol, publication.address)
        where = _Where(publication.protocol, server, publication.exchange)
        self._operation("send", contract, address, where, None)

    def read(self, reading: Reading) -> None:
        contract = contract_of(reading.event)
        where = urlsplit(reading.source) if reading.source is not None else None
        host = where.netloc.rpartition("@")[2] if where is not None else None
        server = self._server(reading.protocol, host)
        self._operation(
            "receive", contract, reading.channel, _Where(reading.protocol, server, reading.exchange), reading.consumer
        )

    def _server(self, protocol: str | None, host: str | None) -> str | None:
        if protocol is None or not host:
            return None
        name = _key(f"{protocol}-{host}")
        self._servers[name] = {"host": host, "protocol": protocol}
        return name

    def _operation(
        self, action: str, contract: Contract, address: str | None, where: _Where, consumer: str | None
    ) -> None:
        protocol, server, exchange = where
        message = self._message(contract, protocol)
        named = filter(None, (protocol, exchange, address))  # one routing key may be used in several exchanges
        channel = _key("-".join(named) if address else contract.name)
        found = self._channels.setdefault(channel, {"address": address, "messages": {}})
        found["messages"][message] = {"$ref": f"#/components/messages/{message}"}
        if server is not None:
            servers: list[Any] = found.setdefault("servers", [])
            if (ref := {"$ref": f"#/servers/{server}"}) not in servers:
                servers.append(ref)
        if address is not None and (binding := _of_channel(protocol, address, exchange)) is not None:
            found["bindings"] = {protocol: binding}
        operation: Schema = self._operations.setdefault(
            _key("-".join(filter(None, (action, channel, consumer)))),
            {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "messages": []},
        )
        operation["messages"].append({"$ref": f"#/channels/{channel}/messages/{message}"})
        if (binding := _of_operation(protocol, action, consumer)) is not None:
            operation["bindings"] = {protocol: binding}

    def _message(self, contract: Contract, protocol: str | None) -> str:
        """Add the message; its headers depend on the protocol, by their prefix."""
        binding = _BINDINGS.get(protocol or "http", HTTP)
        name = _key(contract.type if protocol is None else f"{contract.type}-{protocol}")
        if name in self._messages:
            return name
        schema = self._schema(contract)
        headers: Schema = {binding.prefix + each: dict(value) for each, value in _HEADERS.items()}
        headers[f"{binding.prefix}type"]["const"] = contract.type
        if contract.service is not None:
            headers[f"{binding.prefix}source"]["examples"] = [source_of(contract.service)]
        key = headers[f"{binding.prefix}partitionkey"]
        if contract.key is not None:
            key["description"] += f" It is the member {contract.key}."
        message: Schema = {
            "name": contract.type,
            "title": contract.name,
            "contentType": JSON,
            "headers": {
                "type": "object",
                "properties": headers,
                "required": [binding.prefix + each for each in _REQUIRED],
            },
            "payload": {"$ref": f"#/components/schemas/{schema}"},
            "x-ensue": {"event": contract.name, "version": contract.version, "changes": contract.changes},
        }
        if contract.root.about is not None:
            message["summary"] = contract.root.about.partition("\n")[0]
        if (bound := _of_message(protocol, contract)) is not None:
            message["bindings"] = {protocol: bound}
        self._messages[name] = message
        return name

    def _schema(self, contract: Contract) -> str:
        """Add the schema of an event; the shapes that it refers to stand beside it, under its own name."""
        name = _key(contract.type)
        written: Schema = _for_asyncapi(schema_of(contract, definitions=f"#/components/schemas/{name}."))
        written.pop("$schema")
        written.pop("x-ensue")
        for each, inner in written.pop("$defs", {}).items():
            self._schemas[f"{name}.{each}"] = inner
        self._schemas[name] = written
        own = f"{name}.{contract.root.name}"
        if f'"#/components/schemas/{own}"' in str(written).replace("'", '"'):
            self._schemas[own] = {"$ref": f"#/components/schemas/{name}"}
        return name


def _for_asyncapi(schema: Schema) -> Schema:
    """Write discriminators as AsyncAPI wants them: the name of the member alone."""

    def simplified(each: Schema) -> Schema:
        found = each.get("discriminator")
        return {**each, "discriminator": found["propertyName"]} if "anyOf" in each and found else each

    return cast("Schema", json.loads(json.dumps(schema), object_hook=simplified))


def _key(text: str) -> str:
    """Return a key that AsyncAPI allows."""
    return re.sub(r"[^\w.\-]+", "-", text, flags=re.ASCII).strip("-") or "unnamed"


# --- what each protocol adds, by its binding

_KAFKA, _AMQP, _HTTP, _NATS = ({"bindingVersion": each} for each in ("0.5.0", "0.3.0", "0.3.0", "0.1.0"))


def _of_channel(protocol: str | None, address: str, exchange: str | None) -> Schema | None:
    match protocol:
        case "kafka":
            return {"topic": address, **_KAFKA}
        case "amqp":
            named = {} if exchange is None else {"name": exchange}
            return {
                "is": "routingKey",
                "exchange": {**named, "type": "topic", "durable": True, "autoDelete": False},
                **_AMQP,
            }
        case _:
            return None


def _of_operation(protocol: str | None, action: str, consumer: str | None) -> Schema | None:
    reader = consumer if action == "receive" else None
    match protocol:
        case "kafka":
            return {**({"groupId": {"type": "string", "enum": [reader]}} if reader else {}), **_KAFKA}
        case "amqp":
            queue = {"x-queue": reader} if reader else {}  # the binding has a place for it instead of the exchange only
            return {**({"deliveryMode": 2} if action == "send" else {"ack": True}), **queue, **_AMQP}
        case "nats":
            return {**({"queue": reader} if reader else {}), **_NATS}
        case "http":
            return {"method": "POST", **_HTTP}
        case _:
            return None


def _of_message(protocol: str | None, contract: Contract) -> Schema | None:
    match protocol:
        case "kafka":
            return {**({"key": {"type": "string"}} if contract.key is not None else {}), **_KAFKA}
        case "amqp":
            return {"messageType": contract.type, **_AMQP}
        case _:
            return None
