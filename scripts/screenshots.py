"""Take the pictures of the console that the documentation shows: `python scripts/screenshots.py`.

They are of the bookshop of the tests, at work, with its faults switched on, in a real browser. It needs chromium.
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from playwright.sync_api import Browser  # noqa: E402 the tests have to be importable first

from tests.bookshop import Bookshop  # noqa: E402
from tests.console_running import browsing, eventually, open_shop  # noqa: E402

PLACE = ROOT / "docs" / "images"
DESK, PHONE = {"width": 1180, "height": 760}, {"width": 390, "height": 800}


def main() -> None:
    """Run the shop, look at it, and leave the pictures in docs/images."""
    PLACE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, open_shop(f"sqlite:///{folder}/shop.db") as (shop, address):
        closing = threading.Event()
        customers = threading.Thread(target=order, args=(shop, closing))
        customers.start()
        try:
            eventually(lambda: len(shop.app.operations.dead_letters()) >= 6, 60)
            with browsing() as browser:
                look(browser, address, shop)
        finally:
            closing.set()
            customers.join()


def order(shop: Bookshop, closing: threading.Event) -> None:
    """Order books, about ten in a second, now and then for an address that is none."""
    chance, number = random.Random(3), 0
    while not closing.wait(chance.expovariate(12)):
        number += 1
        shop.mail_is_down = number % 40 in range(30, 36)
        shop.order(number, email="nowhere" if chance.random() < 0.06 else None, paid=chance.random() < 0.8)


def look(browser: Browser, address: str, shop: Bookshop) -> None:
    """Take the pictures."""
    letter = shop.app.operations.dead_letters()[0]
    running = shop.app.processes.begun("order", limit=1)[0]
    paths = {
        "overview": "/",
        "dead": "/dead",
        "event": f"/events/{letter.position}",
        "events": "/events",
        "subscriptions": "/subscriptions",
        "aggregate": "/aggregates/Shelf-emma",
        "process": f"/processes/order/{running.key}",
        "map": "/map",
        "edit": f"/dead/{letter.position}/edit?subscription={letter.subscription}",
        "contract": "/contracts/BookOrdered",
    }
    page = browser.new_page(viewport=DESK, color_scheme="light")  # type: ignore[arg-type]
    page.goto(address)
    time.sleep(25)  # for the chart to have something to show
    for name, path in paths.items():
        if path != "/":
            page.goto(address + path)
        if name == "edit":
            page.fill("#data", page.locator("#data").input_value().replace("nowhere", "ada@example.org"))
            page.get_by_role("button", name="Show the difference").click()
            page.locator("#difference h2").wait_for()
        time.sleep(0.5)
        save(name, page.screenshot())
    for name, path, size, scheme in (
        ("overview-dark", "/", DESK, "dark"),
        ("overview-phone", "/", PHONE, "light"),
        ("dead-phone", "/dead/list", PHONE, "dark"),
    ):
        page = browser.new_page(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
        page.goto(address + path)
        time.sleep(4)
        save(name, page.screenshot())


def save(name: str, picture: bytes) -> None:
    """Keep a picture."""
    path = PLACE / f"console-{name}.png"
    path.write_bytes(picture)
    print(f"{path.relative_to(ROOT)}  {len(picture) // 1024} kB")


if __name__ == "__main__":
    main()
