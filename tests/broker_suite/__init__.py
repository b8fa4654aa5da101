"""What every broker's adapter must do, whichever broker it is.

A broker is described as a `Site`: its abilities, a server to share, and servers of a test's own, which may be
stopped, killed, filled up or put behind a proxy. Every behaviour that the abilities allow is checked against real ones:

    @pytest.mark.parametrize("behaviour", behaviours(ABILITIES), ids=str)
    async def test_nats(behaviour: Behaviour, site: Site) -> None:
        await behaviour.check(site)
"""

from tests.broker_suite import carrying, consuming, ending, outages, refusing, services, stopping
from tests.broker_suite.case import NOTHING, SECRET, Ability, Behaviour, Case, Own, Site, Wanted, behaviours_of

BEHAVIOURS: tuple[Behaviour, ...] = tuple(
    behaviour
    for room in (carrying, consuming, refusing, outages, ending, stopping, services)
    for behaviour in behaviours_of(vars(room))
)
"""Everything that must hold; `Behaviour.needs` names the abilities without which it says nothing."""


def behaviours(abilities: Ability) -> list[Behaviour]:
    """Return those that say something about a broker of these abilities."""
    return [behaviour for behaviour in BEHAVIOURS if behaviour.needs in abilities]


__all__ = [
    "BEHAVIOURS",
    "NOTHING",
    "SECRET",
    "Ability",
    "Behaviour",
    "Case",
    "Own",
    "Site",
    "Wanted",
    "behaviours",
]
