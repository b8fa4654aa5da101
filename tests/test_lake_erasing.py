"""Erasure by declaration: in a lake, all events about somebody are emptied, and no others, in every format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import pytest
from pyiceberg.exceptions import ForbiddenError
from pyiceberg.table.update.snapshot import ExpireSnapshots

from ensue import App, IntegrationEvent, PastEvent, Personal, personal, upcast
from ensue.cli import main
from ensue.errors import LakeError
from ensue.keys import LocalKeys
from ensue.lake import Collector, Lake

PERSON = "ada-1815"


class Joined(IntegrationEvent, version=2, key="plan", subject="user", name="lake_erasing.Joined"):
    user: str
    plan: str
    email: Personal[str]


class JoinedOnce(PastEvent, name="lake_erasing.Joined.v1"):
    user: str
    plan: str
    mail: Personal[str]


@upcast
def _joined(old: JoinedOnce) -> Joined:
    return Joined(user=old.user, plan=old.plan, email=old.mail)


class Invited(IntegrationEvent, version=1, key="team", subject="host", name="lake_erasing.Invited"):
    team: str
    host: str
    guest: str
    note: Personal[str]
    guests_name: Annotated[str, personal(subject="guest")]


class Billed(IntegrationEvent, version=1, key="user", name="lake_erasing.Billed"):
    user: str
    about: str
    cents: int


@pytest.fixture
def app(tmp_path: Path) -> App:
    made = App("club", f"sqlite:///{tmp_path}/log.db", migrate=True, master_keys=LocalKeys(b"m" * 32))
    made.migrate()
    return made


def _invited(team: str, host: str, guest: str) -> Invited:
    return Invited(team=team, host=host, guest=guest, note="come", guests_name="a friend")


ABOUT = [
    Joined(user=PERSON, plan="free", email="ada@example.org"),
    _invited("t1", PERSON, "bob"),
    _invited("t1", "bob", PERSON),
    Billed(user=PERSON, about="bob", cents=5),  # nothing personal is declared: by its key
]
OTHERS = [
    Joined(user="bob", plan="free", email=f"{PERSON}@example.org"),
    Joined(user="bob", plan=PERSON, email="bob@example.org"),  # the key is not whose it is
    _invited(PERSON, "bob", "carl"),
    _invited("t1", f"{PERSON}0", "carl"),
    Billed(user="bob", about=PERSON, cents=5),
]


@pytest.mark.parametrize("format", ["delta", "iceberg", "parquet", "jsonl"])
def test_all_events_of_a_subject_and_no_others_are_emptied(format: str, app: App, tmp_path: Path) -> None:
    lake = Lake(f"{format}+{tmp_path}/lake")
    with app.transaction() as connection:
        app.record(*OTHERS[:3], *ABOUT, *OTHERS[3:], via=connection)
    Collector(app.log, lake).collect()
    expected = [each.id_text for each in app.read() if each.event in ABOUT]
    before = _rows(lake)
    assert lake.erase(PERSON, dry_run=True) == expected
    assert _rows(lake) == before
    assert lake.erase(PERSON) == expected
    after = _rows(lake)
    assert after.keys() == before.keys()
    for id, row in after.items():
        if id in expected:
            assert (row["payload"], row["key"], row["type"]) == (None, None, before[id]["type"])
        else:
            assert row == before[id]
    kept = {
        each["id"] for each in lake.sql("select id from lake_erasing_joined_v2 union all by name "
        "select id from lake_erasing_invited_v1 union all by name select id from lake_erasing_billed_v1").to_pylist()
    }  # fmt: skip
    assert kept == before.keys() - set(expected)
    assert lake.check() == []
    assert lake.erase(PERSON) == []


def test_a_catalog_that_keeps_older_snapshots_is_told_of(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise ForbiddenError("AccessDenied: remove-snapshots")

    with app.transaction() as connection:
        app.record(ABOUT[0], via=connection)
    lake = Lake(f"iceberg+{tmp_path}/lake")
    Collector(app.log, lake).collect()
    monkeypatch.setattr(ExpireSnapshots, "commit", refuse)  # as a REST catalog has answered
    with pytest.raises(LakeError) as refused:
        lake.erase(PERSON)
    assert str(refused.value).count("1 events are erased, but older snapshots still hold") == 2  # in both tables
    assert "AccessDenied: remove-snapshots" in str(refused.value)
    assert [each["payload"] for each in _rows(lake).values()] == [None]


def _rows(lake: Lake) -> dict[str, dict[str, Any]]:
    return {each["id"]: each for each in lake.sql("select * from events order by sequence").to_pylist()}


def test_an_old_structure_that_does_not_say_whose_it_is_goes_by_its_key(app: App, tmp_path: Path) -> None:
    with app.transaction() as connection:
        app.record(
            Joined(user="bob", plan=PERSON, email="a"), Joined(user=PERSON, plan="free", email="b"), via=connection
        )
        connection.execute(
            "update ensue_events set type = 'lake_erasing.Joined.v1', data = replace(data, '\"email\"', '\"mail\"')"
        )
    Collector(app.log, Lake(tmp_path / "lake")).collect()
    first, second = (each.id_text for each in app.read())
    assert Lake(tmp_path / "lake").erase(PERSON) == [first]
    assert Lake(tmp_path / "lake").erase(PERSON, field="user") == [second]


MODULE = """
from ensue import App, IntegrationEvent, Personal

app = App("club", "sqlite:///log.db")


class Left(IntegrationEvent, version=1, key="plan", subject="user", name="lake_erasing.Left"):
    user: str
    plan: str
    email: Personal[str]
"""


def test_the_command_takes_the_declarations_of_an_application(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with app.transaction() as connection:
        app.record(
            *(Joined(user=user, plan=plan, email="") for user, plan in ((PERSON, "x"), ("bob", PERSON))), via=connection
        )
        connection.execute("update ensue_events set type = 'lake_erasing.Left.v1'")  # a class that is not imported yet
    Collector(app.log, Lake(tmp_path / "lake")).collect()
    (tmp_path / "leaving.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    first, second = (each.id_text for each in app.read())
    for more, expected in (((), second), (("--app", "leaving:app"), first)):  # by the key, and by the declaration
        with pytest.raises(SystemExit, match="0"):
            main(["lake", "erase", "lake", "--subject", PERSON, "--dry-run", "--json", *more])
        assert json.loads(capsys.readouterr().out)["events"] == [expected]
