"""Shares of requests with their 95% intervals, where a request that comes again is not counted as a new one."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

_Z = 1.959963984540054
"""The 97.5th percentile of the standard normal distribution."""


def wilson_interval(hits: float, total: float) -> tuple[float, float]:
    """Return the 95% score interval of a share, hits of total.

    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n), from E. B. Wilson, "Probable inference, the law of
    succession, and statistical inference", JASA 22 (1927). Unlike p ± z √(p(1-p)/n) it stays within 0..1 and has a
    width at 0 and at 1. With a total of 0 it is (0, 1). An effective number of cases need not be whole.
    """
    if total == 0:
        return 0.0, 1.0
    share, z_squared = hits / total, _Z * _Z
    centre = share + z_squared / (2 * total)
    reach = _Z * math.sqrt(share * (1 - share) / total + z_squared / (4 * total * total))
    scale = 1 + z_squared / total
    low = 0.0 if hits == 0 else (centre - reach) / scale
    high = 1.0 if hits == total else (centre + reach) / scale
    return low, high


@dataclass(frozen=True)
class Tally:
    """How many of some cases are right, how many of the cases are different, and what they count for."""

    right: int
    total: int
    different: int
    effective: float
    """(Σm)² / Σm², with m how often each different case comes: Kish's effective sample size (L. Kish, "Survey
    Sampling", 1965, chapter 5) for groups whose members are answered alike. `total` where no case comes again."""

    @classmethod
    def of(cls, cases: Iterable[tuple[Hashable, bool]]) -> "Tally":
        """Count cases of (what makes it the same case, whether it is right)."""
        cases = list(cases)
        times = Counter(key for key, _ in cases).values()
        squares = sum(count * count for count in times)
        return cls(
            right=sum(right for _, right in cases),
            total=len(cases),
            different=len(times),
            effective=len(cases) ** 2 / squares if squares else 0.0,
        )

    @property
    def share(self) -> float | None:
        return self.right / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the share, from the effective number of cases."""
        if self.right in (0, self.total):
            return wilson_interval(self.effective if self.right else 0.0, self.effective)
        return wilson_interval(self.right / self.total * self.effective, self.effective)
