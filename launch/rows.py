"""Counts the rows that a job trains on, and those that are too long for it."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from hatrain.contract import model_ref, row_lengths
from hatrain.contract.paths import expanded
from hatrain.contract.row_count import count_rows_of
from hatrain.contract.spec import DatasetSpec, JobSpec
from hatrain.contract.steps import weighted_rows
from hatrain.errors import BadInput
from hatrain.text import count
from launch.backends.protocol import Reason


def count_rows(
    datasets: Iterable[DatasetSpec], workdir: Path, overlong: Mapping[str, int] = MappingProxyType({})
) -> int | None:
    """Rows of one epoch, weights included, without those of each path that are `overlong`; None if a file is missing
    or unreadable, or Parquet without pyarrow."""
    total = 0
    for dataset in datasets:
        rows = count_rows_of(workdir / expanded(dataset.path))
        if rows is None:
            return None
        total += weighted_rows(rows - overlong.get(dataset.path, 0), dataset.weight)
    return total


def overlong_rows(job: JobSpec, workdir: Path, runs_root: Path, run: str) -> dict[str, int]:
    """Rows of each training file that are longer than the context, for the files of which this machine knows it: they
    were tokenized here, by `hatrain check` or by a run, and neither they nor the tokenizer have changed since."""
    try:
        model = model_ref.resolve(job.model.base, workdir=workdir, runs_root=runs_root)
    except BadInput:
        return {}
    spec = job.model.model_copy(update={"base": model.source})
    found = {}
    for dataset in job.data.train:
        path = workdir / expanded(dataset.path)
        name = row_lengths.name_of(path, spec, (job.data.prefix_ids, job.data.suffix_ids), workdir)
        for folder in (row_lengths.default_folder(), runs_root / run / "rows"):
            longer = row_lengths.longer_than(folder / name, job.method.ctx_size) if name else None
            if longer is not None:
                found[dataset.path] = longer
                break
    return found


def overlong_refusals(job: JobSpec, workdir: Path, overlong: Mapping[str, int]) -> Iterator[Reason]:
    """Rows that the run would refuse."""
    for path, longer in overlong.items():
        if not longer:
            continue
        rows = f"{count(longer, 'row')} of {path} {'is' if longer == 1 else 'are'} longer than that"
        if job.data.on_overlong == "error":
            yield "method.ctx_size", f"found {job.method.ctx_size}, but {rows}; raise it, or set data.on_overlong: drop"
        elif longer == count_rows_of(workdir / expanded(path)):
            yield "method.ctx_size", f"found {job.method.ctx_size}, but all rows of {path} are longer; raise it"
