"""The console in a real browser, against a shop that is at work and in which things go wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Dialog, Page, expect

from tests.bookshop import Bookshop, ShelfFilled
from tests.console_running import axe, browsing, eventually, open_shop

expect.set_options(timeout=20_000)

PHONE, DESK = {"width": 390, "height": 780}, {"width": 1280, "height": 860}
VIEWS = (
    "/",
    "/events",
    "/events/{ordered}",
    "/subscriptions",
    "/subscriptions/send_confirmation",
    "/subscriptions/sold",
    "/dead",
    "/dead/list",
    "/dead/{dead}?subscription=send_confirmation",
    "/dead/{dead}/edit?subscription=send_confirmation",
    "/dead/decide?decision=retry&subscription=send_confirmation",
    "/aggregates",
    "/aggregates/Shelf-emma",
    "/aggregates/Shelf-emma/diff?first=0&last=2",
    "/processes",
    "/processes/order/o-00004",
    "/map",
    "/contracts",
    "/contracts/BookOrdered",
    "/audit",
    "/nothing",
)


@dataclass
class Seen:
    """A shop, its console, and a browser that looks at it."""

    shop: Bookshop
    address: str
    browser: Browser
    left: list[str]
    """Requests that would have left the machine."""
    troubles: list[str]
    """What scripts complained about."""
    places: dict[str, int]

    def page(self, path: str, **options: Any) -> Page:
        """Open a page."""
        context = self.browser.new_context(viewport=options.pop("viewport", DESK), **options)
        page = context.new_page()
        page.set_default_timeout(8000)
        page.on("request", lambda request: self._look_at(request.url))
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("console", lambda told: self.troubles.append(told.text) if told.type == "error" else None)
        page.goto(self.address + path.format_map(self.places))
        return page

    def _look_at(self, url: str) -> None:
        if urlsplit(url).hostname not in ("127.0.0.1", None):
            self.left.append(url)


@pytest.fixture(scope="module")
def seen(postgres_url: str) -> Iterator[Seen]:
    with open_shop(postgres_url, schema="console_browser") as (shop, address), browsing() as browser:
        for number in range(1, 13):
            shop.order(number, email="nowhere" if number % 4 == 0 else None, paid=number != 4)
        dead = eventually(lambda: _dead(shop, 3))
        ordered = next(iter(shop.app.read(types=("BookOrdered.v2",), limit=1)))
        yield Seen(shop, address, browser, [], [], {"dead": dead[0].position, "ordered": ordered.position})


@pytest.fixture(autouse=True)
def nothing_leaves(seen: Seen) -> Iterator[None]:
    """No page loads anything from elsewhere, and no script fails, the policy against them included."""
    seen.left.clear()
    seen.troubles.clear()
    yield
    for context in seen.browser.contexts:
        context.close()
    assert seen.left == []
    assert [each for each in seen.troubles if "404" not in each] == []


def _dead(shop: Bookshop, number: int) -> Any:
    found = shop.app.operations.dead_letters()
    return found if len(found) == number else None


def _audited(shop: Bookshop) -> list[tuple[str, str, str]]:
    return [(each.action, each.actor, each.reason) for each in shop.app.operations.audit(10)]


# --- first what only looks


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_every_view(seen: Seen, scheme: str) -> None:
    source, found = axe(), dict[str, list[str]]()
    page = seen.page("/", color_scheme=scheme, reduced_motion="reduce")
    for path in VIEWS if scheme == "light" else VIEWS[::2]:  # what is dark, a style sheet says for all views at once
        page.goto(seen.address + path.format_map(seen.places))
        page.evaluate(source)
        only = "" if scheme == "light" else "runOnly: ['color-contrast'], "
        looked = f"axe.run(document, {{{only}resultTypes: ['violations']}}).then(found => found.violations)"
        violations = page.evaluate(looked)
        wrong = [f"{each['id']}: {each['nodes'][0]['html'][:150]}" for each in violations]
        if wrong:
            found[path] = wrong
    assert found == {}


def test_every_view_fits_on_a_phone(seen: Seen) -> None:
    page = seen.page("/", viewport=PHONE)
    for path in VIEWS:
        page.goto(seen.address + path.format_map(seen.places))
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= PHONE["width"], path


def test_the_keyboard_is_enough(seen: Seen) -> None:
    page = seen.page("/map")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("/")
    expect(page.locator("#find")).to_be_focused()
    page.keyboard.type("Shelf-emma")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/aggregates/Shelf-emma$"))


def test_events_come_in_and_are_found(seen: Seen) -> None:
    page = seen.page("/events")
    expect(page.locator("tbody tr").first).to_be_visible()
    seen.shop.order(100, email="late@example.org", take=False)
    expect(page.locator("tbody td.data", has_text="late@example.org")).to_be_visible()

    page.select_option("select[name=type]", "BookPaid")
    expect(page).to_have_url(re.compile("type=BookPaid"))
    eventually(lambda: set(page.locator("tbody th").all_inner_texts()) == {"BookPaid"})
    page.goto(f"{seen.address}/events")
    page.fill("input[name=text]", "LATE@example")
    page.press("input[name=text]", "Enter")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.goto(f"{seen.address}/events?since=rubbish")
    expect(page.get_by_role("alert")).to_contain_text("'rubbish' is no moment")


def turn(page: Page, *, hidden: bool) -> None:
    """Turn to another tab, or back."""
    page.evaluate(f"Object.defineProperty(document, 'hidden', {{value: {str(hidden).lower()}, configurable: true}})")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def test_who_does_not_look_holds_no_connection_and_nothing_comes_twice(seen: Seen) -> None:
    page = seen.page("/events")
    listens: list[str] = []
    page.on("request", lambda request: listens.append(request.url) if "/live/" in request.url else None)
    expect(page.locator("span.live:not(.lost)")).to_be_visible()
    rows = page.locator("tbody[data-tail] tr")
    seen.shop.order(101, email="once@example.org", take=False)
    expect(rows.filter(has_text="once@example.org")).to_have_count(1)
    listens.clear()

    turn(page, hidden=True)
    seen.shop.order(102, email="behind@example.org", take=False)
    turn(page, hidden=False)
    expect(rows.filter(has_text="behind@example.org")).to_have_count(1)
    expect(rows.filter(has_text="once@example.org")).to_have_count(1)
    assert len(listens) == 1, "the connection was closed, and another one opened"

    page.goto(seen.address)
    expect(page.locator("small.live:not(.lost)")).to_be_visible()
    turn(page, hidden=True)
    turn(page, hidden=False)
    seen.shop.order(103, take=False)
    above, below = page.locator(".tile", has_text="Complete up to"), page.locator("#horizon")
    eventually(
        lambda: (
            f"{(reached := seen.shop.app.operations.horizon()):,}" in above.inner_text()
            and f"{reached:,}" in below.inner_text()
        )
    )


def test_an_event_with_its_causes_and_consequences(seen: Seen) -> None:
    page = seen.page("/events/{ordered}")
    tree = page.locator("svg.ensue-tree")
    expect(tree).to_contain_text("BookOrdered.v2")
    expect(tree).to_contain_text("PackBook")
    expect(page.locator("tr", has_text="sold")).to_contain_text("passed")
    tree.locator("a", has_text="PackBook").click()
    expect(page.locator("h1")).to_have_text("PackBook")


def test_an_aggregate_at_any_moment_of_its_past(seen: Seen) -> None:
    page = seen.page("/aggregates?name=Shelf")
    page.get_by_role("link", name="Shelf-emma", exact=True).click()
    newest = int(page.locator("input[name=last]").input_value())
    expect(page.locator("tr.here th")).to_have_text("CopyTaken")
    page.goto(f"{seen.address}/aggregates/Shelf-emma?version=1")
    expect(page.locator("section dl")).to_contain_text("500")
    page.fill("input[name=first]", "1")
    page.fill("input[name=last]", str(newest))
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("tr", has_text="copies").locator("ins")).to_have_text(str(500 - newest + 1))
    page.goto(f"{seen.address}/aggregates/Shelf-emma?as_of=2020-01-01")
    expect(page.get_by_role("alert")).to_contain_text("no events")


def test_the_map_marks_what_does_not_flow_and_what_nobody_declares(seen: Seen) -> None:
    stored = "insert into console_browser.events select nextval('console_browser.positions'), gen_random_uuid(), "
    stored += "'Smuggled', 'domain', null, null, 'x', '{}', null, null, null, now()"
    with seen.shop.app.transaction() as connection:
        connection.execute(stored)
    page = seen.page("/map")
    expect(page.locator(".card", has_text="Declared, and never recorded")).to_contain_text("SaleAnnounced")
    expect(page.locator(".card", has_text="Recorded, and not declared")).to_contain_text("Smuggled")
    expect(page.locator("svg.ensue-map g", has_text="SaleAnnounced")).to_contain_text("never recorded")
    expect(page.locator("svg.ensue-map g", has_text="Smuggled")).to_contain_text("nobody declares it")


def test_versions_of_a_contract_side_by_side(seen: Seen) -> None:
    page = seen.page("/contracts")
    page.get_by_role("link", name="BookOrdered", exact=True).click()
    row = page.locator("tr", has=page.get_by_role("rowheader", name="gift"))
    expect(row.locator("td")).to_have_count(2)
    expect(row.locator("td").first).to_have_text(re.compile("^.$"))
    expect(page.get_by_text("send_confirmation")).to_be_visible()
    page.goto(f"{seen.address}/contracts")
    answer = page.request.get(f"{seen.address}/asyncapi.json")
    assert answer.json()["asyncapi"].startswith("3.")


# --- then what does something


def test_the_overview_says_by_itself_what_is_wrong(seen: Seen) -> None:
    page = seen.page("/")
    expect(page.locator("#sentence")).to_contain_text("3 events of send_confirmation wait for a person: MailRefused")
    seen.shop.order(200, email="nobody", take=False)
    expect(page.locator("#sentence")).to_contain_text("4 events of send_confirmation")
    expect(page.locator(".tile", has_text="Dead letters")).to_contain_text("4")
    expect(page.locator(".chart canvas")).to_be_visible()
    page.get_by_role("link", name="Look at them").click()
    expect(page.locator("h1")).to_contain_text("Dead letters")


def test_an_event_is_edited_after_the_difference_was_shown(seen: Seen) -> None:
    letter = seen.shop.app.operations.dead_letters()[-1]
    page = seen.page(f"/dead/{letter.position}?subscription=send_confirmation")
    page.get_by_role("link", name="Edit and retry").click()
    page.fill("#data", page.locator("#data").input_value().replace('"nobody"', "17"))
    page.get_by_role("button", name="Show the difference").click()
    expect(page.get_by_role("alert")).to_contain_text("does not take these contents")
    page.fill("#data", page.locator("#data").input_value().replace("17", '"somebody@example.org"'))
    page.get_by_role("button", name="Show the difference").click()
    expect(page.locator(".diff .gone")).to_contain_text("nobody")
    expect(page.locator(".diff .new")).to_contain_text("somebody@example.org")
    page.fill("#difference input[name=reason]", "the address was mistyped")
    page.get_by_role("button", name="Send it like this").click()
    expect(page.locator(".flash")).to_contain_text("as you have edited it")
    eventually(lambda: _dead(seen.shop, 3))
    assert _audited(seen.shop)[0] == ("edit", "local", "the address was mistyped")


def test_one_is_skipped_and_some_are_discarded_in_the_order_that_was_shown(seen: Seen) -> None:
    first, second, _ = seen.shop.app.operations.dead_letters()
    page = seen.page(f"/dead/{first.position}?subscription=send_confirmation")
    page.locator("details.act", has_text="Skip").locator("summary").click()
    page.fill("details[open] input[name=reason]", "nobody lives there")
    page.locator("details[open]").get_by_role("button", name="Skip").click()
    expect(page.locator(".flash")).to_contain_text("skip: 1 event")
    eventually(lambda: _dead(seen.shop, 2))

    page.goto(f"{seen.address}/dead/list")
    page.locator(f"tr:has(a[href*='/dead/{second.position}?']) input[name=letters]").check()
    page.get_by_role("button", name="Discard", exact=True).click()
    expect(page.locator("h1")).to_have_text("Discard 1 dead letter")
    page.fill("input[name=reason]", "given up")
    page.get_by_role("button", name="Discard 1 dead letter").click()
    expect(page.locator(".flash")).to_contain_text("discard: 1 event")
    eventually(lambda: _dead(seen.shop, 1))
    assert [action for action, _, _ in _audited(seen.shop)[:2]] == ["discard", "skip"]


def test_all_that_failed_alike_is_retried_when_the_fault_is_mended(seen: Seen) -> None:
    seen.shop.mail_is_down = True
    for number in range(300, 305):
        seen.shop.order(number, take=False)
    eventually(lambda: _dead(seen.shop, 6))
    page = seen.page("/dead")
    group = page.locator("tr", has_text="ConnectionError")
    expect(group.locator(".num").first).to_have_text("5")
    seen.shop.mail_is_down = False
    group.get_by_role("link", name="Retry").click()
    expect(page.locator("tbody tr")).to_have_count(5)
    page.fill("input[name=reason]", "the mail server is back")
    page.get_by_role("button", name="Retry 5 dead letters").click()
    expect(page.locator(".flash")).to_contain_text("retry: 5 events")
    eventually(lambda: _dead(seen.shop, 1))


def test_a_subscription_is_paused_and_goes_on_by_the_button_that_mends_it(seen: Seen) -> None:
    page = seen.page("/subscriptions")
    row = page.locator("tr", has_text="print_poster")
    row.get_by_role("button", name="Pause").click()
    expect(page.locator(".flash")).to_contain_text("print_poster is paused")
    expect(row).to_contain_text("paused")
    page.goto(seen.address)
    page.get_by_role("button", name="Resume print_poster").click()
    expect(page.locator(".flash")).to_contain_text("print_poster goes on")
    page.goto(f"{seen.address}/subscriptions/print_poster")
    page.locator("details.act", has_text="Repartition").locator("summary").click()
    page.fill("input[name=partitions]", "3")
    page.locator("details[open]").get_by_role("button", name="Repartition").click()
    expect(page.locator(".flash")).to_contain_text("3 partitions now, and had 1")


def test_a_projection_is_replayed_into_a_shadow_compared_and_switched(seen: Seen) -> None:
    page = seen.page("/subscriptions/sold")
    page.locator("summary", has_text="Replay into a shadow").click()
    page.fill("details[open] input[name=reason]", "to see whether it is still the same")
    page.locator("details[open]").get_by_role("button", name="Replay into a shadow").click()
    expect(page.get_by_text(re.compile("Build 2 of sold has come to position"))).to_be_visible()
    page.goto(f"{seen.address}/subscriptions/sold")
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_text("Build 2 beside the live build 1: console_browser_sold is the same.")).to_be_visible()
    page.goto(f"{seen.address}/subscriptions/sold")
    page.locator("summary", has_text="Switch").click()
    page.fill("details[open] input[name=reason]", "it is the same")
    page.locator("details[open]").get_by_role("button", name="Switch").click()
    expect(page.get_by_text("Readers of sold see build 2 now; build 1 is kept.")).to_be_visible()
    assert [action for action, _, _ in _audited(seen.shop)][:2] == ["switch from build 1 to 2", "replay into a shadow"]


def test_a_process_where_it_stands_its_timer_fired_and_one_cancelled(seen: Seen) -> None:
    seen.shop.order(400, paid=False, take=False)
    eventually(lambda: seen.shop.app.processes.list("order", key="o-00400"))
    page = seen.page("/processes/order/o-00004")
    expect(page.locator("svg.ensue-map g", has_text="begin")).to_contain_text("here: running")
    expect(page.locator("svg.ensue-map g", has_text="PaymentOverdue").first).to_contain_text("waits for its time")
    page.locator("summary", has_text="Fire now").click()
    page.locator("details[open]").get_by_role("button", name="Fire now").click()
    expect(page.locator(".flash")).to_contain_text("is due now")
    eventually(lambda: seen.shop.app.processes.show("order", "o-00004").process.status == "compensated")

    page.goto(f"{seen.address}/processes/order/o-00400")
    page.locator("summary", has_text="Cancel it").click()
    page.locator("details[open] input[name=compensate]").check()
    page.fill("details[open] input[name=reason]", "the customer has called")
    page.locator("details[open]").get_by_role("button", name="Cancel it").click()
    expect(page.locator(".flash")).to_contain_text("order of o-00400 is cancelled. Undone by: UnpackBook.")
    page.goto(f"{seen.address}/audit")
    expect(page.locator("tbody tr").first).to_contain_text("the customer has called")


def test_what_events_hold_is_never_run(seen: Seen) -> None:
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'&\u202e"
    with seen.shop.app.transaction() as connection:
        seen.shop.app.record(ShelfFilled(copies=1, by=evil), via=connection, stream="Shelf-evil")
    seen.shop.order(500, email=evil, take=False)
    eventually(lambda: _dead(seen.shop, 2))
    letter = seen.shop.app.operations.dead_letters()[-1]
    page = seen.page("/")
    ran: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        ran.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismiss)
    for path in ("/", "/events", f"/events/{letter.position}", "/subscriptions", "/dead", "/dead/list",
                 f"/dead/{letter.position}", f"/dead/{letter.position}/edit", "/aggregates/Shelf-evil",
                 "/aggregates/Shelf-evil/diff?first=0&last=1"):  # fmt: skip
        page.goto(seen.address + path)
        page.wait_for_load_state("load")
        assert page.locator("main img, main script").count() == 0, path
    assert ran == []


def test_pages_without_scripts_do_the_same(seen: Seen) -> None:
    letter = seen.shop.app.operations.dead_letters()[0]
    page = seen.page(f"/dead/{letter.position}/edit?subscription=send_confirmation", java_script_enabled=False)
    page.fill("#data", page.locator("#data").input_value().replace('"nowhere"', '"there@example.org"'))
    page.get_by_role("button", name="Show the difference").click()
    expect(page.locator(".diff .new")).to_contain_text("there@example.org")
    page.fill("input[name=reason]", "found it")
    page.get_by_role("button", name="Send it like this").click()
    expect(page.locator(".flash")).to_contain_text("as you have edited it")
    page.goto(f"{seen.address}/events?key=o-00001")
    expect(page.locator("tbody tr").first).to_be_visible()


def test_the_pictures_of_the_docs_are_there() -> None:
    folder = Path(__file__).parent.parent / "docs" / "images"
    assert {each.name for each in folder.glob("console-*.png")} >= {"console-overview.png", "console-dead.png"}
