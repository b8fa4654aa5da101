"""Contracts from JSON Schema: what was locked, here or by another service."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, cast

from ensue.contracts.shapes import (
    MISSING,
    PLAIN,
    Choice,
    Contract,
    Either,
    Field,
    Limits,
    Many,
    Named,
    Plain,
    Record,
    Ref,
    Row,
    Shape,
    Table,
)
from ensue.errors import UnusableContract

Schema = dict[str, Any]


def contract_of_text(text: str | bytes, where: str) -> Contract:
    """Read a contract file; raise `UnusableContract` for what is none, naming `where` it stands."""
    try:
        schema = _members(json.loads(text))
    except ValueError as error:
        raise UnusableContract(f"{where} is no JSON: {error}") from error
    about = _members(schema.get("x-ensue"))
    if not isinstance(about.get("name"), str) or not _is_version(about.get("version")):
        raise UnusableContract(
            f"{where} is no contract: its JSON Schema has no x-ensue with the name and version of an event; "
            "`ensue contracts lock` writes such files"
        )
    if about.get("changes", "none") not in ("none", "additive"):
        raise UnusableContract(
            f"{where}: x-ensue says changes {about['changes']!r}, which is neither none nor additive"
        )
    root, definitions = shape_of_schema(schema, where, str(schema.get("title") or about["name"]))
    if not isinstance(root, Record):
        raise UnusableContract(f"{where} describes {type(root).__name__.lower()}, and events are objects")
    return Contract(
        name=about["name"],
        version=about["version"],
        key=about.get("key"),
        changes=about.get("changes", "none"),
        service=about.get("service"),
        root=root,
        definitions=definitions,
    )


def _members(value: object) -> Schema:
    """Return an object's members; of anything else none."""
    return cast("Schema", value) if isinstance(value, dict) else {}


def _is_version(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def shape_of_schema(schema: Schema, where: str, name: str) -> tuple[Shape, dict[str, Named]]:
    """Return the shape that a JSON Schema describes, and the named shapes that it refers to."""
    reading = _Reading(where, name)
    definitions: dict[str, Named] = {}
    for each, inner in _members(schema.get("$defs")).items():
        shape = reading.shape(inner, f"$defs.{each}", each)
        if not isinstance(shape, (Record, Choice, Row)):
            raise UnusableContract(f"{where}: {each} in its $defs is neither an object nor a choice; write it in place")
        definitions[each] = shape
    root = reading.shape(schema, "", name)
    if missing := sorted(reading.refs - definitions.keys() - {name}):
        raise UnusableContract(f"{where} refers to {', '.join(missing)}, which is not in its $defs")
    return root, definitions


_ANNOTATIONS = frozenset(
    ("$schema", "$id", "$comment", "$defs", "title", "description", "examples", "deprecated", "readOnly", "writeOnly")
)
_FORMATS = {schema["format"]: kind for kind, schema in PLAIN.items() if "format" in schema}
_NUMBER = frozenset(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"))
_TEXT = frozenset(("minLength", "maxLength", "pattern"))


class _Reading:
    def __init__(self, where: str, name: str) -> None:
        self._where = where
        self._name = name
        self.refs: set[str] = set()

    def shape(self, schema: Any, path: str, name: str | None = None) -> Shape:
        if schema is True:
            return Plain("any")
        whole = _members(schema)
        if not isinstance(schema, dict):
            raise self._unusable(path, f"{schema!r} is no schema")
        words = {
            name: value
            for name, value in whole.items()
            if name not in _ANNOTATIONS and not name.startswith("x-") and name != "default"
        }
        title = whole.get("title") if name else None
        if not words:
            return Plain("any")
        if "$ref" in words:
            return self._ref(words["$ref"], path)
        if "const" in words or "enum" in words:
            return Choice(sorted_values(words["enum"] if "enum" in words else [words["const"]]), title)
        for word in ("anyOf", "oneOf", "allOf"):
            if word in words:
                return self._either(words, word, path)
        match words.pop("type", None):
            case [*kinds]:
                return Either(tuple(self.shape({**words, "type": each}, path) for each in kinds))
            case "object":
                return self._object(whole, words, path, name)
            case "array":
                return self._array(words, path, title)
            case kind:
                return self._plain(kind, words, path)

    def _plain(self, kind: Any, words: Schema, path: str) -> Plain:
        match kind:
            case "string":
                return self._string(words, path)
            case "integer" | "number":
                return Plain(kind, self._limits(words, _NUMBER, path))
            case "boolean" | "null":
                return Plain(kind, self._limits(words, frozenset(), path))
            case _:
                raise self._unusable(
                    path, f"the keywords {', '.join(sorted(words) or [repr(kind)])} are not understood"
                )

    def _ref(self, target: Any, path: str) -> Ref:
        if target == "#":
            return Ref(self._name)
        if not isinstance(target, str) or not target.startswith("#/$defs/"):
            raise self._unusable(path, f"$ref {target!r} leads out of the file")
        name = target.removeprefix("#/$defs/")
        self.refs.add(name)
        return Ref(name)

    def _either(self, words: Schema, word: str, path: str) -> Shape:
        options = tuple(self.shape(each, path) for each in words[word])
        if len(options) == 1:
            return options[0]
        if word == "allOf":
            raise self._unusable(path, "allOf of several schemas is not understood")
        flat: list[Shape] = []
        tag = words.get("discriminator", {}).get("propertyName")
        for each in options:
            flat.extend(each.options if isinstance(each, Either) else (each,))
            tag = tag or (each.tag if isinstance(each, Either) else None)
        return Either(tuple(dict.fromkeys(flat)), tag)

    def _object(self, schema: Schema, words: Schema, path: str, name: str | None) -> Shape:
        more = words.pop("additionalProperties", True)
        if "properties" not in words and more is not False and (more is not True or name is None):
            key = self.shape(words.pop("propertyNames", {"type": "string"}), f"{path} keys")
            key = Plain("string") if key == Plain("any") else key
            limits = self._limits(words, frozenset(("minProperties", "maxProperties")), path)
            return Table(self.shape(more, f"{path}{{}}"), key, limits)
        required = set(words.pop("required", ()))
        fields: list[Field] = []
        for each, inner in words.pop("properties", {}).items():
            shape = self.shape(inner, f"{path}.{each}".lstrip("."))
            details = _members(inner)
            fields.append(
                Field(each, shape, each in required, details.get("default", MISSING), details.get("description"))
            )
        self._limits(words, frozenset(), path)
        title = name or str(schema.get("title") or path.rpartition(".")[2].title() or "Unnamed")
        about = schema.get("description")
        return Record(title, tuple(fields), more is False, about if isinstance(about, str) else None)

    def _array(self, words: Schema, path: str, name: str | None) -> Shape:
        if "prefixItems" in words:
            items: list[Any] = words.pop("prefixItems")
            closed = words.pop("items", True) is False or words.get("maxItems") == len(items)
            least = words.pop("minItems", 0)
            words.pop("maxItems", None)
            self._limits(words, frozenset(), path)
            shapes = tuple(self.shape(each, f"{path}[{number}]") for number, each in enumerate(items))
            defaults = tuple(_members(each).get("default", MISSING) for each in items)
            return Row(shapes, least, closed, name, defaults)
        item = self.shape(words.pop("items", True), f"{path}[]")
        unique = bool(words.pop("uniqueItems", False))
        return Many(item, unique, self._limits(words, frozenset(("minItems", "maxItems")), path))

    def _string(self, words: Schema, path: str) -> Plain:
        kind = "string"
        if words.pop("contentEncoding", None) is not None:
            kind = "bytes"
        if (format := words.pop("format", None)) is not None:
            kind = _FORMATS.get(format, "string")
        return Plain(kind, self._limits(words, _TEXT, path))

    def _limits(self, words: Schema, known: frozenset[str], path: str) -> Limits:
        if unknown := words.keys() - known:
            raise self._unusable(path, f"the keywords {', '.join(sorted(unknown))} are not understood")
        return tuple(sorted(words.items()))

    def _unusable(self, path: str, what: str) -> UnusableContract:
        return UnusableContract(f"{self._where}{f', {path}' if path else ''}: {what}")


def sorted_values(values: Iterable[Any]) -> tuple[Any, ...]:
    """Return the values of a choice in an order that does not depend on how they were written down."""
    return tuple(sorted(values, key=lambda value: (type(value).__name__, value if value is not None else 0)))
