"""Where a lake is, and in which format: `/srv/lake`, `s3://bucket/lake`, `iceberg+/srv/lake`, `parquet+/srv/lake`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from ensue.errors import LakeError
from ensue.lake.table import Table

FORMATS = ("delta", "iceberg", "parquet", "jsonl")
_PREFIX = re.compile(r"([a-z]+)\+(.*)", re.DOTALL)


@dataclass(frozen=True)
class Address:
    """The place and the format of a lake."""

    format: str
    place: str
    """An absolute path, or a URL."""
    options: tuple[tuple[str, str], ...] = ()
    """What stood behind a question mark."""

    def __str__(self) -> str:
        return ("" if self.format == "delta" else f"{self.format}+") + self.place

    @property
    def local(self) -> Path | None:
        """The folder, if it is one on this machine."""
        return None if "://" in self.place else Path(self.place)

    def table(self, name: str) -> Table:
        """Return the table of this name, whether or not it is there."""
        if self.format == "delta":
            from ensue.lake.delta import DeltaTable

            return DeltaTable(f"{self.place}/{name}")
        if self.format == "iceberg":
            from ensue.lake.iceberg import IcebergTable, catalog_of

            return IcebergTable(catalog_of(self.place, dict(self.options)), name)
        from ensue.lake.places import Bucket, Folder
        from ensue.lake.plain import PlainTable

        place = Bucket(f"{self.place}/{name}") if self.local is None else Folder(self.local / name)
        return PlainTable(place, self.format)

    def names(self) -> Sequence[str]:
        """Return the names of the tables of single types that are there; they are kept beside the events."""
        if self.format == "iceberg":
            from ensue.lake.iceberg import catalog_of, names

            return [each for each in names(catalog_of(self.place, dict(self.options))) if each != "events"]
        from ensue.lake.places import folders

        folder = self.local
        found = folders(self.place) if folder is None else {each.name for each in folder.iterdir() if each.is_dir()}
        return sorted(each for each in found - {"events"} if self.table(each).exists())


def read_address(text: str | Path) -> Address:
    """Read an address; raise `LakeError` for one that cannot be used."""
    given = str(text)
    found = _PREFIX.fullmatch(given)
    format, place = (found[1], found[2]) if found else ("delta", given)
    if format not in FORMATS:
        raise LakeError(f"{given!r}: there is no format {format!r}; there are {', '.join(FORMATS)}")
    place, _, query = place.partition("?")
    options = tuple(parse_qsl(query, strict_parsing=True)) if query else ()
    if options and format != "iceberg":
        raise LakeError(f"{given!r}: only iceberg+… takes options behind a question mark")
    if place.startswith("file://"):
        place = unquote(place.removeprefix("file://"))
    if not place:
        raise LakeError(f"{given!r} does not say where the lake is: give a folder or a URL")
    if "://" not in place:
        place = str(Path(place).absolute())
    return Address(format, place.rstrip("/") or "/", options)
