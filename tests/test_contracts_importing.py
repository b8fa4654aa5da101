"""Event classes made from contract files: typed, in the same structure, to the byte."""

from __future__ import annotations

import ast
import dataclasses
import itertools
import json
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Meta, Struct

from ensue import PastEvent
from ensue.cli import main
from ensue.contracts.importing import module_source
from ensue.contracts.reading import contract_of_text
from ensue.contracts.schemas import as_text, schema_of
from ensue.contracts.shapes import Contract
from ensue.contracts.structures import contract_of
from ensue.errors import UnusableContract
from ensue.events import kinds, upcasting
from ensue.testing.strategies import events
from tests.contracting import DEFAULTS, FIELDS, Card, Cash, Colour, Level, Money, Pair, contract, event, fresh_events

__all__ = ["fresh_events"]
pytestmark = pytest.mark.usefixtures("fresh_events")

ROOT = Path(__file__).parent.parent
_numbers = itertools.count()


def made(*contracts: Contract, past: bool = False) -> ModuleType:
    """Return the module that is made of contracts, after they were in files."""
    read = [contract_of_text(as_text(schema_of(each)), "file") for each in contracts]
    source = module_source(read, past=past)
    kinds._classes.clear()
    upcasting._past.clear()
    module = ModuleType(f"imported_{next(_numbers)}")
    sys.modules[module.__name__] = module
    exec(compile(source, module.__name__, "exec"), module.__dict__)
    return module


def text_of(contract: Contract) -> str:
    return as_text(schema_of(contract))


RICH: dict[str, Any] = {
    **DEFAULTS,
    "when": datetime(2026, 3, 1, 9, 30, 0, 5, tzinfo=UTC),
    "born": date(2026, 3, 1),
    "clock": time(9, 30),
    "wait": timedelta(days=1, seconds=2.5),
    "raw": b"\x00'",
    "ref": UUID(int=7),
    "empty": frozenset(),
    "several": frozenset(["a"]),
    "one": (1,),
    "pair_default": Pair(1, "y"),
    "level_default": Level.HIGH,
    "quoted": 'it\'s "so"\n',
    "table_default": {},
    "amounts": (Money(Decimal("-0.5")),),
    "paid_default": Card("7"),
    "share": 2.0,
    "maybe_id": UUID(int=1),
    "literal": "b",
}
RICH_FIELDS: dict[str, Any] = {
    **FIELDS,
    "when": datetime,
    "born": date,
    "clock": time,
    "wait": timedelta,
    "raw": Annotated[bytes, Meta(min_length=1, max_length=4)],
    "ref": UUID,
    "empty": frozenset[str],
    "several": frozenset[str],
    "one": tuple[int, ...],
    "pair_default": Pair,
    "level_default": Level,
    "quoted": str,
    "table_default": dict[str, int],
    "amounts": tuple[Money, ...],
    "paid_default": Card | Cash,
    "share": float,
    "maybe_id": UUID | None,
    "literal": Literal["a", "b"],
}


def test_a_reader_has_the_same_contract_and_reads_every_event_to_the_byte(tmp_path: Path) -> None:
    """The module passes the strictest settings of the tools; it is formatted as it should be."""
    cls = event("Everything", 3, RICH, with_key="id", with_changes="additive", with_service="orders", **RICH_FIELDS)
    cls.__doc__ = 'What \\ "there" is.\n\n    Even """this""", and "that"'
    locked = contract_of(cls)
    (tmp_path / "Everything.v3.json").write_text(text_of(locked))
    with pytest.raises(SystemExit) as leaving:
        main(["contracts", "import", str(tmp_path / "Everything.v3.json"), "-o", str(tmp_path / "orders.py")])
    assert not leaving.value.code
    (tmp_path / "__init__.py").touch()
    for tool in (
        ["mypy", "--strict", "--config-file", "", "orders.py"],
        ["ruff", "check", "--config", str(ROOT / "pyproject.toml"), "--ignore", "E501,D", "orders.py"],
        ["ruff", "format", "--diff", "--config", str(ROOT / "pyproject.toml"), "orders.py"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", *tool], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    module = made(locked)
    assert text_of(contract_of(module.Everything)) == text_of(locked)
    assert (module.Everything.__key__, module.Everything.__service__) == ("id", "orders")


def test_what_was_written_is_read_and_written_again() -> None:
    fields = {
        name: each for name, each in RICH_FIELDS.items() if name not in ("anything", "text", "notes", "page", "zoned")
    }
    cls = event("Everything", 3, RICH, **fields)
    module = made(contract_of(cls))

    @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
    @given(events(cls))
    def reads(one: Any) -> None:
        data = cls.__structure__.encode(one)
        theirs = module.Everything.__structure__.decode(data)
        assert sorted_sets(module.Everything.__structure__.encode(theirs)) == sorted_sets(data)

    reads()


def sorted_sets(data: bytes) -> Any:
    """Return JSON in which the members that are sets are in order, for sets have none."""
    found = json.loads(data)
    return {name: sorted(each) if name in ("words", "several", "empty") else each for name, each in found.items()}


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.sampled_from(sorted(RICH_FIELDS)), unique=True, max_size=8),
    st.sampled_from(["id", "price", "flag", None]),
    st.sampled_from(["none", "additive"]),
)
def test_any_contract_can_be_locked_and_imported(names: list[str], key: str | None, changes: str) -> None:
    fields = {name: RICH_FIELDS[name] for name in dict.fromkeys([*names, *([key] if key else [])])}
    defaults = {name: RICH[name] for name in fields if name in RICH}
    kinds._classes.clear()
    locked = contract_of(event("Sold", 1, defaults, with_key=key, with_changes=changes, with_service="x", **fields))
    assert text_of(contract_of(made(locked).Sold)) == text_of(locked)


# --- names


def test_names_that_python_has_no_room_for() -> None:
    class Odd(
        Struct, rename={"a": "class", "b": "orderId", "c": "7th", "d": "order_id", "e": "dt", "f": "Money", "g": "-"}
    ):
        a: int
        b: int
        c: int
        d: int
        e: datetime
        f: int
        g: int

    locked = contract("my-shop/Order", 1, {"odd": None}, odd=Odd | None, money=Money, with_name="my-shop/Order")
    module = made(locked)
    odd = module.Odd
    assert odd.__struct_fields__ == ("class_", "order_id", "member_7th", "order_id_", "dt_", "money", "member")
    assert odd.__struct_encode_fields__ == ("class", "orderId", "7th", "order_id", "dt", "Money", "-")
    assert module.my_shop_Order.__type__ == "my-shop/Order.v1"
    assert contract_of(module.my_shop_Order).root.fields == locked.root.fields


def test_several_events_share_what_is_alike() -> None:
    class Other(Struct, frozen=True):
        cents: int

    Other.__name__ = "Money"
    one, two = contract("Paid", 1, amount=Money, colour=Colour), contract("Paid", 2, amount=Other)
    three = contract("Sent", 1, amount=Money)
    module = made(one, two, three)
    assert (module.Paid.__version__, module.PaidV1.__version__) == (2, 1)
    assert module.Sent.__annotations__["amount"] == module.PaidV1.__annotations__["amount"]


def test_the_events_of_many_services_have_a_docstring_in_width() -> None:
    read = [
        contract_of_text(
            text_of(dataclasses.replace(contract(f"Paid{number}", 1, order=int), service=f"service-{number}")),
            "file",
        )
        for number in range(12)
    ]
    for count in range(1, 13):
        source = module_source(read[:count])
        about = ast.get_docstring(ast.parse(source))
        assert about is not None
        assert f"of {', '.join(sorted(each.service or '' for each in read[:count]))}" in " ".join(about.split())
        assert "again instead of changing it." in about
        assert max(map(len, source.splitlines())) <= 110


def test_older_versions_as_past_structures() -> None:
    one, two = contract("Paid", 1, order=int), contract("Paid", 2, order=str)
    module = made(one, two, past=True)
    assert issubclass(module.PaidV1, PastEvent)
    assert module.PaidV1.__type__ == "Paid.v1"
    assert module.Paid.__version__ == 2


# --- what cannot be expressed

ABOUT = '"x-ensue":{"name":"Paid","version":1}'


@pytest.mark.parametrize(
    "member, said",
    [
        ('{"enum":[true,1.5]}', "Paid.v1: one of True | 1.5 cannot be annotated"),
        ('{"$ref":"#/$defs/Mixed"}', "Mixed is one of .*: an enum is all text or all integers"),
        ('{"type":"array","prefixItems":[true],"minItems":0}', "may have fewer or more items, and has no name"),
        ('{"anyOf":[{"type":"string"},{"type":"string","format":"uuid"}]}', "cannot be told apart: all are text"),
        ('{"anyOf":[{"$ref":"#/$defs/A"},{"$ref":"#/$defs/B"}]}', "A or B cannot be told apart: they have no tag"),
        ('{"type":"object","title":"Inner","properties":{}}', "stands in place; let it stand in .defs"),
    ],
)
def test_what_a_class_cannot_express(member: str, said: str) -> None:
    definitions = '{"Mixed":{"enum":["a",1]},"A":{"type":"object"},"B":{"type":"object"}}'
    text = f'{{"type":"object","properties":{{"it":{member}}},"required":["it"],"$defs":{definitions},{ABOUT}}}'
    with pytest.raises(UnusableContract, match=said):
        module_source([contract_of_text(text, "file")])


@pytest.mark.parametrize(
    "member",
    [
        '{"type":"integer","default":"x"}',
        '{"enum":["a"],"default":"b"}',
        '{"type":"array","items":true,"default":7}',
        '{"type":"object","additionalProperties":true,"default":7}',
        '{"$ref":"#/$defs/A","default":{}}',
        '{"anyOf":[{"type":"integer"},{"type":"null"}],"default":"x"}',
    ],
)
def test_a_default_that_does_not_fit(member: str) -> None:
    definitions = '{"A":{"type":"object","properties":{"x":true},"required":["x"]}}'
    text = f'{{"type":"object","properties":{{"it":{member}}},"$defs":{definitions},{ABOUT}}}'
    with pytest.raises(UnusableContract, match=r"Paid.v1: the default .* is not what its schema says"):
        module_source([contract_of_text(text, "file")])


def test_open_tuples_and_maps_of_other_tools() -> None:
    text = (
        '{"type":"object","properties":{"row":{"$ref":"#/$defs/Row"},"any":{"default":{"a":[1]}}},'
        '"$defs":{"Row":{"type":"array","prefixItems":[{"type":"integer"}],"minItems":0}},' + ABOUT + "}"
    )
    module = made(contract_of_text(text, "file"))
    assert module.Paid().any == {"a": [1]}
    assert msgspec.json.encode(module.Paid(row=module.Row(1))) == b'{"row":[1],"any":{"a":[1]}}'


# --- the command


def test_importing_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def ensue(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as leaving:
            main(["contracts", "import", *arguments])
        return (int(leaving.value.code or 0), *capsys.readouterr())

    for each in (contract("Paid", 1, order=int), contract("Paid", 2, order=str)):
        (tmp_path / f"{each.type}.json").write_text(text_of(each))
    (tmp_path / "service.json").write_text("{}")
    code, out, _ = ensue(str(tmp_path), "--past")
    assert (code, "class PaidV1(PastEvent" in out) == (0, True)
    (tmp_path / "empty").mkdir()
    code, _, err = ensue(str(tmp_path / "empty"))
    assert (code, "holds no contract file: `ensue contracts lock` writes them" in err) == (1, True)
    code, _, err = ensue(str(tmp_path / "nowhere.json"))
    assert (code, "nowhere.json cannot be read: No such file or directory" in err) == (1, True)
