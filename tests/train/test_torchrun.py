"""torchrun adds nothing to what a rank has said itself, and names a rank that could say nothing."""

import json
import signal
import subprocess
import sys

import pytest


def ended(tmp_path, script: str) -> "subprocess.CompletedProcess[str]":
    (tmp_path / "rank.py").write_text(script)
    command = [sys.executable, "-m", "hatrain.train.torchrun", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run([*command, str(tmp_path / "rank.py")], capture_output=True, text=True)


@pytest.mark.parametrize("code", [75, 78, 130])
def test_a_rank_that_reported_why_it_ended_is_followed_by_no_traceback(tmp_path, code):
    done = ended(tmp_path, f"import os, sys; os.write(2, b'why\\n'); sys.exit({code})")
    assert done.returncode == 1
    assert set(done.stderr.split()) == {"why"}


def test_a_rank_that_was_killed_is_named_in_a_line(tmp_path):
    done = ended(
        tmp_path,
        f"import os, time\nos.kill(os.getpid(), {signal.SIGKILL:d}) if os.environ['RANK'] == '1' else time.sleep(60)",
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "hatrain: rank 1 on this node ended with exit code -9" in done.stderr


def test_ranks_that_finish_end_with_0(tmp_path):
    assert ended(tmp_path, "pass").returncode == 0


def test_verbs_print_nothing_of_their_libraries(tmp_path):
    turns = [{"from": "human", "value": "Turn on the light."}, {"from": "gpt", "value": "I turn it on."}]
    (tmp_path / "rows.jsonl").write_text((json.dumps({"conversations": turns}) + "\n") * 20)
    make = ("tiny", "--data", "rows.jsonl", "--out", "base", "--vocabulary", "300", "--hidden", "16", "--layers", "1")
    for words in (make, ("check", "rows.jsonl", "--model", "base")):
        done = subprocess.run(
            [sys.executable, "-m", "hatrain", *words], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        ours = ("base: ", "note: ", "loading ")  # the last where it takes more than two seconds
        lines = [line for line in done.stderr.splitlines() if not line.startswith(ours)]
        assert lines == []
