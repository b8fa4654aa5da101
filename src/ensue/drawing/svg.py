"""A map as a drawing of its own: SVG that fits light and dark, and needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from ensue.drawing.layout import Band, Layout, Line, Spot, lay_out, shown
from ensue.drawing.model import WORDS, Map, MapEvent, Part
from ensue.events import Kind

_MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_SANS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
_SHAPES = f"""
text {{ font-family: {_SANS} }}
.name {{ font: 600 13px {_MONO}; text-anchor: middle }}
.note {{ font-size: 11px; text-anchor: middle }}
.title {{ font-size: 14px; font-weight: 600 }}
.box {{ stroke-width: 1.5 }}
.bar {{ stroke: none }}
.line {{ fill: none; stroke-width: 1.6 }}
.crossing {{ stroke-width: 2; stroke-dasharray: 6 4 }}
"""
_COLOURS = (  # what, light, dark: fill, stroke
    (".ground", "#ffffff", "none", "#0d1117", "none"),
    (".band", "#f6f8fa", "#d0d7de", "#151b23", "#30363d"),
    (".open", "none", "#d0d7de", "none", "#30363d"),
    (".name, .title", "#1b1f24", "none", "#e6edf3", "none"),
    (".note", "#57606a", "none", "#9aa4af", "none"),
    (".aggregate .box", "#e9e3fa", "#6f4fc9", "#2b2343", "#a48ae8"),
    (".sourced .box", "#fff3d1", "#b7791f", "#3a2f14", "#d9a441"),
    (".sourced .bar", "#b7791f", "none", "#d9a441", "none"),
    (".domain .box", "#e3effd", "#2f6fc4", "#14294a", "#6ea8f0"),
    (".integration .box", "#dff5e6", "#2a8a4a", "#12351f", "#5cc483"),
    (".handler .box", "#ffffff", "#8a94a0", "#21272f", "#7d8794"),
    (".line", "none", "#8a94a0", "none", "#7d8794"),
    (".head", "#8a94a0", "none", "#7d8794", "none"),
    (".wrong", "#cf222e", "none", "#ff7b72", "none"),
    (".crossing", "none", "#cf222e", "none", "#ff7b72"),
    (".crossing-head", "#cf222e", "none", "#ff7b72", "none"),
)
_POINT = 12.0
"""How far an integration event's box is pointed."""
_HEAD = 7.0
"""How long the head of an arrow is."""
_BOW, _BELOW = 32.0, 8.0
"""How far out an arrow swings that leads back to the left, and how far below the boxes it goes."""


def stylesheet() -> str:
    """Return the colours and shapes of drawings, for a page that holds drawings without them."""
    return _style()


def svg(map: Map, *, title: str | None = None, styled: bool = True) -> str:
    """Return the map as an SVG document; not `styled`, it takes its colours from the page, see `stylesheet`."""
    layout = lay_out(map)
    width, height = f"{layout.width:.0f}", f"{layout.height:.0f}"
    size = f'width="{width}" height="{height}"'
    view = f'viewBox="0 0 {width} {height}"'
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="ensue-map" role="img" {size} {view}>',
            f"<title>{_text(title or f'{map.app}: who emits and who handles which event')}</title>",
            *([f"<style>{_style()}</style>"] if styled else []),
            f"<defs>{_head('head')}{_head('crossing-head')}</defs>",
            f'<rect class="ground" {size}/>',
            *(_band(each, layout) for each in layout.bands),
            *(_line(each) for each in sorted(layout.lines, key=lambda line: line.crosses)),
            *(part for each in layout.boxes for part in _box(each)),
            "</svg>\n",
        )
    )


def _style() -> str:
    def rules(light: bool) -> str:
        return "\n".join(
            f"{_scoped(what)} {{ fill: {fill if light else dark_fill}; stroke: {stroke if light else dark_stroke} }}"
            for what, fill, stroke, dark_fill, dark_stroke in _COLOURS
        )

    shapes = "\n".join(f"{_scoped(line)}" for line in _SHAPES.strip().splitlines())
    return f"\n{shapes}\n{rules(True)}\n@media (prefers-color-scheme: dark) {{\n{rules(False)}\n}}\n"


def _scoped(selectors: str) -> str:
    """Keep a rule to this drawing, which may stand inside a page."""
    what, brace, rest = selectors.partition("{")
    return ", ".join(f".ensue-map {each.strip()}" for each in what.split(",")) + (" {" if brace else "") + rest


def _head(name: str) -> str:
    return (
        f'<marker id="ensue-{name}" class="{name}" viewBox="0 0 8 8" refX="0" refY="4" markerWidth="{_HEAD:.0f}" '
        f'markerHeight="{_HEAD:.0f}" markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0 8 4 0 8z"/></marker>'
    )


# --- pieces


def _band(band: Band, layout: Layout) -> str:
    x = layout.bands[0].top  # the margin is the same on all sides
    style = "band" if band.module is not None else "open"
    return (
        f'<rect class="{style}" x="{x:.1f}" y="{band.top:.1f}" width="{layout.width - 2 * x:.1f}" '
        f'height="{band.height:.1f}" rx="10"/>'
        f'<text class="title" x="{x + 14:.1f}" y="{band.top + 23:.1f}">{_text(band.title)}</text>'
    )


def _line(line: Line) -> str:
    x1, x2 = line.start.x + line.start.width, line.end.x
    y1 = line.start.y + _port(line.start, line.start.right, line.end)
    y2 = line.end.y + _port(line.end, line.end.left, line.start)
    if line.end.what is None:
        ahead, head = f"H{x2 + line.end.width:.1f}", ""
    else:
        x2 -= _HEAD
        ahead, head = "", f' marker-end="url(#ensue-{"crossing-head" if line.crosses else "head"})"'
    bow = max((x2 - x1) / 2, _BOW)
    if x2 < x1 and line.end.what is not None:
        return _back(line, (x1, y1), (x2, y2), head)
    return (
        f'<path class="line{" crossing" if line.crosses else ""}" '
        f'd="M{x1:.1f} {y1:.1f}C{x1 + bow:.1f} {y1:.1f} {x2 - bow:.1f} {y2:.1f} {x2:.1f} {y2:.1f}{ahead}"{head}/>'
    )


def _back(line: Line, start: tuple[float, float], end: tuple[float, float], head: str) -> str:
    """Lead an arrow back to the left, below the boxes from which and to which it leads."""
    (x1, y1), (x2, y2) = start, end
    low = max(each.y + each.height / 2 for each in (line.start, line.end)) + _BELOW
    return (
        f'<path class="line{" crossing" if line.crosses else ""}" '
        f'd="M{x1:.1f} {y1:.1f}C{x1 + _BOW:.1f} {y1:.1f} {x1 + _BOW:.1f} {low:.1f} {x1:.1f} {low:.1f}H{x2:.1f}'
        f'C{x2 - _BOW:.1f} {low:.1f} {x2 - _BOW:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"{head}/>'
    )


def _port(spot: Spot, others: list[Spot], other: Spot) -> float:
    """Spread the ends of arrows over the side of a box, in the order of where they lead."""
    if spot.what is None or (isinstance(spot.what, MapEvent) and spot.what.kind is not Kind.SOURCED):
        return 0.0  # a bend, or a box with one point at its side
    place = sorted(others, key=lambda each: each.y).index(other)
    apart = min(9.0, (spot.height - 18.0) / len(others))
    return (place - (len(others) - 1) / 2) * apart


def _box(spot: Spot) -> Iterator[str]:
    each = spot.what
    if each is None:
        return
    if isinstance(each, Part):
        style, name, words = each.how, each.name, WORDS[each.how]
        style = "aggregate" if style in ("aggregate", "entity") else "handler"
    else:
        style, name, words = str(each.kind), each.type, WORDS[each.kind]
    x, top = spot.x + spot.width / 2, spot.y - spot.height / 2
    yield f'<g class="{style}"><title>{_text(_told(each, words))}</title>'
    yield _shape(style, spot.x, top, spot.width, spot.height)
    yield f'<text class="name" x="{x:.1f}" y="{spot.y - 3:.1f}">{_text(shown(name))}</text>'
    yield f'<text class="note" x="{x:.1f}" y="{spot.y + 13:.1f}">{_note(each, words)}</text></g>'


def _note(each: MapEvent | Part, words: str) -> str:
    wrong = isinstance(each, Part) and each.crosses
    return '<tspan class="wrong">crosses a boundary</tspan>' if wrong else _text(shown(each.note or words))


def _told(each: MapEvent | Part, words: str) -> str:
    """Say in full what a box is."""
    where = f" of module {each.module}" if each.module is not None else ""
    return f"{each.name if isinstance(each, Part) else each.type}: {each.note or words}{where}"


def _shape(style: str, x: float, y: float, width: float, height: float) -> str:
    frame = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    match style:
        case "sourced":
            return (
                f'<rect class="box" {frame} rx="2"/>'
                f'<rect class="bar" x="{x:.1f}" y="{y:.1f}" width="6" height="{height:.1f}"/>'
            )
        case "domain":
            return f'<rect class="box" {frame} rx="{height / 2:.1f}"/>'
        case "integration":
            right, middle = x + width, y + height / 2
            return (
                f'<path class="box" d="M{x + _POINT:.1f} {y:.1f}H{right - _POINT:.1f}L{right:.1f} {middle:.1f}'
                f'L{right - _POINT:.1f} {y + height:.1f}H{x + _POINT:.1f}L{x:.1f} {middle:.1f}z"/>'
            )
        case "aggregate":
            inner = f'x="{x + 4:.1f}" y="{y + 4:.1f}" width="{width - 8:.1f}" height="{height - 8:.1f}"'
            return f'<rect class="box" {frame} rx="8"/><rect class="box" {inner} rx="5"/>'
        case _:
            return f'<rect class="box" {frame} rx="8"/>'


def _text(text: str) -> str:
    """Return text that is safe in XML."""
    return escape("".join(each if each.isprintable() else "�" for each in text))
