"""The contract of the log, on SQLite: every behaviour over every kind of connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from ensue.testing.suite import Ability, Behaviour
from tests.connections import SQLITE, Kind
from tests.contract import Setting, pairs, prepared


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    folder = tmp_path_factory.mktemp("contract")
    here, elsewhere = (prepared(f"sqlite:///{folder / name}") for name in ("here.db", "elsewhere.db"))
    with closing(sqlite3.connect(folder / "here.db", isolation_level=None)) as observer:
        yield Setting(here, elsewhere, observer)


@pytest.mark.parametrize(("kind", "behaviour"), pairs(SQLITE, Ability.READS_BESIDE))
def test_sqlite(kind: Kind, behaviour: Behaviour, setting: Setting) -> None:
    behaviour.check(setting.case(kind))
