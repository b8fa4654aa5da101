"""Tables whose rows are typed: what projections write most often, without SQL."""

from ensue.tables.table import Table

__all__ = ["Table"]
