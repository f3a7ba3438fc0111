"""The jobs that come with hatrain: those that git has. The folder of a checkout may hold others, of its user."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def _jobs() -> list[Path]:
    command = ["git", "-C", str(ROOT), "ls-files", "jobs/*.yaml"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        listed = []
    return sorted(ROOT / name for name in listed) or sorted(ROOT.glob("jobs/*.yaml"))


JOBS = _jobs()
