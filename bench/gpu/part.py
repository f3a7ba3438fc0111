"""What every part has: its folder, its time, and how it reports an item as soon as it is measured."""

import argparse
import contextlib
import gc
import json
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any


class Part:
    """One part's process. Items go to a file that the parent reads as it grows."""

    def __init__(self, name: str, work: Path, lines: Path, seconds: float, short: bool):
        self.name, self.work, self.lines, self.short = name, work, lines, short
        self.end = time.monotonic() + seconds

    @classmethod
    def of(cls, arguments: list[str]) -> "Part":
        parser = argparse.ArgumentParser()
        parser.add_argument("name")
        parser.add_argument("--work", type=Path, required=True)
        parser.add_argument("--lines", type=Path, required=True)
        parser.add_argument("--seconds", type=float, required=True)
        parser.add_argument("--short", action="store_true")
        return cls(**vars(parser.parse_args(arguments)))

    @property
    def left(self) -> float:
        """Seconds until the parent ends this part."""
        return self.end - time.monotonic()

    def record(self, item: str, **figures: Any) -> None:
        with self.lines.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"item": item, **figures}, ensure_ascii=False) + "\n")

    def skip(self, item: str, reason: str) -> None:
        self.record(item, note=reason)

    @contextlib.contextmanager
    def item(self, item: str, optional: bool = False) -> Iterator[None]:
        """Report an error in one item, and go on with the next. Of an `optional` item it is a note, not a failure."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            text = (str(error).strip() or "no message").splitlines()[0]
            self.record(item, **{"note" if optional else "failed": f"{type(error).__name__}: {text}"[:300]})
        finally:
            release()

    def each(self, items: Mapping[str, Callable[[], None]], seconds: float) -> None:
        """Measure items in order. One that has less than `seconds` left is skipped, and that is said."""
        for item, measure in items.items():
            if self.left < seconds:
                self.skip(item, f"skipped: {max(self.left, 0):.0f} s left, it needs {seconds:.0f}")
                continue
            with self.item(item):
                measure()


def release() -> None:
    """Free what the last model held on the GPU."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
