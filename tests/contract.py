"""What the three runs of the contract suite share: SQLite, memory, PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import pytest

from ensue import App
from ensue.testing.suite import BEHAVIOURS, ENTITY_TABLE, USER_TABLE, Ability, Behaviour, Case
from tests.connections import Kind, connect

NAME = "contract"


class Setting(NamedTuple):
    """A database, another one with a log of the same name, and a connection to the first in autocommit mode."""

    here: App
    elsewhere: App
    observer: Any

    def case(self, kind: Kind) -> Case:
        """Describe a kind of connection to the suite."""
        place = self.here.log.place
        open_one = partial(connect, kind, place.url, self.elsewhere.log.place.url)
        return Case(App(NAME, place.url), open_one, self.observer, asynchronous=kind.asynchronous)


def prepared(url: str) -> App:
    """Make a log and, beside it, the user's tables."""
    app = App(NAME, url)
    app.migrate()
    with app.transaction() as connection:
        connection.execute(USER_TABLE)
        connection.execute(ENTITY_TABLE)
    return app


def pairs(kinds: Iterable[Kind], abilities: Ability, *more: Behaviour) -> list[Any]:
    """Return every kind with every behaviour that says something about it; `abilities` are the database's."""
    return [
        pytest.param(kind, behaviour, id=f"{kind}-{behaviour}")
        for kind in kinds
        for behaviour in (*BEHAVIOURS, *more)
        if behaviour.needs in kind.abilities | abilities
    ]
