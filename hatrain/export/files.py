"""What an export is: its files, their figures, and the folder that holds them."""

import errno
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hatrain.contract.spec import GGUF_TYPES
from hatrain.errors import BadInput
from hatrain.runtime import seal

REPORT = "export.json"
LOSS = 0.01
"""What a smaller file may lose of the model's accuracy, and still be recommended."""
_BITS = {"f16": 16.0, "q8_0": 8.5, "q6_k": 6.6, "q5_k_m": 5.7, "q4_k_m": 4.9, "q4_k_s": 4.6, "q4_0": 4.6, "q3_k_m": 3.9}
"""Bits per weight, about; small models keep more tensors in larger types."""


@dataclass(frozen=True)
class Figures:
    """How a file, or the model itself, answers the requests."""

    requests: int
    strict_accuracy: float | None
    """Over all requests."""
    strict_interval: tuple[float, float]
    same_answers: int
    """Answers that are the model's, word for word."""
    answers: int
    call_requests: int = 0
    """Requests that need a call; exports of earlier releases do not say."""
    call_accuracy: float | None = None
    call_interval: tuple[float, float] = (0.0, 1.0)

    @property
    def accuracy(self) -> float | None:
        """The headline: where a call is needed, or over all requests if none needs one."""
        return self.strict_accuracy if self.call_accuracy is None else self.call_accuracy

    @property
    def interval(self) -> tuple[float, float]:
        return self.strict_interval if self.call_accuracy is None else self.call_interval


@dataclass(frozen=True)
class Exported:
    """One GGUF file."""

    type: str
    name: str
    bytes: int
    figures: Figures | None
    """None without requests to judge by."""


@dataclass(frozen=True)
class Report:
    """What was exported and compared."""

    model: str
    reference: Figures | None
    """The model itself, in transformers."""
    files: tuple[Exported, ...]
    texts: int
    """Texts that llama.cpp and transformers split into the same tokens."""
    equal_answers: int
    """Answers of the f16 file that are the model's."""
    compared_answers: int
    ends: tuple[str, ...]
    """What ends an answer in the chat template."""
    not_judged: str | None = None
    """Why there are no figures."""

    @property
    def recommended(self) -> Exported:
        """The smallest file that loses at most `LOSS` of accuracy; the largest if none was judged so well."""
        smallest_first = sorted(self.files, key=lambda file: GGUF_TYPES.index(file.type), reverse=True)
        wanted = self.reference.accuracy if self.reference else None
        for file in smallest_first:
            found = file.figures.accuracy if file.figures else None
            if wanted is not None and found is not None and found >= wanted - LOSS:
                return file
        return smallest_first[-1]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "recommended": self.recommended.name}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Report":
        """Read what `to_dict` wrote. Raises KeyError and TypeError for anything else."""

        def figures(found: Mapping[str, Any] | None) -> Figures | None:
            return None if found is None else Figures(**found)

        files = tuple(Exported(**{**file, "figures": figures(file["figures"])}) for file in values["files"])
        facts = {key: value for key, value in values.items() if key != "recommended"}
        made = {**facts, "reference": figures(values["reference"]), "files": files, "ends": tuple(values["ends"])}
        return cls(**made)


def plain_name(name: str) -> str:
    """Return a name for files and for Ollama."""
    return name.replace("/", "-").replace(", ", "-").replace(" ", "-")


def check_space(out: Path, f16_bytes: int, types: Sequence[str], extra: int) -> None:
    """Raise BadInput when the disk cannot hold the files. `f16_bytes` is the size of the f16 file, `extra` that of
    files that are there for a time."""
    kept = {"f16", *types}
    needed = extra + sum(int(f16_bytes * _BITS[kind] / 16) for kind in kept)
    there = next(path for path in (out, *out.parents) if path.exists())
    if needed > (free := shutil.disk_usage(there).free):
        raise BadInput(
            f"{out}: needs about {needed / 1e9:.1f} GB, and the disk has {free / 1e9:.1f} GB free; "
            "make room, choose fewer types, or another folder with --out"
        )


def check_out(out: Path) -> None:
    """Raise BadInput when the folder holds anything but an earlier export, which is replaced."""
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / REPORT).is_file()):
        raise BadInput(f"{out}: holds other files than an export; choose a new folder with --out")


@contextmanager
def sealed_folder(out: Path, facts: Mapping[str, Any]) -> Iterator[Path]:
    """Yield a folder to write into, which becomes `out` when all is well, and is removed otherwise.

    Raises BadInput when the disk is full or the folder cannot be written.
    """
    partial = out.with_name(f".{out.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        seal.seal(partial, out, **facts)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise BadInput(f"{out}: cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
