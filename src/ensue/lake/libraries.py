"""The libraries on which lakes rest. Most have no types; all are of the extra `lake` but those that `library` finds."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ensue.errors import LakeError


def library(name: str, extra: str) -> Any:
    """Import a library; raise `LakeError` that says what to install if it is not there."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise LakeError(f"{error.name} is not installed, and this needs it: pip install 'ensue[{extra}]'") from error


pa: Any = library("pyarrow", "lake")
compute: Any = library("pyarrow.compute", "lake")
datasets: Any = library("pyarrow.dataset", "lake")
parquet: Any = library("pyarrow.parquet", "lake")
filesystems: Any = library("pyarrow.fs", "lake")
duckdb: Any = library("duckdb", "lake")
