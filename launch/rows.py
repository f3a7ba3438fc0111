"""Counts the rows that a job trains on."""

from collections.abc import Iterable
from pathlib import Path

from hatrain.contract.paths import expanded
from hatrain.contract.row_count import count_rows_of
from hatrain.contract.spec import DatasetSpec
from hatrain.contract.steps import weighted_rows


def count_rows(datasets: Iterable[DatasetSpec], workdir: Path) -> int | None:
    """Rows of one epoch, weights included; None if a file is missing or unreadable, or Parquet without pyarrow."""
    total = 0
    for dataset in datasets:
        rows = count_rows_of(workdir / expanded(dataset.path))
        if rows is None:
            return None
        total += weighted_rows(rows, dataset.weight)
    return total
