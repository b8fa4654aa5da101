"""The structure of integration events: drawn, written as JSON Schema, read again, compared and judged."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest
from msgspec import Meta, Struct

from ensue import DomainEvent, IntegrationEvent
from ensue.contracts.comparing import changes
from ensue.contracts.reading import contract_of_text
from ensue.contracts.schemas import as_text, schema_of
from ensue.contracts.shapes import words
from ensue.contracts.verdicts import verdict, verdicts
from ensue.errors import EventDefinitionError, UnusableContract
from ensue.events.kinds import EventMeta
from tests.contracting import (
    DEFAULTS,
    FIELDS,
    Card,
    Cash,
    Closed,
    Colour,
    Money,
    Node,
    Pair,
    contract,
    event,
    fresh_events,
)

__all__ = ["fresh_events"]
pytestmark = pytest.mark.usefixtures("fresh_events")


# --- drawing


def test_everything_that_an_event_can_hold_is_drawn_and_read_again() -> None:
    everything = contract("Everything", 3, DEFAULTS, with_key="id", with_changes="additive", **FIELDS)
    text = as_text(schema_of(everything))
    assert contract_of_text(text, "file") == everything
    assert as_text(schema_of(contract_of_text(text, "file"))) == text


def test_the_schema_is_json_schema_with_our_additions() -> None:
    class Opened(IntegrationEvent, version=2, name="bank.Opened", key="account", rename={"account": "accountId"}):
        """An account was opened."""

        account: UUID
        deposit: Money
        note: Annotated[str | None, Meta(description="What they said.")] = None

    assert json.loads(as_text(schema_of(contract_of_text(as_text(schema_of(_contract(Opened))), "x")))) == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Opened",
        "description": "An account was opened.",
        "type": "object",
        "properties": {
            "accountId": {"type": "string", "format": "uuid"},
            "deposit": {"$ref": "#/$defs/Money"},
            "note": {
                "description": "What they said.",
                "anyOf": [{"type": "string"}, {"type": "null"}],
                "default": None,
            },
        },
        "required": ["accountId", "deposit"],
        "$defs": {
            "Money": {
                "title": "Money",
                "description": "How much of what.",
                "type": "object",
                "properties": {
                    "amount": {"type": "string", "format": "decimal"},
                    "currency": {"type": "string", "default": "EUR"},
                },
                "required": ["amount"],
            }
        },
        "x-ensue": {"name": "bank.Opened", "version": 2, "changes": "none", "key": "accountId"},
    }


def _contract(cls: type[IntegrationEvent]) -> Any:
    from ensue.contracts.structures import contract_of

    return contract_of(cls)


def test_it_says_what_msgspec_says_where_that_says_enough() -> None:
    """Msgspec's own schema leaves out that text is a moment, and what the keys of a dict are."""
    silent = {"at", "hour", "by_id"}
    fields = {name: each for name, each in FIELDS.items() if name not in silent}
    cls = event("Everything", 1, DEFAULTS, **fields)
    theirs = msgspec.json.schema(cls)["$defs"]["Everything"]["properties"]
    ours = schema_of(_contract(cls))["properties"]
    different = {name for name in ours if ours[name] != theirs[name]}
    assert different == {"page", "paid_maybe", "default_list", "either"} & different


def test_classes_of_one_name_are_told_apart() -> None:
    class Money(Struct):
        cents: int

    from tests.contracting import Money as Other

    drawn = contract(a=Money, b=Other)
    assert drawn.definitions.keys() == {"Money", "Money2"}
    assert words(drawn.root.fields[1].shape) == "Money2"


def test_pydantic_models_give_their_own_schema() -> None:
    pydantic = pytest.importorskip("pydantic")
    inner: Any = pydantic.create_model("Inner", at=(UUID, ...))
    model = pydantic.create_model("Model", name=(str, ...), inner=(tuple[inner, ...], ...), level=(int, 3))
    drawn = contract(model=model, again=model)
    assert drawn.definitions.keys() == {"Model", "Inner"}
    text = as_text(schema_of(drawn))
    assert contract_of_text(text, "file") == drawn


def test_what_has_no_words_in_json_schema() -> None:
    class Foreign:
        @classmethod
        def model_validate(cls, value: object) -> Foreign:
            return cls()

    with pytest.raises(UnusableContract, match=r"event Paid: Foreign gives no JSON Schema of itself"):
        contract(it=Foreign)


# --- class keywords


def test_keywords_of_contracts_belong_to_integration_events() -> None:
    with pytest.raises(EventDefinitionError, match=r"changes='some': use 'none', the default, or 'additive'"):
        event(with_changes="some")
    with pytest.raises(EventDefinitionError, match=r"service='' is no name of a service"):
        event(with_service="")
    with pytest.raises(
        EventDefinitionError, match=r"only integration events are contracts; leave changes= and service="
    ):
        EventMeta("Noted", (DomainEvent,), {"__module__": __name__}, changes="additive")
    assert event(with_service="orders").__service__ == "orders"


# --- comparing


class MoneyToday(Struct, frozen=True):
    amount: Decimal
    currency: str = "EUR"
    cents: int = 0


class NodeToday(Struct, frozen=True):
    value: str
    next: NodeToday | None = None


class CardToday(Struct, frozen=True, tag_field="by", tag="card"):
    number: int


CHANGES: list[tuple[Any, Any, list[str]]] = [
    (int, int, []),
    (int, str, ["it: was integer, is string"]),
    (UUID, str, ["it: was uuid, is string"]),
    (int, int | None, ["it: may now be null"]),
    (int | str | None, int, ["it: may no longer be string or null"]),
    (list[int], list[str], ["it[]: was integer, is string"]),
    (list[int], set[int], ["it: was a list, is a set"]),
    (list[int], tuple[int, ...], []),
    (dict[str, int], dict[UUID, int], ["it{key}: was string, is uuid"]),
    (dict[str, int], dict[str, float], ["it{}: was integer, is number"]),
    (tuple[int, str], tuple[int], ["it[1]: was string, is gone", "it: 2 to 2 items had to be there, now 1 to 1 items"]),
    (tuple[int], tuple[str], ["it[0]: was integer, is string"]),
    (tuple[int], Pair, ["it[1]: was not there, is string", "it: 1 to 1 items had to be there, now 1 items or more"]),
    (Literal["a", "b"], Literal["b", "c"], ["it: may no longer be 'a'", "it: may now be 'c'"]),
    (Literal[1], Literal["1"], ["it: may no longer be 1", "it: may now be '1'"]),
    (Annotated[int, Meta(ge=1)], Annotated[int, Meta(ge=2)], ["it: minimum was 1, is 2"]),
    (str, Annotated[str, Meta(max_length=2)], ["it: maxLength was not set, is 2"]),
    (Money, MoneyToday, ["it.cents: was not there, is integer (optional, 0 by default)"]),
    (MoneyToday, Money, ["it.cents: was integer (optional, 0 by default), is gone"]),
    (Closed, Money, ["it.a: was integer (required), is gone"]),
    (Node, NodeToday, ["it.value: was integer, is string"]),
    (Card | Cash, CardToday | Cash, ["it.number: was string, is integer"]),
    (Card | Cash, Card, ["it: may no longer be Cash"]),
    (list[int] | None, list[str] | None, ["it[]: was integer, is string"]),
]


@pytest.mark.parametrize("old, new, said", CHANGES)
def test_what_has_changed_is_told(old: Any, new: Any, said: list[str]) -> None:
    old, new = contract("Paid", 1, it=old), contract("Paid", 2, it=new)
    assert [str(each).replace("Today", "") for each in changes(old, new)][: len(said) or None] == said


def test_members_that_come_and_go() -> None:
    old = contract("Paid", 1, a=int, b=int)
    new = contract("Paid", 2, {"c": "x", "b": 1}, b=int, c=str, d=UUID)
    assert [(str(each), each.additive) for each in changes(old, new)] == [
        ("a: was integer (required), is gone", False),
        ("b: was required, is optional, 1 by default", False),
        ("c: was not there, is string (optional, 'x' by default)", True),
        ("d: was not there, is uuid (required)", False),
    ]


def test_a_default_the_key_and_the_rule_count() -> None:
    old = contract("Paid", 1, {"a": 1}, a=int, b=int, with_key="b")
    new = contract("Paid", 2, {"a": True}, a=int, b=int, with_key="a", with_changes="additive")
    assert [str(each) for each in changes(old, new)] == [
        'changes="none" has become changes="additive"',
        "the key was b and is a",
        "a: its default was 1, is True",
    ]


def test_what_is_added_where_unknown_members_are_refused_is_no_addition() -> None:
    class More(Struct, forbid_unknown_fields=True):
        a: int
        b: int = 0

    class Open(Struct):
        a: int

    found = changes(contract("Paid", 1, it=Closed), contract("Paid", 2, it=More))
    assert [(each.path, each.additive) for each in found] == [("it.b", False)]
    found = changes(contract("Paid", 3, it=Closed), contract("Paid", 4, it=Open))
    assert [str(each) for each in found] == ["it: unknown members were refused, are accepted"]


def test_names_words_and_order_do_not_count() -> None:
    class Cash2(Struct, frozen=True, tag_field="by", tag="cash"):
        """Said differently."""

    old = contract("Paid", 1, a=int, b=Card | Cash, c=Colour)
    new = contract("Paid", 2, c=Colour, b=Cash2 | Card, a=Annotated[int, Meta(description="A number.")])
    assert changes(old, new) == []


# --- judging

VERDICTS: list[tuple[Any, Any, str]] = [
    (int, int, "full"),
    (int, float, "backward"),
    (float, int, "forward"),
    (int, Decimal, "backward"),
    (float, Decimal, "backward"),
    (UUID, str, "backward"),
    (Decimal, str, "backward"),
    (int, str, "none"),
    (bool, int, "none"),
    (int, Any, "backward"),
    (int, int | None, "backward"),
    (int | str, int | None, "none"),
    (Card, Card | Cash, "backward"),
    (Literal["a"], Literal["a", "b"], "backward"),
    (Literal["a"], Literal["b"], "none"),
    (Literal["a"], str, "backward"),
    (Literal[1], str, "none"),
    (Colour, str, "backward"),
    (list[int], list[float], "backward"),
    (list[int], set[int], "forward"),
    (list[int], tuple[int, int], "forward"),
    (tuple[int, int], Annotated[list[int], Meta(max_length=2)], "backward"),
    (tuple[int, int], Annotated[list[int], Meta(min_length=3)], "none"),
    (tuple[int, int], set[int], "none"),
    (tuple[int, int], tuple[int, int, int], "none"),
    (tuple[int], Pair, "backward"),
    (dict[str, int], dict[str, float], "backward"),
    (dict[UUID, int], dict[str, int], "backward"),
    (Money, dict[str, str], "backward"),
    (Money, MoneyToday, "full"),
    (Node, NodeToday, "none"),
    (Annotated[int, Meta(ge=2)], Annotated[int, Meta(ge=1)], "backward"),
    (Annotated[str, Meta(max_length=2)], str, "backward"),
    (Annotated[str, Meta(max_length=2)], Annotated[str, Meta(max_length=1)], "forward"),
    (Annotated[str, Meta(pattern="a")], Annotated[str, Meta(pattern="b")], "none"),
    (Card | Cash, CardToday | Cash, "none"),
]


@pytest.mark.parametrize("old, new, compatibility", VERDICTS)
def test_whether_one_can_be_read_as_the_other(old: Any, new: Any, compatibility: str) -> None:
    judged = verdict(contract("Paid", 1, it=old), contract("Paid", 2, it=new))
    assert judged.compatibility == compatibility
    assert bool(judged.not_backward) == (compatibility in ("forward", "none"))
    assert bool(judged.not_forward) == (compatibility in ("backward", "none"))


def test_members_and_verdicts() -> None:
    one, two = contract("Paid", 1, a=int), contract("Paid", 2, {"b": 0}, a=int, b=int)
    three, four = contract("Paid", 3, a=int, b=int), contract("Paid", 4, b=int)
    judged = verdicts([four, two, one, three])
    assert [(each.old, each.new, each.compatibility) for each in judged] == [
        ("Paid.v1", "Paid.v2", "full"),
        ("Paid.v2", "Paid.v3", "forward"),
        ("Paid.v3", "Paid.v4", "backward"),
    ]
    assert judged[1].not_backward == ["b: need not be there, and its reader requires it"]
    assert judged[2].not_forward == ["a: is not there, and its reader requires it"]


def test_why_not_is_told_where_it_is() -> None:
    judged = verdict(contract("Paid", 1, it=list[Card | Cash]), contract("Paid", 2, it=list[CardToday | Cash]))
    assert judged.not_backward == ["it[].number: is string, and is read as integer"]
    judged = verdict(contract("Paid", 3, it=Closed), contract("Paid", 4, it=Closed, more=int))
    assert judged.not_backward == ["more: is not there, and its reader requires it"]
    judged = verdict(contract("Paid", 5, it=Literal["a", "b"]), contract("Paid", 6, it=Literal["b"]))
    assert judged.not_backward == ["it: may be 'a', which its reader does not know"]


# --- what is no contract file

ABOUT = '"x-ensue":{"name":"Paid","version":1}'


@pytest.mark.parametrize(
    "text, said",
    [
        ("{", "file is no JSON"),
        ("[]", "file is no contract: its JSON Schema has no x-ensue"),
        ('{"x-ensue":{"name":"Paid","version":0}}', "has no x-ensue with the name and version"),
        ('{"x-ensue":{"name":"Paid","version":1,"changes":"all"}}', "x-ensue says changes 'all'"),
        ("{" + ABOUT + "}", "file describes plain, and events are objects"),
        ('{"type":"object","properties":{"a":{"not":{}}},' + ABOUT + "}", "file, a: the keywords not are not"),
        ('{"type":"object","properties":{"a":7},' + ABOUT + "}", "file, a: 7 is no schema"),
        ('{"type":"object","properties":{"a":{"type":"integer","odd":1}},' + ABOUT + "}", "file, a: the keywords odd"),
        ('{"type":"object","properties":{"a":{"$ref":"x.json"}},' + ABOUT + "}", "'x.json' leads out of the file"),
        ('{"type":"object","properties":{"a":{"$ref":"#/$defs/X"}},' + ABOUT + "}", "refers to X, which is not in"),
        ('{"type":"object","$defs":{"X":{"type":"string"}},' + ABOUT + "}", "X in its .defs is neither an object nor"),
        ('{"type":"object","properties":{"a":{"allOf":[true,true]}},' + ABOUT + "}", "allOf of several schemas"),
    ],
)
def test_what_is_no_contract_file_is_told(text: str, said: str) -> None:
    with pytest.raises(UnusableContract, match=said):
        contract_of_text(text, "file")


def test_what_other_tools_write_is_read() -> None:
    text = """{"type":"object","properties":{"a":{"type":["string","null"]},"b":{"const":1},"c":{"oneOf":[true]},
    "d":{"allOf":[{"$ref":"#/$defs/D"}]},"e":{"type":"string","format":"email"},"f":{"type":"array"}},
    "$defs":{"D":{"type":"object","properties":{"x":true}}},"x-ensue":{"name":"Paid","version":1}}"""
    found = contract_of_text(text, "file")
    assert [words(each.shape) for each in found.root.fields] == [
        "string or null",
        "1",
        "any",
        "D",
        "string",
        "list of any",
    ]
