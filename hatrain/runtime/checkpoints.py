"""Finding the checkpoint to resume from, setting aside the others, and removing old ones. The trainer writes them;
`seal` seals them."""

import re
from collections.abc import Callable
from pathlib import Path

from hatrain.runtime import seal

SET_ASIDE = "set-aside"
"""Subfolder for checkpoints that were passed over. Nothing reads or removes them."""

_NAME = re.compile(r"checkpoint-(\d{1,18})")


def folder_name(step: int) -> str:
    return f"checkpoint-{step}"


def by_step(folder: Path) -> list[tuple[int, Path]]:
    """Everything named as a checkpoint with its step, oldest first: damaged ones, files and dangling links too."""
    if not folder.is_dir():
        return []
    return sorted((step, path) for path in folder.iterdir() if (step := step_of(path.name)) is not None)


def step_of(name: str) -> int | None:
    """Return the step of a checkpoint's name; None for another name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def newest(
    folder: Path, identity: str, on_passed_over: Callable[[Path, str], None] = lambda path, reason: None
) -> Path | None:
    """Return the newest whole checkpoint of the run of this identity. `on_passed_over` is called with each newer one
    and why it is not used."""
    for step, path in reversed(by_step(folder)):
        reason = why_not(path, step, identity)
        if reason is None:
            return path
        on_passed_over(path, reason)
    return None


def why_not(path: Path, step: int, identity: str) -> str | None:
    """Return why a checkpoint cannot be resumed from: its damage, or that it is another job's or another step's."""
    if damage := seal.verify(path):
        return damage
    facts = seal.facts(path)
    if facts.get("identity") != identity:
        return "it is another job's: model, data, seed or method differ"
    if facts.get("step") != step:
        return f"it is of step {facts.get('step')}"
    return None


def set_aside(path: Path) -> Path:
    """Move a checkpoint where nothing resumes from it and nothing removes it. Returns its new place. Raises OSError."""
    folder = path.parent / SET_ASIDE
    folder.mkdir(exist_ok=True)
    taken = {other.name for other in folder.iterdir()}
    names = (path.name if number == 1 else f"{path.name}.{number}" for number in range(1, len(taken) + 2))
    return path.rename(folder / next(name for name in names if name not in taken))


def rotate(
    folder: Path,
    keep: int,
    sealed: int,
    on_stuck: Callable[[Path, str], None] = lambda path, reason: None,
    *,
    protected: int | None = None,
) -> None:
    """Keep the newest `keep` checkpoints up to step `sealed`, which was just written, and remove those before, but not
    the one of the step `protected`.

    What else has a checkpoint's name (of a later step, not whole, not a folder) is set aside. Unfinished ones are
    removed. `on_stuck` is called with each that can be neither removed nor set aside, and why.
    """
    named = dict(by_step(folder))
    whole = [step for step, path in named.items() if step <= sealed and seal.verify(path, checksums=False) is None]
    old = [named[step] for step in whole[:-keep] if step != protected]
    odd = [path for step, path in named.items() if step not in whole]
    for act, paths in (
        (seal.remove, (*old, *folder.glob(".partial-*"), *folder.glob(".old-*"))),
        (set_aside, odd),
    ):
        for path in paths:
            try:
                act(path)
            except OSError as error:
                on_stuck(path, str(error.strerror))
