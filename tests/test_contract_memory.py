"""The contract of the log, in memory: every behaviour over the drivers that can reach it."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from ensue.testing.suite import Ability, Behaviour
from tests.connections import MEMORY, Kind
from tests.contract import Setting, pairs, prepared


@pytest.fixture(scope="module")
def setting() -> Iterator[Setting]:
    name = f"contract_{secrets.token_hex(4)}"
    here, elsewhere = prepared(f"memory://{name}"), prepared(f"memory://{name}_elsewhere")
    with closing(sqlite3.connect(f"file:/{name}?vfs=memdb", uri=True, isolation_level=None)) as observer:
        yield Setting(here, elsewhere, observer)


@pytest.mark.parametrize(("kind", "behaviour"), pairs(MEMORY, Ability(0)))
def test_memory(kind: Kind, behaviour: Behaviour, setting: Setting) -> None:
    behaviour.check(setting.case(kind))
