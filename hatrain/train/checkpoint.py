"""Which checkpoint to resume from, and which to remove. Writing them is the trainer's; sealing is `seal`'s."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from hatrain.runtime import seal

_NAME = re.compile(r"checkpoint-(\d+)")


def name(step: int) -> str:
    """Return the folder name of a checkpoint."""
    return f"checkpoint-{step}"


def found(folder: Path) -> list[tuple[int, Path]]:
    """Return every checkpoint folder with its step, oldest first, whole or not."""
    if not folder.is_dir():
        return []
    return sorted((int(m[1]), path) for path in folder.iterdir() if (m := _NAME.fullmatch(path.name)))


def newest(folder: Path, passed_over: Callable[[Path, str], None]) -> Path | None:
    """Return the newest whole checkpoint; `passed_over` hears of each newer one, and what is wrong with it."""
    for _, path in reversed(found(folder)):
        damage = seal.verify(path)
        if damage is None:
            return path
        passed_over(path, damage)
    return None


def rotate(folder: Path, keep: int, sealed: int) -> None:
    """Remove all but the newest `keep` checkpoints up to the one just `sealed`, by step number.

    A newer step than the one just sealed is a damaged one that resuming passed over: it goes as well. So do the
    remains of checkpoints that were never finished.
    """
    steps = found(folder)
    kept = [step for step, _ in steps if step <= sealed][-keep:]
    for step, path in steps:
        if step not in kept:
            shutil.rmtree(path)
    for partial in folder.glob(".partial-*"):
        shutil.rmtree(partial)
