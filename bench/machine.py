"""Where the figures come from: the machine, the versions, the settings that matter."""

from __future__ import annotations

import os
import platform
import sqlite3
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
import psycopg

PACKAGES = ("msgspec", "psycopg", "asyncpg", "SQLAlchemy", "eventsourcing", "faststream-outbox")
SETTINGS = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size")


class Machine(msgspec.Struct, frozen=True):
    """What a reader must know to compare the figures with others."""

    processor: str
    cores: int
    load: float
    """Of the last minute, before the run: what else the machine was doing."""
    system: str
    python: str
    sqlite: str
    postgresql: str
    settings: dict[str, str]
    packages: dict[str, str]

    def lines(self) -> list[str]:
        """Describe it for people."""
        return [
            f"{self.processor}, {self.cores} cores (load {self.load:.1f} before), {self.system}",
            f"Python {self.python}, SQLite {self.sqlite}, PostgreSQL {self.postgresql} ("
            + ", ".join(f"{name} {value}" for name, value in self.settings.items())
            + ")",
            ", ".join(f"{name} {value}" for name, value in self.packages.items()),
        ]


def machine(postgres: str) -> Machine:
    """Describe the machine that this runs on and the PostgreSQL at the URL."""
    with psycopg.connect(postgres) as connection:
        settings = {name: _shown(connection, name) for name in SETTINGS}
        server = _shown(connection, "server_version").split()[0]
    packages: dict[str, str] = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            packages[name] = version(name)
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        sqlite=sqlite3.sqlite_version,
        postgresql=server,
        settings=settings,
        packages=packages,
    )


def _shown(connection: psycopg.Connection[tuple[str, ...]], setting: str) -> str:
    row = connection.execute("select current_setting(%s)", (setting,)).fetchone()
    assert row
    return row[0]


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
