"""Modules of one service: what they own, and that nothing private crosses their boundaries."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from ensue import Aggregate, App, Decider, DomainEvent, IntegrationEvent, SourcedEvent, evolves
from ensue.errors import BoundaryCrossed, DeclarationError, DuplicateName
from tests.patience import until

HERE = __name__


class Deposited(SourcedEvent, name="test.modules.deposited"):
    amount: int


class Closed(SourcedEvent, name="test.modules.closed"):
    pass


class Wallet(Aggregate, name="test.modules.Wallet", deleted_by=Closed):
    balance: int = 0

    @evolves
    def _(self, event: Deposited) -> None:
        self.balance += event.amount


class Packed(SourcedEvent, name="test.modules.packed"):
    pass


class Parcel(Aggregate, name="test.modules.Parcel"):
    @evolves
    def _(self, event: Packed) -> None: ...


class Thief(Aggregate, name="test.modules.Thief"):
    @evolves
    def _(self, event: Deposited) -> None: ...


class Noticed(DomainEvent, name="test.modules.noticed"):
    pass


class Paid(IntegrationEvent, version=1, name="test.modules.paid"):
    amount: int


def _decide(command: int, state: list[int]) -> Iterable[Packed]:
    return []


def _evolve(state: list[int], event: Packed) -> list[int]:
    return state


packing = Decider(name="test.modules.packing", initial=list[int](), decide=_decide, evolve=_evolve)


@pytest.fixture
def app() -> App:
    return App("modules", "memory://modules", migrate=True)


def crossings(app: App) -> tuple[str, ...]:
    """Return what crosses a boundary, at start-up."""
    with pytest.raises(BoundaryCrossed) as caught:
        app.migrate()
    assert all(each in str(caught.value) for each in caught.value.crossings)
    return caught.value.crossings


# --- a module


def test_a_name_is_one_module(app: App) -> None:
    billing = app.module("billing")
    assert app.module("billing") is billing is not app.module("shipping")
    assert app.module("billing", package=HERE) is billing  # whoever asks first need not know the package
    assert app.module("billing", package=HERE) is app.module("billing")
    with pytest.raises(DeclarationError, match=rf"'billing' has the package '{HERE}' already, and not 'other'"):
        app.module("billing", package="other")
    assert app.ownership.modules == ("billing", "shipping")


@pytest.mark.parametrize(
    "name, package", [("", None), (" ", None), ("a\nb", None), (7, None), ("a", "a-b"), ("a", ""), ("a", 7.5)]
)
def test_what_cannot_be_a_module(app: App, name: Any, package: Any) -> None:
    with pytest.raises(DeclarationError):
        app.module(name, package=package)
    assert not app.ownership.modules


@pytest.mark.parametrize("url", ["memory://working", "postgresql"])
async def test_it_declares_as_the_application_does(request: pytest.FixtureRequest, schema: str, url: str) -> None:
    url = request.getfixturevalue("postgres_url") if url == "postgresql" else url
    app = App("modules", url, schema=schema, migrate=True)
    billing, shipping = app.module("billing"), app.module("shipping")
    wallets = billing.repository(Wallet)
    seen: list[object] = []

    @billing.within(Deposited)
    def guard(event: Deposited) -> None:
        seen.append(("within", event.amount))

    @billing.translate(Deposited)
    def tell(event: Deposited) -> Paid:
        return Paid(amount=event.amount)

    @shipping.on(Paid)
    async def ship(event: Paid) -> None:
        seen.append(("on", event.amount))

    async with app.running():
        async with wallets.edit("a", create=True) as wallet:
            wallet.apply(Deposited(amount=5))
        await until(lambda: len(seen) == 2)
    assert seen == [("within", 5), ("on", 5)]
    assert set(app.subscriptions) == {"tell", "ship"}
    assert {each.name: each.module for each in app.declarations.handlers} == {
        "guard": "billing",
        "tell": "billing",
        "ship": "shipping",
    }


def test_names_are_those_of_one_service(app: App) -> None:
    app.module("billing").on(Paid, name="ship")(lambda event: None)
    with pytest.raises(DuplicateName):
        app.module("shipping").on(Paid, name="ship")(lambda event: None)


# --- owning


def test_a_package_is_owned_with_what_is_below_it(app: App) -> None:
    app.module("tests", package="tests")
    assert [app.ownership.owner(each) for each in (Wallet, Deposited, Noticed, packing)] == ["tests"] * 4
    assert app.ownership.owner(IntegrationEvent) is None
    assert Noticed in app.ownership.events("tests")


def test_a_package_ends_where_its_name_ends(app: App) -> None:
    app.module("other", package="tests.test_mod")
    assert app.ownership.owner(Wallet) is None


def test_what_is_named_is_owned(app: App) -> None:
    billing = app.module("billing")

    @billing.owns
    class Local(DomainEvent, name="test.modules.local"):
        pass

    assert issubclass(Local, DomainEvent)
    assert billing.owns(Wallet) is Wallet
    billing.owns(Noticed, packing)
    owned = (Local, Wallet, Deposited, Closed, Noticed, packing, Packed)
    assert [app.ownership.owner(each) for each in owned] == ["billing"] * 7
    assert app.ownership.owner(Paid) is None


def test_a_repository_owns_its_aggregate_and_its_events(app: App) -> None:
    app.module("billing").repository(Wallet)
    app.module("shipping").repository(packing)
    assert [app.ownership.owner(each) for each in (Wallet, Deposited, Closed)] == ["billing"] * 3
    assert [app.ownership.owner(each) for each in (packing, Packed)] == ["shipping"] * 2
    app.migrate()


@pytest.mark.parametrize("thing", [Aggregate, SourcedEvent, int, "Wallet", None])
def test_what_cannot_be_owned(app: App, thing: Any) -> None:
    with pytest.raises(DeclarationError, match="it can own event classes, Aggregate classes, Deciders and entities"):
        app.module("billing").owns(Wallet, thing)
    assert app.ownership.owner(Wallet) is None


@pytest.mark.parametrize(
    "first, second",
    [
        (lambda app: app.module("a").owns(Wallet), lambda app: app.module("b").owns(Wallet)),
        (lambda app: app.module("a").owns(Wallet), lambda app: app.module("b").owns(Deposited)),
        (lambda app: app.module("a").repository(Wallet), lambda app: app.module("b").owns(Wallet)),
        (lambda app: app.module("a").repository(Wallet), lambda app: app.module("b").owns(Closed)),
        (lambda app: app.module("a", package=HERE), lambda app: app.module("b").owns(Wallet)),
        (lambda app: app.module("a").owns(Wallet), lambda app: app.module("b", package=HERE)),
        (lambda app: app.module("a").repository(Wallet), lambda app: app.module("b", package=HERE)),
    ],
)
def test_nothing_has_two_owners(app: App, first: Callable[[App], Any], second: Callable[[App], Any]) -> None:
    first(app)
    with pytest.raises(DeclarationError, match=r"two owners.* module 'a'") as caught:
        second(app)
    assert not isinstance(caught.value, BoundaryCrossed)
    assert app.ownership.owner(Wallet) == "a"


@pytest.mark.parametrize("package", ["shop", "shop.billing", "shop.billing.wallets"])
def test_no_package_is_in_another(app: App, package: str) -> None:
    app.module("billing", package="shop.billing")
    with pytest.raises(DeclarationError, match=r"two owners, module 'billing' has the package 'shop\.billing'"):
        app.module("other", package=package)
    app.module("more", package="shop.billing_more")


# --- the boundary


def test_all_that_crosses_is_told_in_words(app: App) -> None:
    billing, shipping = app.module("billing"), app.module("shipping")
    billing.repository(Wallet)
    billing.owns(Noticed)
    shipping.repository(Wallet)
    shipping.repository(Thief)

    @billing.translate(Deposited)
    def tell(event: Deposited) -> list[Paid] | None: ...

    @shipping.on(Deposited, Paid, Closed)
    def ship(event: object) -> None: ...

    @shipping.within(Deposited)
    def count(event: Deposited) -> None: ...

    @shipping.translate(Deposited)
    def retell(event: Deposited) -> None: ...

    @app.on(Closed)
    def audit(event: Closed) -> None: ...

    with pytest.raises(BoundaryCrossed) as caught:
        app.migrate()
    assert str(caught.value).splitlines() == [
        "the boundary of a module is crossed 7 times; nothing was registered:",
        "  - handler 'ship' (on) of module 'shipping' takes the event-sourced event Deposited of module 'billing'",
        "  - handler 'ship' (on) of module 'shipping' takes the event-sourced event Closed of module 'billing'",
        "  - handler 'count' (within) of module 'shipping' takes the event-sourced event Deposited of module 'billing'",
        (
            "  - handler 'retell' (translate) of module 'shipping' takes the event-sourced event Deposited "
            "of module 'billing'"
        ),
        "  - handler 'audit' (on) of the application itself takes the event-sourced event Closed of module 'billing'",
        "  - module 'shipping' has a repository of the aggregate Wallet of module 'billing'",
        (
            "  - aggregate 'test.modules.Thief' of module 'shipping' evolves the event-sourced event Deposited "
            "of module 'billing'"
        ),
        "Event-sourced events are private to the module that owns them, as the aggregate is whose state they are.",
        "Two ways out:",
        (
            "  1. use a domain event or an integration event of the owner: module 'billing' has "
            "Noticed (domain event), Paid (integration event)"
        ),
        (
            "  2. let the owner translate: in module 'billing', a function under .translate(Deposited); "
            "handle the integration event that it returns"
        ),
        (
            "What is declared on the application itself is in no module: if it is a part, "
            "declare it on app.module('billing')"
        ),
    ]
    assert len(caught.value.crossings) == 7


def test_one_that_has_nothing_to_tell_yet(app: App) -> None:
    app.module("billing").repository(Wallet)
    app.module("shipping").on(Deposited, name="ship")(lambda event: None)
    with pytest.raises(BoundaryCrossed, match="module 'billing' has none yet") as caught:
        app.migrate()
    assert "application itself" not in str(caught.value)


def test_an_owned_aggregate_needs_no_repository_to_trespass(app: App) -> None:
    app.module("billing").owns(Deposited)
    app.module("shipping").owns(Thief)
    assert crossings(app) == (
        "aggregate 'Thief' of module 'shipping' evolves the event-sourced event Deposited of module 'billing'",
    )


def test_a_repository_of_the_application_itself(app: App) -> None:
    app.repository(Wallet)
    app.migrate()
    app.module("shipping")
    app.migrate()  # what is nobody's is everybody's
    app.module("billing").owns(Wallet)
    assert crossings(app) == ("the application itself has a repository of the aggregate Wallet of module 'billing'",)


def test_an_integration_event_is_made_by_its_owner_alone(app: App) -> None:
    billing, shipping = app.module("billing"), app.module("shipping")
    billing.owns(Paid)

    @billing.translate(Noticed, name="bill")
    def bill(event: Noticed) -> Paid: ...  # type: ignore[empty-body]

    @shipping.translate(Noticed, name="ship")
    def ship(event: Noticed) -> Paid | None: ...

    @app.translate(Noticed, name="audit")
    async def audit(event: Noticed) -> list[Paid]: ...  # type: ignore[empty-body]

    with pytest.raises(BoundaryCrossed) as caught:
        app.migrate()
    assert str(caught.value).splitlines() == [
        "the boundary of a module is crossed 2 times; nothing was registered:",
        "  - handler 'ship' (translate) of module 'shipping' makes the integration event Paid of module 'billing'",
        (
            "  - handler 'audit' (translate) of the application itself makes the integration event Paid "
            "of module 'billing'"
        ),
        "An event is its owner's word to others: only the module that owns it makes it.",
        "Two ways out:",
        "  1. make an event that is the module's own",
        (
            "  2. record a domain event, and let the owner translate it: in module 'billing', "
            "a function under .translate(…)"
        ),
        (
            "What is declared on the application itself is in no module: if it is a part, "
            "declare it on app.module('billing')"
        ),
    ]
    assert {part.name: part.crosses for part in app.map().parts} == {
        "bill": (),
        "ship": (Paid.__type__,),
        "audit": (Paid.__type__,),
    }


def test_a_decider_is_private_too(app: App) -> None:
    app.module("shipping").repository(packing)
    app.module("billing").repository(packing)
    assert crossings(app) == (
        "module 'billing' has a repository of the aggregate test.modules.packing of module 'shipping'",
    )


def test_what_everybody_may_use(app: App) -> None:
    billing, shipping = app.module("billing"), app.module("shipping")
    billing.owns(Noticed, Paid, Parcel)
    shipping.repository(Wallet)
    shipping.repository(Wallet)  # asked for anew
    for number, each in enumerate((app, billing, shipping)):
        each.on(Noticed, Paid, name=f"on {number}")(lambda event: None)
        each.within(Noticed, Paid)(lambda event: None)
    billing.on(Packed, name="its own")(lambda event: None)
    app.migrate()


def test_without_modules_there_are_no_boundaries(app: App) -> None:
    app.repository(Wallet)
    app.repository(Thief)
    app.on(Deposited, name="any")(lambda event: None)
    app.migrate()


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
@pytest.mark.parametrize("migrates", [True, False])
async def test_nothing_is_registered(
    request: pytest.FixtureRequest, tmp_path: Path, schema: str, database: str, migrates: bool
) -> None:
    file = tmp_path / "log.db"
    url = f"sqlite:///{file}" if database == "sqlite" else request.getfixturevalue("postgres_url")
    app = App("modules", url, schema=schema, migrate=migrates)
    app.module("billing").owns(Wallet)
    app.module("shipping").on(Deposited, name="ship")(lambda event: None)
    with pytest.raises(BoundaryCrossed):
        app.migrate()
    with pytest.raises(BoundaryCrossed):
        async with app.running():
            pytest.fail("the worker runs")
    if migrates:
        with pytest.raises(BoundaryCrossed), app.transaction() as connection:
            app.record(Noticed(), via=connection)
    else:
        assert not file.exists()
    assert app.operations.pending_migrations()


# --- two packages on disk

FILES = {
    "app.py": """
        from ensue import App

        app = App("shop", "sqlite:///shop.db")
        billing = app.module("billing", package="shop.billing")
        shipping = app.module("shipping", package="shop.shipping")
        """,
    "__init__.py": "",
    "billing/__init__.py": "",
    "billing/wallet.py": """
        from ensue import Aggregate, SourcedEvent, evolves
        from shop.app import billing
        from shop.billing.contracts import WalletFunded

        class Deposited(SourcedEvent):
            amount: int

        class Wallet(Aggregate):
            balance: int = 0

            @evolves
            def _(self, event: Deposited) -> None:
                self.balance += event.amount

        wallets = billing.repository(Wallet)

        @billing.translate(Deposited)
        def tell(event: Deposited) -> WalletFunded:
            return WalletFunded(amount=event.amount)
        """,
    "billing/contracts.py": """
        from ensue import IntegrationEvent

        class WalletFunded(IntegrationEvent, version=1):
            amount: int
        """,
    "shipping/__init__.py": "",
    "shipping/handlers.py": """
        from shop.app import shipping
        from shop.billing.contracts import WalletFunded
        from shop.billing.wallet import Deposited

        @shipping.on(WalletFunded)
        def ship(event):
            pass
        """,
    "main.py": """
        from shop import shipping, billing
        from shop.app import app
        from shop.billing import wallet
        from shop.shipping import handlers
        """,
}


def ensue(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "ensue.cli", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_two_packages_on_disk(tmp_path: Path) -> None:
    for name, text in FILES.items():
        path = tmp_path / "shop" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(line.removeprefix(" " * 8) for line in text.splitlines()) + "\n")
    done = ensue(tmp_path, "migrate", "shop.main:app")
    assert "registered subscription ship" in done.stdout, done.stderr
    handlers = tmp_path / "shop" / "shipping" / "handlers.py"
    handlers.write_text(handlers.read_text().replace("on(WalletFunded)", "on(Deposited)"))
    for command in (("run",), ("migrate",), ("migrate", "--dry-run")):
        done = ensue(tmp_path, *command, "shop.main:app")
        assert done.returncode == 1
        told = "handler 'ship' (on) of module 'shipping' takes the event-sourced event Deposited of module 'billing'"
        assert told in done.stderr
        assert "module 'billing' has WalletFunded (integration event)" in done.stderr
        assert "Traceback" not in done.stderr
        assert "runs" not in done.stderr
