"""The lake: events of one service, or of all of a company, in open table formats, and what is made of them."""

from ensue.contracts.cloudevents import source_of
from ensue.lake.checking import Finding, Standing, compare
from ensue.lake.collecting import Collector
from ensue.lake.folding import Fold, Folded, FoldedRow, Part, engine, fold_part, modules_of, parts_of, write_rows
from ensue.lake.lake import Contents, Lake
from ensue.lake.published import Overlap, Published
from ensue.lake.reading import LakeLog
from ensue.lake.receiving import Gatherer
from ensue.lake.table import Checkpoint, Compacted

__all__ = [
    "Checkpoint",
    "Collector",
    "Compacted",
    "Contents",
    "Finding",
    "Fold",
    "Folded",
    "FoldedRow",
    "Gatherer",
    "Lake",
    "LakeLog",
    "Overlap",
    "Part",
    "Published",
    "Standing",
    "compare",
    "engine",
    "fold_part",
    "modules_of",
    "parts_of",
    "source_of",
    "write_rows",
]
