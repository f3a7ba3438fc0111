"""Completion in the real shells: verbs, options, and the names of jobs, runs and clusters. No Python runs."""

import contextlib
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hatrain.cli import VERBS, main
from tests.require import need

BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _hatrain
printf '%s\\n' "${COMPREPLY[@]}"
"""
# What zsh's completion system defines, in so far as the script calls it.
ZSH = """
compdef() { : }
_describe() { local name=${@[-1]}; print -rl -- ${${(P)name}%%:*} }
compadd() { local name=$2; print -rl -- ${(P)name} }
_files() { print -rl -- *(N) */*(N) }
compset() { local -i n=${#current%%=*}+1; current=${current[n+1,-1]} }
script=$1; shift
source $script
local -a words; words=("$@"); CURRENT=$#
_hatrain
"""
FISH = "source $argv[1]; complete -C (string join ' ' -- $argv[2..])"


def script(shell: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["completion", shell]) == 0
    return out.getvalue()


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("completion")
    for shell in ("bash", "zsh", "fish"):
        (folder / shell).write_text(script(shell), encoding="utf-8")
    return folder


@pytest.fixture(params=["bash", "zsh", "fish"])
def complete(request, scripts, tmp_path):
    """Complete a command line in a folder with a job, runs and a cluster file. Returns the sorted candidates."""
    shell = request.param
    need(shell)
    for file in (
        "jobs/my-home.yaml",
        "runs/kitchen/plan.json",
        "runs/rates/sweep/0/plan.json",
        ".config/hatrain/clusters/my-slurm.yaml",
        "homes/ours.yaml",
    ):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    program = shutil.which(shell)
    start = {
        "bash": [program, "--norc", "-c", BASH, "bash"],
        "zsh": [program, "-f", "-c", ZSH, "zsh"],
        "fish": [program, "--no-config", "-c", FISH],
    }[shell]
    # Without Python on the path, to show that none is started.
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("awk", "basename", "cat", "grep", "ls", "sed", "sort", "uname"):
        if found := shutil.which(tool):
            (tools / tool).symlink_to(found)
    environment = {"HOME": str(tmp_path), "PATH": str(tools), "LC_ALL": "C.UTF-8", "XDG_DATA_HOME": str(tmp_path)}

    def run(*words: str) -> list[str]:
        result = subprocess.run(
            [*start, scripts / shell, "hatrain", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert (result.returncode, result.stderr) == (0, "")
        prefix = words[-1].partition("=")[2] or words[-1]
        candidates = {line.partition("\t")[0] for line in result.stdout.splitlines()}
        return sorted(each for each in candidates if each.startswith(prefix))

    return run


def test_verbs(complete):
    assert complete("s") == sorted(verb for verb in VERBS if verb.startswith("s"))


def test_options_of_a_verb(complete):
    assert complete("plan", "demo", "--c") == ["--cluster"]
    assert complete("submit", "--f") == ["--follow", "--force", "--fresh"]


def test_jobs_of_the_folder_and_those_that_come_with_hatrain(complete):
    assert complete("submit", "my") == ["my-home"]
    assert complete("submit", "--follow", "qwen") == ["qwen3-0.6b", "qwen3-1.7b"]


def test_runs_and_sweeps(complete):
    assert complete("logs", "") == ["kitchen", "rates", "rates/sweep/0"]
    assert complete("report", "kitchen", "ra") == ["rates", "rates/sweep/0"]


def test_clusters(complete):
    assert complete("plan", "demo", "--cluster", "my") == ["my-slurm"]
    assert complete("render", "demo", "--cluster", "slurm-v") == ["slurm-venv"]


def test_values_of_options_and_arguments(complete):
    assert complete("completion", "") == ["bash", "fish", "zsh"]
    assert complete("data", "--client", "home") == ["home-llm", "home-llm-legacy"]
    assert complete("data", "--language", "g") == ["german"]
    assert complete("plan", "--gpu", "rtx30") == ["rtx3060-12gb", "rtx3090-24gb"]
    assert complete("help", "sub") == ["submit"]


def test_files(complete):
    assert "homes/ours.yaml" in complete("data", "--home", "homes/o")
    assert "jobs/my-home.yaml" in complete("plan", "jobs/m")


def test_a_value_after_an_equals_sign_is_completed_by_bash(scripts, tmp_path):
    words = ["hatrain", "plan", "--cluster", "=", "slurm-v"]
    result = subprocess.run(
        ["bash", "--norc", "-c", BASH, "bash", scripts / "bash", *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.stdout.split() == ["slurm-venv"]


def test_the_script_for_bash_is_clean_under_shellcheck(scripts):
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if shellcheck is None:
        need("shellcheck")
    checked = subprocess.run([shellcheck, "--shell", "bash", scripts / "bash"], capture_output=True, text=True)
    assert (checked.returncode, checked.stdout) == (0, "")


def test_completion_of_a_shell_that_is_not_known_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["completion", "csh"])
    assert "csh" in capsys.readouterr().err
