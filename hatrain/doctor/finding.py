"""The result of one check."""

from dataclasses import dataclass
from typing import Literal

from hatrain.contract.gpus import GIB
from hatrain.contract.run import Exit

State = Literal["ok", "note", "bad"]

MIB = 2**20


def size(number: int) -> str:
    return f"{number / GIB:,.1f} GiB" if number >= GIB else f"{number / MIB:,.0f} MiB"


@dataclass(frozen=True)
class Finding:
    check: str
    state: State
    found: str
    remedy: str = ""
    code: Exit | None = None
    """Exit code of a run that fails this check: 78 if no retry can succeed, 75 if a later one or another node may."""

    def line(self) -> str:
        return f"{self.found}; {self.remedy}" if self.remedy else self.found
