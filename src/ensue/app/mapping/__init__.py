"""The map of a service: who emits and who handles which event, as data, as Mermaid text, as SVG."""

from ensue.app.mapping.charting import chart
from ensue.app.mapping.mermaid import mermaid
from ensue.drawing import Map, MapEvent, Part, svg

__all__ = ["Map", "MapEvent", "Part", "chart", "mermaid", "svg"]
