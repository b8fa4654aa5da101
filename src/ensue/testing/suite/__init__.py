"""The contract of the log: what must hold on every database and on every kind of connection.

Whoever writes a back-end, or wants to ride on a connection of another kind, describes it as a `Case` and lets every
behaviour be checked against it:

    @pytest.mark.parametrize("behaviour", [each for each in BEHAVIOURS if each.needs in ABILITIES], ids=str)
    def test_contract(behaviour: Behaviour) -> None:
        behaviour.check(Case(app, connect, observer, asynchronous=False))

It needs pytest. `pytest.register_assert_rewrite("ensue.testing.suite")` makes a failure say what was found.
"""

from ensue.testing.suite import (
    aggregates,
    deduplicating,
    describing,
    entities,
    migrating,
    personal,
    reading,
    recording,
    refusing,
    ruling,
    streams,
    tables,
    within,
)
from ensue.testing.suite.case import (
    ENTITY_TABLE,
    NOTHING,
    USER_TABLE,
    Ability,
    Behaviour,
    Case,
    Connect,
    Connection,
    EntityConnection,
    Keeper,
    Kept,
    behaviours_of,
)

BEHAVIOURS: tuple[Behaviour, ...] = tuple(
    behaviour
    for room in (
        recording,
        streams,
        ruling,
        aggregates,
        entities,
        within,
        deduplicating,
        describing,
        personal,
        reading,
        refusing,
        tables,
        migrating,
    )
    for behaviour in behaviours_of(vars(room))
)
"""Everything that must hold; `Behaviour.needs` names the abilities without which it says nothing."""

__all__ = [
    "BEHAVIOURS",
    "ENTITY_TABLE",
    "NOTHING",
    "USER_TABLE",
    "Ability",
    "Behaviour",
    "Case",
    "Connect",
    "Connection",
    "EntityConnection",
    "Keeper",
    "Kept",
]
