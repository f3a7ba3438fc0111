"""The log-probabilities of the reference in preference training: a file of the run, and a copy in each checkpoint, for
they cannot be computed again once training has begun."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from hatrain.errors import BadInput
from hatrain.runtime import seal

REFERENCE = "reference.safetensors"
FOLDER = "reference"
"""Subfolder of a checkpoint for its copy: the weights are all `*.safetensors` beside it."""


def write(path: Path, sums: Mapping[str, np.ndarray], data: str = "") -> None:
    """Write the sums of each split, `[pairs, 2]`, NaN for pairs that are not computed, with their checksum. `data` is a
    digest of the pairs."""
    seal.write_bytes(path, save(dict(sums), metadata={"sha256": _checksum(sums), "data": data}))


def begun(path: Path, pairs: Mapping[str, int], data: str) -> dict[str, np.ndarray]:
    """Return what an attempt before has computed for so many pairs of each split, from the same `data`, and NaN for all
    that is missing."""
    sums = {split: np.full((count, 2), np.nan, dtype=np.float32) for split, count in pairs.items()}
    try:
        found, of = _read(path)
    except (OSError, SafetensorError, ValueError):
        return sums
    if of != data:
        return sums
    return {split: found.get(split, empty) for split, empty in sums.items()}


def read(paths: Sequence[Path]) -> dict[str, np.ndarray]:
    """Return the sums of the first file that is whole. Raises BadInput when none is."""
    problems = []
    for path in paths:
        try:
            return _read(path)[0]
        except FileNotFoundError:
            problems.append("no such file")
        except (OSError, SafetensorError, ValueError) as error:
            problems.append(f"cannot be read: {error}")
    raise BadInput(
        f"{paths[-1]}: {problems[-1]}; it holds the log-probabilities of the untrained model, which cannot be computed "
        "again once training has begun; start over with --fresh"
    )


def _read(path: Path) -> tuple[dict[str, np.ndarray], str | None]:
    """Return the sums, and the digest of the pairs. Raises ValueError for another checksum."""
    sums = load_file(path)
    with safe_open(path, framework="np") as file:
        facts = file.metadata() or {}
    recorded = facts.get("sha256")
    # Files of earlier versions have no checksum.
    if recorded is not None and recorded != _checksum(sums):
        raise ValueError("it has another checksum")
    return sums, facts.get("data")


def _checksum(sums: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(sums):
        digest.update(f"{name} {sums[name].dtype.str} {sums[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(sums[name]).tobytes())
    return digest.hexdigest()
