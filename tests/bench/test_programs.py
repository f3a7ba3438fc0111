"""Each program of bench/ starts and shows its usage: most of them run seldom, and would break unnoticed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WITHOUT_HELP = {
    "bench.assist": "needs Home Assistant and Python 3.13",
    "bench.evaluate.side": "bench.evaluate starts it, with an earlier revision too",
    "bench.gpu.one_rank": "torchrun starts it, as a rank of bench.gpu.processes",
    "bench.prepare.hatrain_side": "bench.prepare starts it",
    "bench.prepare.trl_side": "bench.prepare starts it in .venv-peers",
    "bench.training.axolotl_side": "bench.training starts it in an environment with axolotl",
    "bench.training.hatrain_side": "bench.training starts it",
    "bench.training.llamafactory_side": "bench.training starts it in an environment with LLaMA-Factory",
    "bench.training.trl_side": "bench.training starts it in .venv-peers",
    "bench.training.unsloth_side": "bench.training starts it in an environment with Unsloth",
}
"""Programs that are not run here, and why."""

# All in one process, for most import torch.
RUN = """
import contextlib, io, json, runpy, sys, traceback
found = {}
for name in sys.argv[1:]:
    sys.argv = [name, "--help"]
    code, shown = "it did not exit", io.StringIO()
    try:
        with contextlib.redirect_stdout(shown):
            runpy.run_module(name, run_name="__main__", alter_sys=True)
    except SystemExit as exit:
        code = exit.code
    except BaseException:
        code = traceback.format_exc()
    found[name] = code, shown.getvalue()
print(json.dumps(found))
"""


def programs() -> list[str]:
    """The modules of bench/ that are run: those with a main part or arguments. A package is run by its name."""
    found = []
    for path in sorted((ROOT / "bench").rglob("*.py")):
        if any(mark in path.read_text(encoding="utf-8") for mark in ("__name__ ==", "sys.argv")):
            found.append(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__"))
    return found


STARTED = [name for name in programs() if name not in WITHOUT_HELP]


@pytest.fixture(scope="module")
def shown():
    """The exit code and the output of each program with --help."""
    ended = subprocess.run([sys.executable, "-c", RUN, *STARTED], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", STARTED)
def test_a_program_starts_and_shows_its_usage(shown, name):
    code, output = shown[name]
    assert code == 0, code
    assert output.startswith("usage: ")


def test_every_program_that_is_not_started_exists():
    assert set(WITHOUT_HELP) <= set(programs())
