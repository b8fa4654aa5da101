"""Other engines read the tables of lakes: Polars, pandas, DuckDB, and through PySpark one that speaks as Spark does."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pytest
from pysail.spark import SparkConnectServer
from pyspark.sql import SparkSession

from ensue import App, IntegrationEvent
from ensue.lake import Collector, Lake


class Lent(IntegrationEvent, version=1, key="reader", name="lake_engines.Lent"):
    reader: str
    book: str
    days: int
    fee: Decimal
    back_at: datetime | None = None
    tags: tuple[str, ...] = ()


@pytest.fixture(scope="module")
def lakes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a lake in each format; those whose readers know what a table holds have been compacted."""
    folder = tmp_path_factory.mktemp("lakes")
    app = App("library", f"sqlite:///{folder}/log.db", migrate=True)
    app.migrate()
    with app.transaction() as connection:
        for number in range(20):
            event = Lent(
                reader=f"r{number % 5}",
                book=f'book "{number}" Ä\n漢',
                days=number,
                fee=Decimal(number) / 4,
                back_at=datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=number) if number % 2 else None,
                tags=("a", "b"),
            )
            app.record(event, via=connection)
    for format in ("delta", "iceberg", "parquet"):
        lake = Lake(f"{format}+{folder}/{format}")
        assert Collector(app.log, lake, rows=8).collect() == 20
        if format != "parquet":
            assert lake.compact()["events"].before == 3
    return folder


def test_polars_pandas_and_duckdb_read_the_same_tables(lakes: Path) -> None:
    frame = pl.read_delta(f"{lakes}/delta/events")
    assert frame["sequence"].to_list() == list(range(1, 21))
    files = pl.read_parquet(f"{lakes}/parquet/events/date=*/**/*.parquet", hive_partitioning=True)
    assert files["id"].sort().to_list() == frame["id"].sort().to_list()
    asked = f"select count(distinct id) from read_parquet('{lakes}/parquet/events/date=*/**/*.parquet')"
    assert duckdb.execute(asked).fetchall() == [(20,)]
    table: Any = Lake(f"iceberg+{lakes}/iceberg").sql("select days, fee from lake_engines_lent_v1")
    assert isinstance(table.to_pandas(), pd.DataFrame)
    assert table.to_pandas()["days"].sum() == sum(range(20))


@pytest.fixture
def spark(monkeypatch: pytest.MonkeyPatch) -> Iterator[SparkSession]:
    # A worker of xdist has no main file, by which PySpark takes it for a run of its own doctests.
    monkeypatch.setattr(sys.modules["__main__"], "__file__", __file__, raising=False)
    server = SparkConnectServer()
    server.start()
    _, port = server.listening_address
    session = SparkSession.builder.remote(f"sc://127.0.0.1:{port}").create()
    try:
        yield session
    finally:
        session.stop()
        server.stop()


@pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning")
@pytest.mark.parametrize("format, below", [("delta", ""), ("iceberg", "ensue/"), ("parquet", "")])
def test_spark_sql_reads_the_same_rows(lakes: Path, spark: SparkSession, format: str, below: str) -> None:
    for table in ("events", "lake_engines_lent_v1"):
        own = Lake(f"{format}+{lakes}/{format}").sql(f"select * from {table} order by sequence")
        dated = (
            "cast(date as date) as date"  # of plain files it is the name of a folder: text or date, as an engine likes
        )
        columns = ", ".join(dated if each == "date" else each for each in own.column_names)
        found = spark.sql(
            f"select {columns} from {format}.`{lakes}/{format}/{below}{table}` order by sequence"
        ).toArrow()
        assert found.to_pylist() == own.to_pylist()
        assert found.num_rows == 20
