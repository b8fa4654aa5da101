"""The OpenAPI document of the JSON API, made from what its queries and actions take and answer."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ensue.console.acting import Outcome
from ensue.console.actions import ACTIONS, Action
from ensue.console.api.answers import Wrong
from ensue.console.api.queries import QUERIES, Query
from ensue.console.rendering import version

_REFERENCE = "#/components/schemas/{name}"
_WRONG = {
    "401": "nobody is known by what the request holds",
    "403": "the visitor's role does not let it, or it comes from another site",
    "404": "there is nothing of this name",
    "409": "it cannot be done as things are",
    "422": "what is given is not as it should be",
    "503": "the database does not answer",
}


def document(title: str, root: str) -> dict[str, Any]:
    """Return the document."""
    types = [
        *(each.takes for each in QUERIES),
        *(each.answers for each in QUERIES),
        *(each.takes for each in ACTIONS.values()),
        Outcome,
        Wrong,
    ]
    found, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    schema = dict(zip(map(repr, types), found, strict=True))
    paths: dict[str, Any] = {}
    for query in QUERIES:
        paths[query.path] = {"get": _query(query, schema, components)}
    for action in ACTIONS.values():
        paths[f"/actions/{action.name}"] = {"post": _action(action, schema)}
    return {
        "openapi": "3.1.0",
        "info": {"title": f"{title}: operations", "version": version()},
        "servers": [{"url": f"{root}/api"}],
        "security": [{"token": []}, {}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _query(query: Query, schema: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    takes = components[query.takes.__name__]
    required = takes.get("required", ())
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"{(\w+)}", query.path)
    ]
    parameters += [
        {"name": name, "in": "query", "required": name in required, "schema": _plain(each)}
        for name, each in takes.get("properties", {}).items()
    ]
    return {
        "operationId": "get" + "".join(part.title() for part in re.findall(r"\w+", query.path)),
        "summary": query.about,
        "parameters": parameters,
        "responses": _responses(schema[repr(query.answers)]),
    }


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter: one that is not given is absent, and never null."""
    options = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    found = {**schema, **options[0]} if len(options) == 1 else dict(schema)
    if len(options) == 1:
        del found["anyOf"]
    if found.get("default", ...) is None:
        del found["default"]
    return found


def _action(action: Action, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": action.name,
        "summary": action.about,
        "description": f"Needs the role {action.role!r}. It {_audited(action)}.",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema[repr(action.takes)]}},
        },
        "responses": {
            **_responses(schema[repr(Outcome)]),
            "413": _told("it holds too much"),
            "415": _told("it is no JSON"),
        },
    }


def _audited(action: Action) -> str:
    """Say what is left of it: what takes no reason changes nothing."""
    return "is written to the audit" if "reason" in action.takes.__struct_fields__ else "changes nothing"


def _responses(answer: dict[str, Any]) -> dict[str, Any]:
    good = {"description": "the answer", "content": {"application/json": {"schema": answer}}}
    return {"200": good, **{status: _told(why) for status, why in _WRONG.items()}}


def _told(why: str) -> dict[str, Any]:
    wrong = {"$ref": _REFERENCE.format(name="Wrong")}
    return {"description": why, "content": {"application/json": {"schema": wrong}}}
