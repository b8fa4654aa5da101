"""Contracts as JSON Schema (2020-12)."""

from __future__ import annotations

import json
from typing import Any

from ensue.contracts.shapes import (
    MISSING,
    PLAIN,
    Choice,
    Contract,
    Either,
    Field,
    Many,
    Named,
    Plain,
    Record,
    Ref,
    Row,
    Shape,
    Table,
)

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


def schema_of(contract: Contract, *, definitions: str = "#/$defs/") -> Schema:
    """Return a contract as JSON Schema; `definitions` is where references lead to."""
    write = _Writing(contract, definitions)
    schema: Schema = {"$schema": DIALECT, **write.record(contract.root)}
    if contract.definitions:
        schema["$defs"] = {name: write.named(contract.definitions[name]) for name in sorted(contract.definitions)}
    about: Schema = {
        "service": contract.service,
        "name": contract.name,
        "version": contract.version,
        "key": contract.key,
        "changes": contract.changes,
    }
    schema["x-ensue"] = {name: value for name, value in about.items() if value is not None}
    return schema


def as_text(document: Any) -> str:
    """Return a JSON document as it stands in a file: indented, with a newline at its end."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


class _Writing:
    def __init__(self, contract: Contract, definitions: str) -> None:
        self._contract = contract
        self._definitions = definitions

    def shape(self, shape: Shape) -> Schema:
        match shape:
            case Plain(kind, limits):
                return {**PLAIN[kind], **dict(limits)}
            case Many(item, unique, limits):
                found: Schema = {"type": "array", "items": self.shape(item)}
                return {**found, **({"uniqueItems": True} if unique else {}), **dict(limits)}
            case Table(value, key, limits):
                found = {"type": "object", "additionalProperties": self.shape(value)}
                return {
                    **found,
                    **({} if key == Plain("string") else {"propertyNames": self.shape(key)}),
                    **dict(limits),
                }
            case Either(options, tag):
                found = {"anyOf": [self.shape(each) for each in options]}
                return {**found, **({} if tag is None else {"discriminator": self._discriminator(options, tag)})}
            case Ref():
                return {"$ref": self._ref(shape)}
            case _:
                return self.named(shape)

    def named(self, shape: Named) -> Schema:
        match shape:
            case Choice(values, name):
                return {**({} if name is None else {"title": name}), "enum": list(values)}
            case Row():
                return self._row(shape)
            case Record():
                return self.record(shape)

    def record(self, record: Record) -> Schema:
        schema: Schema = {"title": record.name}
        if record.about is not None:
            schema["description"] = record.about
        schema["type"] = "object"
        schema["properties"] = {each.name: self._field(each) for each in record.fields}
        if required := [each.name for each in record.fields if each.required]:
            schema["required"] = required
        if record.closed:
            schema["additionalProperties"] = False
        return schema

    def _field(self, field: Field) -> Schema:
        about = {} if field.about is None else {"description": field.about}
        default = {} if field.default is MISSING else {"default": field.default}
        return {**about, **self.shape(field.shape), **default}

    def _row(self, row: Row) -> Schema:
        items = [
            {**self.shape(each), **({} if default is MISSING else {"default": default})}
            for each, default in zip(row.items, row.defaults, strict=True)
        ]
        schema: Schema = {} if row.name is None else {"title": row.name}
        schema |= {"type": "array", "prefixItems": items, "minItems": row.least}
        return {**schema, **({"maxItems": len(items), "items": False} if row.closed else {})}

    def _ref(self, ref: Ref) -> str:
        own = ref.name == self._contract.root.name
        return "#" if own and self._definitions == "#/$defs/" else self._definitions + ref.name

    def _discriminator(self, options: tuple[Shape, ...], tag: str) -> Schema:
        mapping: Schema = {}
        for each in options:
            record = self._contract.resolve(each)
            field = record.field(tag) if isinstance(record, Record) else None
            if isinstance(each, Ref) and field is not None and isinstance(field.shape, Choice):
                mapping[str(field.shape.values[0])] = self._ref(each)
        return {"propertyName": tag, "mapping": mapping}
