"""Renders plans for tests, and checks scripts."""

import shutil
import subprocess
import sys
from pathlib import Path

from hatrain.contract.plan import Plan
from launch.backends import backend


def files(plan: Plan) -> dict[str, str]:
    return backend(plan.cluster_spec).files(plan)


def single_file(plan: Plan) -> str:
    return backend(plan.cluster_spec).single_file(plan)


def write(folder: Path, plan: Plan) -> Path:
    """Write the files of a run to a folder, plan.json as well."""
    for name, text in {**files(plan), "plan.json": plan.model_dump_json()}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def shellcheck(*scripts: str | Path) -> None:
    """Assert that scripts, given as texts or paths, are clean."""
    command = shutil.which("shellcheck") or str(Path(sys.executable).with_name("shellcheck"))
    for script in scripts:
        text = script if isinstance(script, str) else script.read_text()
        result = subprocess.run([command, "-"], input=text, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout
