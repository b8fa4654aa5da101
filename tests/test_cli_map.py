"""`ensue map` draws who emits and who handles what, from the declarations."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from ensue import Aggregate, App, DomainEvent, IntegrationEvent, SourcedEvent, evolves
from ensue.app.mapping import mermaid, svg
from ensue.cli import main
from ensue.drawing.layout import Layout, lay_out
from tests.test_docs_console import FILE, ROOT

NAMES = "test.map."
SVG = "{http://www.w3.org/2000/svg}"


class Deposited(SourcedEvent, name=NAMES + "deposited"):
    pass


class Withdrawn(SourcedEvent, name=NAMES + "withdrawn"):
    pass


class Noted(DomainEvent, name=NAMES + "noted"):
    pass


class Paid(IntegrationEvent, version=1, name=NAMES + "paid"):
    pass


class Refused(IntegrationEvent, version=2, name=NAMES + "refused"):
    pass


class Wallet(Aggregate, name=NAMES + "Wallet"):
    @evolves
    def _(self, event: Deposited | Withdrawn) -> None: ...


class Purse(Aggregate, name=NAMES + "Purse"):
    @evolves
    def _(self, event: Withdrawn) -> None: ...


app = App("map", "memory://map")
empty = App("empty", "memory://empty")
billing, shipping = app.module("billing"), app.module("shipping")
billing.repository(Wallet)
billing.owns(Noted)


@billing.translate(Deposited)
async def publish(event: Deposited) -> list[Paid] | Refused | None: ...


@billing.translate(Withdrawn)
def secretive(event: Withdrawn) -> Nothing: ...  # type: ignore[name-defined]  # noqa: F821 it cannot be resolved


@shipping.on(Paid, Noted)
def ship(event: object) -> None: ...


@app.within(Noted)
def guard(event: Noted) -> None: ...


def ensue(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run a command; return its exit code, what it prints, and what it says besides."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as leaving:
        main(["map", f"{__name__}:app", *arguments])
    out, err = capsys.readouterr()
    return int(leaving.value.code or 0), out, err


def test_who_emits_and_who_takes_what(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ensue(capsys, "--format", "json")
    assert code == 0
    found = json.loads(out)
    assert (found["app"], found["modules"]) == ("map", ["billing", "shipping"])
    assert {each["type"].removeprefix(NAMES): (each["kind"], each["module"]) for each in found["events"]} == {
        "deposited": ("sourced", "billing"),
        "withdrawn": ("sourced", "billing"),
        "noted": ("domain", "billing"),
        "paid.v1": ("integration", "billing"),
        "refused.v2": ("integration", "billing"),
    }
    assert [tuple(each.values()) for each in json.loads(out.replace(NAMES, ""))["parts"]] == [
        ("Wallet", "aggregate", "billing", [], ["deposited", "withdrawn"], [], None),
        ("publish", "translate", "billing", ["deposited"], ["paid.v1", "refused.v2"], [], None),
        ("secretive", "translate", "billing", ["withdrawn"], [], [], None),
        ("ship", "on", "shipping", ["paid.v1", "noted"], [], [], None),
        ("guard", "within", None, ["noted"], [], [], None),
    ]


def test_mermaid_is_what_comes_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ensue(capsys)
    assert (code, err) == (0, "")
    assert out.replace(NAMES, "") == MERMAID


MERMAID = """\
flowchart LR
    subgraph m0["billing"]
        p0[["Wallet"]]
        p1["publish<br/><small>translation</small>"]
        p2["secretive<br/><small>translation</small>"]
        e0[("deposited")]
        e1(["noted"])
        e2[("withdrawn")]
        e3{{"paid.v1"}}
        e4{{"refused.v2"}}
    end
    subgraph m1["shipping"]
        p3["ship<br/><small>reaction</small>"]
    end
    p4["guard<br/><small>within recording</small>"]
    p0 --> e0
    p0 --> e2
    e0 --> p1
    p1 --> e3
    p1 --> e4
    e2 --> p2
    e3 --> p3
    e1 --> p3
    e1 --> p4
    classDef sourced fill:#fff3d1,stroke:#b7791f,color:#1b1f24
    class e0,e2 sourced
    classDef domain fill:#e3effd,stroke:#2f6fc4,color:#1b1f24
    class e1 domain
    classDef integration fill:#dff5e6,stroke:#2a8a4a,color:#1b1f24
    class e3,e4 integration
"""


def test_a_drawing_goes_into_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "map.svg"
    assert ensue(capsys, "--format", "svg", "--output", str(file)) == (0, "", f"wrote {file}\n")
    root = ET.fromstring(file.read_text())
    texts = ["".join(each.itertext()).removeprefix(NAMES) for each in root.iter(f"{SVG}text")]
    assert texts[:3] == ["billing", "shipping", "map, in no module"]
    assert {"Wallet", "deposited", "paid.v1", "ship", "guard", "domain event", "within recording"} <= set(texts)
    assert len(list(root.iter(f"{SVG}path"))) >= 9
    assert "prefers-color-scheme: dark" in file.read_text()
    code, _, err = ensue(capsys, "--output", str(tmp_path / "none" / "map.svg"))
    assert (code, "cannot be written" in err) == (1, True)


def test_the_drawing_in_the_documentation(tmp_path: Path) -> None:
    page = ROOT / "docs" / "how-to" / "modules.md"
    for file in FILE.finditer(page.read_text()):
        (tmp_path / file["name"]).write_text(file["text"])
    command = [sys.executable, "-m", "ensue.cli", "map", "shop:app", "--format", "svg"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == page.with_suffix(".svg").read_text(), "draw it again"


def test_nothing_to_draw(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["map", f"{__name__}:empty"])
    assert leaving.value.code == 1
    assert "declares nothing, so there is nothing to draw" in capsys.readouterr().err


def test_what_crosses_a_boundary_stands_out() -> None:
    crossed = App("crossed", "memory://crossed")
    crossed.module("billing").repository(Wallet)
    crossed.module("shipping").on(Deposited, name="nosy")(lambda event: None)
    crossed.module("shipping").repository(Purse)
    found = crossed.map()
    assert [(part.name.removeprefix(NAMES), part.crosses) for part in found.parts] == [
        ("Wallet", ()),
        ("Purse", (Withdrawn.__type__,)),
        ("nosy", (Deposited.__type__,)),
    ]
    assert mermaid(found).count('-.->|"crosses the boundary"|') == 2
    assert svg(found).count('class="line crossing"') == 2


def test_an_application_without_modules() -> None:
    whole = App("whole", "memory://whole")
    whole.repository(Wallet)
    whole.on(Deposited, name="look")(lambda event: None)
    found = whole.map()
    assert [each.type for each in found.events] == [Deposited.__type__, Withdrawn.__type__]
    assert "subgraph" not in mermaid(found)
    assert ">whole</text>" in svg(found)


def awkward() -> App:
    """Make an application whose names mean something to those who draw, and whose events go round in a circle."""
    service = App('<b>&amp;"', "memory://awkward")
    one, two = service.module('end"]'), service.module("</svg>`#")
    two.owns(Noted)

    @one.translate(Refused, name='a "quoted" <i>')
    def forth(event: Refused) -> Paid | None: ...

    @two.translate(Paid, name="back; %%{x}%%")
    def back(event: Paid) -> Refused | None: ...

    for number in range(12):
        (one, two, service)[number % 3].on(Noted, Refused, name="x" * 5 * number + "|")(lambda event: None)
    return service


def test_names_do_no_harm() -> None:
    found = awkward().map()
    root = ET.fromstring(svg(found))
    assert '<b>&amp;"' in "".join(root.itertext())
    text = mermaid(found)
    assert 'subgraph m0["end#34;#93;"]' in text
    assert 'subgraph m1["#60;/svg#62;#96;#35;"]' in text
    assert 'p0["a #34;quoted#34; #60;i#62;<br/><small>translation</small>"]' in text
    assert "%%" not in text


@pytest.mark.parametrize("of", [app, awkward(), empty], ids=["plain", "awkward", "empty"])
def test_boxes_stand_apart_and_inside_their_frames(of: App) -> None:
    layout = lay_out(of.map())
    assert_apart(layout)
    for box in layout.boxes:
        band = layout.bands[box.band]
        assert band.top < box.y - box.height / 2 < box.y + box.height / 2 < band.top + band.height
        assert 0 < box.x < box.x + box.width < layout.width
        assert box.what is not None
        assert box.what.module == band.module
    for above, below in zip(layout.bands, layout.bands[1:], strict=False):
        assert above.top + above.height < below.top
    assert svg(of.map()) == svg(of.map())


def assert_apart(layout: Layout) -> None:
    for number, one in enumerate(layout.boxes):
        for other in layout.boxes[:number]:
            apart = one.column != other.column or abs(one.y - other.y) >= (one.height + other.height) / 2
            assert apart, (one, other)


def test_arrows_lead_to_the_right_from_column_to_column() -> None:
    layout = lay_out(app.map())
    assert {line.end.column - line.start.column for line in layout.lines} == {1}
    columns = {
        str(getattr(box.what, "name", None) or getattr(box.what, "type", "")): box.column for box in layout.boxes
    }
    assert {name.removeprefix(NAMES): number for name, number in columns.items()} == {
        "Wallet": 0,
        "deposited": 1,
        "withdrawn": 1,
        "noted": 1,
        "publish": 2,
        "secretive": 2,
        "guard": 2,
        "paid.v1": 3,
        "refused.v2": 3,
        "ship": 4,
    }
