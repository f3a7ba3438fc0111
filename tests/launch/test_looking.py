"""Looking at runs: it writes nothing, and no file of a run breaks it, whatever is in it."""

import contextlib
import importlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hatrain.cli import main, summary
from hatrain.cli.columns import states
from hatrain.contract.run import RunDirectory, all_runs
from hatrain.runtime import seal
from hatrain.runtime.stop import Stop
from launch import status
from launch.backends.shared_files import stop_by_file
from tests.plans import a_plan

VERBS = [("status", "kitchen"), ("runs",), ("logs", "kitchen"), ("memory", "report"), ("stop", "kitchen")]
NOBODY = 65534


@pytest.fixture
def live(tmp_path) -> RunDirectory:
    """A run whose attempt is alive on another machine, as another user sees it."""
    plan = a_plan(tmp_path)
    run = RunDirectory(Path(plan.paths.run))
    run.adopt(plan, {})
    run.record("submitted", job="1.2", user="ada")
    attempt = run.new_attempt()
    run.record("attempt begun", attempt=1)
    (run.launch / "output.log").parent.mkdir()
    (run.launch / "output.log").write_text("step 1\n")
    seal.append_line(run.metrics, {"step": 1, "steps": 8})
    seal.write_json(run.lease.path, {"host": "far", "pid": 1, "started": "1", "namespace": "x"})
    assert attempt.number == 1
    return run


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Read and write files as another user. Only root can become one."""
    if os.getuid() != 0:
        pytest.skip("not root")
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def test_another_user_looks_at_a_live_run_and_cannot_stop_it(live, monkeypatch, capfd):
    monkeypatch.setenv("HATRAIN_RUNS", str(live.root))
    for folder in (live.folder, *live.folder.parents):
        if folder.is_relative_to(tempfile.gettempdir()):
            folder.chmod(folder.stat().st_mode | 0o055)
    for verb, *rest in VERBS[:-1]:  # what they import may be readable for root alone
        assert main([verb, *rest]) == 0
    importlib.import_module("hatrain.cli.stop")
    before = content(live.folder)
    capfd.readouterr()
    with as_nobody():
        for verb, *rest in VERBS[:-1]:
            assert main([verb, *rest]) == 0
        assert main(["stop", "kitchen"]) == 1
    assert content(live.folder) == before
    err = capfd.readouterr().err
    assert "ask the run's own user to stop it" in err
    assert len(err.splitlines()) == 1


def content(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file and folder."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in [folder, *folder.rglob("*")]}


def test_looking_opens_nothing_for_writing(live, monkeypatch):
    monkeypatch.setenv("HATRAIN_RUNS", str(live.root))
    written: list[tuple] = []
    watching = True

    def audit(event, arguments):
        changes = event in ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.utime")
        if watching and (changes or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR))):
            written.append((event, arguments))

    sys.addaudithook(audit)
    try:
        listing = states(status.look(all_runs()))
        summary.results(live)
    finally:
        watching = False
    assert "running" in listing
    assert not written


def test_a_stop_that_cannot_be_written_is_one_line(live, monkeypatch):
    def refused(self, stop: Stop):
        raise PermissionError(13, "Permission denied", str(self.folder / "STOP"))

    monkeypatch.setattr("hatrain.contract.run.Attempt.request_stop", refused)
    with pytest.raises(Exception, match="Permission denied; ask the run's own user") as caught:
        stop_by_file(live, "a test")
    assert "\n" not in str(caught.value)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
)
NAMES = (
    *("submitted", "attempt begun", "outcome", "cancelled", "test loss", "memory", "checkpoint sealed"),
    *("killed", "not requeued", "not sent"),
)
KEYS = (
    *("event", "attempt", "code", "reasons", "job", "user", "when", "loss", "seconds", "date", "allocated", "device"),
    *("reserved", "ended", "predicted", "step", "steps", "reason", "tokens_per_second", "memory", "test_loss"),
)
facts = st.dictionaries(st.sampled_from(KEYS), values, max_size=5)
records = st.one_of(
    st.builds(lambda name, more: json.dumps({"event": name, **more}), st.sampled_from(NAMES), facts),
    st.builds(lambda more: json.dumps(more), values),
    st.text(max_size=20),
    st.just("[" * 10_000),
    st.just('{"event": "outcome", "code": 1' + "0" * 5000 + "}"),
)


@given(lines=st.lists(records, max_size=6), done=st.booleans())
@example(lines=['{"event": "outcome"}', '{"event": "submitted", "job": "abc"}'], done=False)
@example(lines=['{"event": "outcome", "code": 75, "reasons": null}'], done=False)
@example(lines=['{"event": "submitted", "job": "0.7"}', '{"event": "attempt begun", "date": "yesterday"}'], done=False)
def test_no_record_breaks_a_listing(tmp_path_factory, lines, done):
    folder = tmp_path_factory.mktemp("runs")
    plan = a_plan(folder)
    run = RunDirectory(Path(plan.paths.run))
    run.adopt(plan, {})
    text = "\n".join(lines).encode(errors="surrogatepass")
    run.record_file.write_bytes(text)
    run.metrics.write_bytes(text)
    run.evaluation.write_bytes(text)
    (state,) = status.look([run])
    assert state.state
    assert states(status.look([run]))
    assert summary.results(run) is not None
    assert run.today()
    assert run.fruitless().own >= 0


@pytest.mark.parametrize("name", ["record.jsonl", "plan.json", "lease.json"])
@pytest.mark.parametrize("odd", ["a folder", "a dangling link", "not UTF-8", "empty"])
def test_no_odd_file_of_one_run_breaks_the_listing_of_the_others(live, tmp_path, monkeypatch, name, odd):
    plan = a_plan(tmp_path, name="garage")
    RunDirectory(Path(plan.paths.run)).adopt(plan, {})
    monkeypatch.setenv("HATRAIN_RUNS", str(live.root))
    path = live.folder / name
    path.unlink()
    match odd:
        case "a folder":
            path.mkdir()
        case "a dangling link":
            path.symlink_to("nowhere")
        case "not UTF-8":
            path.write_bytes(b"\xff\xfe{")
        case "empty":
            path.write_bytes(b"")
    listing = states(status.look(all_runs()))
    assert "garage" in listing
