"""The trackers that a run's logged steps can go to, and what each needs to be installed."""

import importlib.util
from collections.abc import Iterable

TENSORBOARD = "tensorboard"
"""Comes with what trains."""
TRACKERS = (TENSORBOARD, "wandb", "mlflow", "trackio")
"""Each is also the name of its package."""


def not_installed(trackers: Iterable[str]) -> list[str]:
    """Return a line, with the command that installs them, where this interpreter lacks trackers; it imports nothing."""
    absent = [name for name in trackers if name != TENSORBOARD and importlib.util.find_spec(name) is None]
    if not absent:
        return []
    what = f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed"
    return [
        f"logging.trackers: {what}: pip install {' '.join(absent)}, or leave {'it' if len(absent) == 1 else 'them'} out"
    ]
