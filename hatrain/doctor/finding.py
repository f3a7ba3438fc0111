"""What the doctor says of one thing it looked at."""

from dataclasses import dataclass
from typing import Literal

from hatrain.contract.run import Exit

State = Literal["ok", "note", "bad"]

MIB, GIB = 2**20, 2**30


def size(number: int) -> str:
    """Return a number of bytes for a person."""
    return f"{number / GIB:,.1f} GiB" if number >= GIB else f"{number / MIB:,.0f} MiB"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    check: str
    state: State
    found: str
    remedy: str = ""
    code: Exit | None = None
    """How a run has to leave that meets it: 78 for what no retry mends, 75 for what time or another node does."""

    def line(self) -> str:
        """Return what was found and what to do about it."""
        return f"{self.found}; {self.remedy}" if self.remedy else self.found
