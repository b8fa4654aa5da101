"""Drawings of who emits and who takes which event, as SVG."""

from ensue.drawing.model import WORDS, Map, MapEvent, Part
from ensue.drawing.svg import stylesheet, svg

__all__ = ["WORDS", "Map", "MapEvent", "Part", "stylesheet", "svg"]
