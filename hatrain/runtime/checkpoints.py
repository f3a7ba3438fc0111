"""Finding the checkpoint to resume from, and removing old ones. The trainer writes them; `seal` seals them."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from hatrain.runtime import seal

_NAME = re.compile(r"checkpoint-(\d+)")


def folder_name(step: int) -> str:
    return f"checkpoint-{step}"


def by_step(folder: Path) -> list[tuple[int, Path]]:
    """Every checkpoint folder with its step, oldest first, damaged ones included."""
    if not folder.is_dir():
        return []
    return sorted((int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name)))


def newest(folder: Path, on_damaged: Callable[[Path, str], None] = lambda path, damage: None) -> Path | None:
    """Return the newest whole checkpoint. `on_damaged` is called with each newer one and what is wrong with it."""
    for _, path in reversed(by_step(folder)):
        damage = seal.verify(path)
        if damage is None:
            return path
        on_damaged(path, damage)
    return None


def rotate(folder: Path, keep: int, sealed: int) -> None:
    """Keep the newest `keep` checkpoints up to step `sealed`, which was just written; remove all others.

    A checkpoint of a later step is a damaged one that resuming skipped. Unfinished ones are removed as well.
    """
    checkpoints = by_step(folder)
    kept = [step for step, _ in checkpoints if step <= sealed][-keep:]
    for step, path in checkpoints:
        if step not in kept:
            shutil.rmtree(path)
    for partial in folder.glob(".partial-*"):
        shutil.rmtree(partial)
