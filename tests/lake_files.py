"""What is in the files of a lake, to be searched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fastavro
from pyarrow import parquet


def contents(folder: Path) -> Iterator[bytes]:
    """Yield what is in all files below a folder, as it is and unpacked, with what footers and manifests say."""
    for path in folder.rglob("*"):
        if path.suffix == ".parquet":
            file = parquet.ParquetFile(path)
            yield str(file.read().to_pylist()).encode()
            yield str(file.metadata.to_dict()).encode()
        if path.suffix == ".avro":
            with path.open("rb") as packed:
                yield str(list(fastavro.reader(packed))).encode()
        if path.is_file():
            yield path.read_bytes()
