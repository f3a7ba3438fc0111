"""Who ended an attempt, and what is said about it: retries, full disks, memory kills, credentials. Real processes, a
fake trainer."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hatrain.contract.record import Fruitless, fruitless
from hatrain.entry import preconditions
from hatrain.runtime import memory, reserve, seal
from tests.harness import ENTRY, Harness, calls, has_started, outcome, until
from tests.require import small_disk


@pytest.fixture
def harness(tmp_path):
    with Harness(tmp_path) as harness:
        yield harness


# --- retries ------------------------------------------------------------------------------------------------


def test_preemptions_while_the_model_loads_use_up_no_retries(harness):
    run = harness.adopt(limits__retries=0)
    for number in range(1, 5):
        process = harness.start(run.folder, "slow-stop")
        until(lambda number=number: len(calls(run)) == number, "training starts")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=600) == 75
    assert run.fruitless().outside == 4
    assert harness.enter(run.folder, "slow-stop,slow-stop,slow-stop,slow-stop,finish")[0] == 0


def test_ends_from_outside_are_bounded_too_and_the_last_reason_stands_in_the_file_that_is_named(harness):
    run = harness.adopt()
    for _ in range(3):
        assert harness.enter(run.folder, "full", OUTSIDE_ENDS="3")[0] == 75
    code, _, err = harness.enter(run.folder, "full", OUTSIDE_ENDS="3")
    assert code == 78
    assert "stopped from outside 3 times in a row before a checkpoint was sealed" in err
    assert "the last: rank 0: the disk is full" in err
    assert "the disk is full" in Path(re.search(r"see (\S+)", err)[1]).read_text()


def test_used_up_retries_name_the_last_reason_and_a_file_that_holds_it(harness):
    run = harness.adopt(limits__retries=0)
    assert harness.enter(run.folder, "die")[0] == 1
    for _ in range(2):
        code, _, err = harness.enter(run.folder, "die")
        assert code == 78
        (line,) = err.splitlines()
        assert "retries used up: 1 attempts in a row" in line
        assert "the last: rank 0: ended without an exit report; see" in line
        assert "ended without an exit report" in Path(re.search(r"see (\S+)", line)[1]).read_text()
        assert outcome(run)["reasons"]["entry"] in line


def events(*lines):
    """Events of a record: a number is an attempt that ended with that code; None one without an outcome."""
    for number, line in enumerate(lines, start=1):
        if isinstance(line, str):
            yield {"event": line}
            continue
        yield {"event": "attempt begun", "attempt": number}
        if line is not None:
            yield {"event": "outcome", "attempt": number, "code": line, "reasons": {"rank 0": f"code {line}"}}


@pytest.mark.parametrize(
    ("lines", "own", "outside"),
    [
        ((1, 1, 1), 3, 0),
        ((75, 75, 75, 75), 0, 4),
        ((75, 1, 75), 1, 2),
        ((1, "checkpoint sealed", 75), 0, 1),
        ((1, 75, "submitted"), 0, 0),
        ((130, 130, 130), 0, 0),
        ((None, None), 2, 0),
    ],
)
def test_each_end_counts_by_what_ended_it(lines, own, outside):
    counted = fruitless(events(*lines), lambda number: False)
    assert (counted.own, counted.outside) == (own, outside)


def test_an_attempt_that_a_scheduler_stopped_and_killed_was_ended_from_outside():
    counted = fruitless(events(None, None, None), lambda number: number == 2)
    assert (counted.own, counted.outside) == (2, 1)
    assert fruitless([], lambda number: True) == Fruitless()


def test_the_reason_is_that_of_the_last_attempt_which_counts():
    refused = {"event": "outcome", "code": 78, "reasons": {"entry": "retries used up"}}
    assert fruitless([*events(1, 75), refused, refused], lambda number: False).reason == "rank 0: code 75"


def test_the_pause_before_an_attempt_grows_to_a_bound():
    lengths = [preconditions.pause(count) for count in range(40)]
    assert lengths[:4] == [0, 0, preconditions.PAUSE_SECONDS, 2 * preconditions.PAUSE_SECONDS]
    assert lengths == sorted(lengths)
    assert max(lengths) == preconditions.LONGEST_PAUSE_SECONDS


def test_a_stop_ends_the_pause(harness):
    run = harness.adopt()
    for _ in range(2):
        harness.enter(run.folder, "full")
    process = harness.start(run.folder, "finish", PAUSE="600")
    assert "pausing 600 s" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=600) == 130
    assert len(calls(run)) == 2


# --- a lost terminal ----------------------------------------------------------------------------------------


def test_under_nohup_a_lost_terminal_stops_nothing(harness):
    run = harness.adopt()
    command = [sys.executable, str(ENTRY), str(run.folder)]
    environment = {**os.environ, "ACT": "slow"}
    process = subprocess.Popen(
        ["nohup", *command], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until(has_started(run), "training starts")
        process.send_signal(signal.SIGHUP)
        process.wait(timeout=600)
    finally:
        process.kill()
    assert not (run.attempts / "1" / "STOP").exists()


# --- a full disk --------------------------------------------------------------------------------------------


def test_a_full_disk_on_one_rank_is_the_one_reason(harness):
    run = harness.adopt()
    code, _, err = harness.enter(run.folder, "full")
    assert code == 75
    assert outcome(run)["reasons"] == {"rank 0": "the disk is full"}
    assert "Traceback" not in err


def fill(folder: Path) -> None:
    """Leave no room in a folder's file system."""
    with (folder / "filler").open("ab", buffering=0) as file:
        for size in (2**16, 2**12, 1):
            while True:
                try:
                    file.write(b"x" * size)
                except OSError:
                    break


def test_on_a_full_disk_entry_says_so_in_one_line_and_asks_to_be_queued_again(tmp_path):
    with small_disk(tmp_path / "disk", mebibytes=80) as disk, Harness(disk) as harness:
        run = harness.adopt()
        fill(disk)
        code, _, err = harness.enter(run.folder, TMPDIR=str(tmp_path))
        assert code == 75
        assert "Traceback" not in err
        assert "No space left on device" in err or "free, needs" in err
        if run.all_attempts():
            assert "free, needs" in (run.attempts / "1" / "log.txt").read_text()
        (disk / "filler").unlink()
        assert harness.enter(run.folder, TMPDIR=str(tmp_path))[0] == 0


def test_the_reserve_gives_room_for_the_last_words(tmp_path):
    with small_disk(tmp_path / "disk", mebibytes=8) as disk, Harness(disk) as harness:
        run = harness.adopt()
        attempt = run.new_attempt()
        reserve.make(run.folder)
        fill(disk)
        with pytest.raises(OSError, match="No space left"):
            seal.write_text(disk / "more", "x" * 10_000)
        attempt.report_exit(0, 75, "the disk is full " * 100)
        run.record("outcome", attempt=1, code=75, reasons={"rank 0": "the disk is full"})
        assert attempt.outcomes([0])[0][1].startswith("the disk is full")
        assert outcome(run)["code"] == 75
        assert not reserve.path(run.folder).exists()


def test_what_a_full_disk_makes_of_each_library_is_recognised(tmp_path):
    import torch
    from safetensors.torch import save_file

    with small_disk(tmp_path / "disk", mebibytes=2) as disk:
        for write in (
            lambda: torch.save(torch.zeros(10**6), disk / "a.pt"),
            lambda: save_file({"a": torch.zeros(10**6)}, disk / "a.safetensors"),
            lambda: (disk / "a").write_bytes(bytes(4 * 10**6)),
        ):
            with pytest.raises(Exception) as caught:
                write()
            assert reserve.is_full(caught.value), repr(caught.value)
    assert not reserve.is_full(RuntimeError("a link went down"))


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device", "weights"),
        OSError(122, "Disk quota exceeded"),
        RuntimeError("[enforce fail at inline_container.cc:1] PytorchStreamWriter failed writing file data/1"),
        ValueError("llama.cpp: write: No space left on device"),
    ],
)
def test_a_full_disk_is_recognised_behind_the_error_that_it_led_to(error):
    assert reserve.is_full(error)
    try:
        raise KeyError("weights") from error
    except KeyError as later:
        assert reserve.is_full(later)


# --- memory kills -------------------------------------------------------------------------------------------


def test_a_kill_for_lack_of_memory_is_named(harness, tmp_path, monkeypatch):
    counter = tmp_path / "vmstat"
    counter.write_text("nr_free_pages 3\noom_kill 7\n")
    monkeypatch.setattr(memory, "_VMSTAT", counter)
    monkeypatch.setattr(memory, "_SELF", tmp_path / "nowhere")
    assert memory.kills() == 7
    run = harness.adopt()
    code, _, err = harness.enter(run.folder, "die", KILLS_AFTER="1")
    assert code == 1
    assert "the kernel killed a process for lack of main memory" in err
    assert "ended without an exit report" in outcome(run)["reasons"]["rank 0"]


@pytest.mark.parametrize(("limit", "used", "left"), [("max", 5, None), ("1000", 400, 600)])
def test_a_control_group_limits_the_free_memory(tmp_path, monkeypatch, limit, used, left):
    group = tmp_path / "job"
    group.mkdir()
    (group / "memory.max").write_text(f"{limit}\n")
    (group / "memory.current").write_text(f"{used}\n")
    (group / "memory.events").write_text("low 0\noom 1\noom_kill 3\n")
    (tmp_path / "self").write_text("0::/job\n")
    monkeypatch.setattr(memory, "_SELF", tmp_path / "self")
    machine = memory.available()
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    assert memory.kills() == 3
    assert memory.available() == left if left else memory.available() > machine / 2


# --- credentials --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", ["in the environment", "in the cluster file"])
def test_no_byte_that_a_run_writes_holds_a_secret_of_its_environment_or_of_a_url(harness, named):
    run, canary = harness.adopt(), "hf_canaryCanaryCanary"
    if named == "in the cluster file":
        # hatrain train: only the children have the variable, and its value comes from one of another name.
        plan = run.plan().model_copy(update={"environment": {"HF_TOKEN": "$MINE"}})
        run.plan_file.write_text(plan.model_dump_json())
    variable = "MINE" if named == "in the cluster file" else "HF_TOKEN"
    _, out, err = harness.enter(run.folder, "secret", **{variable: canary})
    written = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    assert any(b"cannot reach https://ada:***@host/x" in content for content in written.values())
    for path, content in {**written, "out": out.encode(), "err": err.encode()}.items():
        assert b"anary" not in content, path
