"""The run directory: whose it is, how an attempt ends, what counts as progress."""

import itertools
import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from hatrain.contract import run as runs
from hatrain.contract.plan import Plan
from hatrain.contract.run import Attempt, Exit, RunDirectory, combine, find_run, find_runs
from hatrain.errors import BadInput
from hatrain.runtime.stop import Stop
from tests.plans import a_plan


@pytest.fixture
def run(tmp_path):
    plan = a_plan(tmp_path)
    run = RunDirectory(tmp_path / "runs" / "kitchen")
    run.adopt(plan, {"job.yaml": "name: kitchen\n", "launch/node.sh": "true\n"})
    return run


# --- outcomes -----------------------------------------------------------------------------------------------

ORDER = [78, 1, 130, 75, 0]


@pytest.mark.parametrize("codes", itertools.chain.from_iterable(itertools.permutations(ORDER, n) for n in (1, 2, 3)))
def test_the_gravest_exit_code_of_several_ranks_counts(codes):
    assert combine(codes) == min(codes, key=ORDER.index)


@pytest.mark.parametrize("code", [2, -9, 137, 255])
def test_an_unknown_exit_code_is_a_fault(code):
    assert combine([0, code]) is Exit.FAULT


def test_no_exit_code_at_all_is_a_fault():
    assert combine([]) is Exit.FAULT


def test_a_rank_without_an_exit_report_is_a_fault(run):
    attempt = run.new_attempt()
    attempt.report_exit(0, Exit.REQUEUE, "stopped")
    attempt.report_exit("evaluation", Exit.FINISHED, "judged")
    (attempt.folder / "rank-2.json").write_text('{"code": ')
    (attempt.folder / "rank-3.json").write_text("[]")
    messages = attempt.outcomes([0, 1, 2, 3, "evaluation"])
    silent = (Exit.FAULT, "ended without an exit report")
    assert messages == {
        0: (Exit.REQUEUE, "stopped"),
        1: silent,
        2: silent,
        3: silent,
        "evaluation": (Exit.FINISHED, "judged"),
    }


# --- stopping -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second", "holds"), [(True, False, False), (False, True, False), (True, True, True)])
def test_a_users_stop_replaces_a_schedulers(run, first, second, holds):
    attempt = run.new_attempt()
    assert attempt.stop() is None
    attempt.request_stop(Stop("first", first))
    attempt.request_stop(Stop("second", second))
    assert attempt.stop().requeue is holds


@pytest.mark.parametrize("text", ["", "stop!", "[]", "null"])
def test_a_stop_file_made_by_hand_is_a_users(run, text):
    attempt = run.new_attempt()
    (attempt.folder / "STOP").write_text(text)
    assert attempt.stop() == Stop("the stop file", requeue=False)


# --- progress -----------------------------------------------------------------------------------------------


def test_a_sealed_checkpoint_or_a_submission_resets_the_attempts_without_progress(run):
    counts = []
    for event, facts in (
        ("attempt begun", {}),
        ("outcome", {"code": 1}),
        ("attempt begun", {}),
        ("checkpoint sealed", {}),
        ("attempt begun", {}),
        ("attempt begun", {}),
        ("model sealed", {}),
        ("attempt begun", {}),
        ("submitted", {}),
        ("attempt begun", {}),
    ):
        run.record(event, **facts)
        counts.append(run.fruitless().own)
    assert counts == [1, 1, 2, 0, 1, 2, 0, 1, 0, 1]


def test_attempts_are_numbered_in_order(run):
    assert [run.new_attempt().number for _ in range(11)] == list(range(1, 12))
    assert [attempt.number for attempt in run.all_attempts()] == list(range(1, 12))


def test_the_record_keeps_facts_and_times(run):
    run.record("outcome", code=1, reasons={"rank 0": "é"})
    (event,) = run.events()
    assert event["time"].endswith("+00:00")
    assert (event["event"], event["code"], event["reasons"]) == ("outcome", 1, {"rank 0": "é"})


def test_the_date_of_a_run_is_that_of_its_first_attempt(run):
    assert run.today() == datetime.now(UTC).date()
    run.record("attempt begun", attempt=1, date="2026-02-27")
    run.record("attempt begun", attempt=2, date="2026-03-01")
    assert run.today() == date(2026, 2, 27)


def test_a_run_that_recorded_no_date_keeps_the_one_that_templates_had_then(run):
    run.record("attempt begun", attempt=1)
    run.record("attempt begun", attempt=2, date="2026-03-01")
    assert run.today() == date(2024, 7, 26)


# --- whose it is --------------------------------------------------------------------------------------------


def test_a_plan_reads_back_as_it_was_written(run, tmp_path):
    assert run.plan() == a_plan(tmp_path)
    assert (run.launch / "node.sh").stat().st_mode & 0o111
    assert not run.job_file.stat().st_mode & 0o111


def test_a_job_may_be_submitted_again_with_another_layout(run, tmp_path):
    run.new_attempt()
    again = a_plan(tmp_path, method__micro_batch_size=4, limits__retries=9)
    assert run.adopt(again, {}) is None
    assert run.plan() == again
    assert len(run.all_attempts()) == 1


def test_another_job_is_refused_with_every_difference_and_nothing_is_written(run, tmp_path):
    before = run.plan_file.read_bytes()
    other = a_plan(tmp_path, method__learning_rate=2e-5, method__lora={}, model__revision="main")
    with pytest.raises(BadInput) as raised:
        run.adopt(other, {"job.yaml": "other"})
    messages = "\n".join(raised.value.problems)
    assert "method.learning_rate: 1e-05 → 2e-05" in messages
    assert 'model.revision: nothing → "main"' in messages
    assert "method.lora.rank: nothing → 4" in messages
    assert "--fresh" in messages
    assert run.plan_file.read_bytes() == before
    assert run.job_file.read_text() == "name: kitchen\n"


def test_fresh_sets_the_old_run_aside_unchanged(run, tmp_path):
    run.record("submitted")
    aside = run.adopt(a_plan(tmp_path, method__epochs=2), {}, fresh=True)
    assert RunDirectory(aside).events()[0]["event"] == "submitted"
    assert run.events() == []
    again = run.adopt(a_plan(tmp_path, method__epochs=2), {}, fresh=True)
    assert again != aside


@pytest.mark.parametrize("fresh", [False, True])
def test_a_live_attempt_keeps_its_run(run, tmp_path, fresh):
    with run.lease.held(), pytest.raises(BadInput, match="an attempt is running"):
        run.adopt(a_plan(tmp_path), {}, fresh=fresh)
    assert run.adopt(a_plan(tmp_path), {}) is None


def test_a_folder_without_a_plan_is_refused(tmp_path):
    with pytest.raises(BadInput, match="is not a run"):
        RunDirectory(tmp_path).plan()


@pytest.mark.parametrize("version", [1, 4])
def test_a_plan_of_another_version_is_refused_but_its_job_is_known(run, version):
    plan = json.loads(run.plan_file.read_text())
    job = run.plan().job
    run.plan_file.write_text(json.dumps({**plan, "version": version}))
    with pytest.raises(BadInput, match="not a plan that this version reads"):
        run.plan()
    assert run.job() == job


def kept(recorded, read):
    """Whether a plan has everything that was recorded; keys that were added later have their defaults."""
    if isinstance(recorded, dict):
        return all(key in read and kept(value, read[key]) for key, value in recorded.items())
    if isinstance(recorded, list):
        return len(recorded) == len(read) and all(map(kept, recorded, read))
    return recorded == read


def test_a_plan_of_version_2_is_read_as_it_was_written():
    recorded = json.loads((Path(__file__).parent / "recorded" / "plan-version-2.json").read_text())
    plan = Plan.model_validate(recorded)
    read = json.loads(plan.model_dump_json())
    assert kept(recorded.pop("place"), read["cluster_spec"])
    assert kept(recorded.pop("request"), read["resources"])
    assert kept({**recorded, "version": 3}, read)
    assert plan.job.identity() == plan.identity


def test_a_job_that_cannot_be_read_is_refused_with_its_file(run):
    run.plan_file.write_text("{}")
    with pytest.raises(BadInput, match=r"plan\.json: no job that this version reads"):
        run.job()


# --- the link and the name ----------------------------------------------------------------------------------


def test_models_link_to_the_result_and_follow_it_when_the_folder_moves(run, tmp_path):
    run.model.mkdir()
    assert run.link_model(tmp_path / "models", run.model) == tmp_path / "models" / "kitchen"
    assert (tmp_path / "models" / "kitchen").resolve() == run.model
    assert not (tmp_path / "models" / "kitchen").readlink().is_absolute()
    assert run.link_model(tmp_path / "models", run.adapter).readlink().name == "adapter"


def test_a_real_folder_is_never_replaced_by_a_link(run, tmp_path):
    (tmp_path / "models" / "kitchen").mkdir(parents=True)
    assert run.link_model(tmp_path / "models", run.model) is None
    assert not (tmp_path / "models" / "kitchen").is_symlink()


@pytest.mark.parametrize(
    ("lora", "result"), [(None, "model"), ({"merge": True}, "model"), ({"merge": False}, "adapter")]
)
def test_a_runs_result_is_its_model_or_the_adapter_that_is_not_merged(run, tmp_path, lora, result):
    assert run.result(a_plan(tmp_path, method__lora=lora).job).name == result


def test_a_run_is_found_by_name_and_by_folder(run, tmp_path, monkeypatch):
    monkeypatch.setenv("HATRAIN_RUNS", str(tmp_path / "runs"))
    assert find_run("kitchen").folder == run.folder
    assert find_run(str(run.folder)).folder == run.folder
    with pytest.raises(BadInput, match=r"kichen: no such run .*did you mean kitchen\?"):
        find_run("kichen")


def test_runs_are_in_the_folder_that_the_environment_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HATRAIN_RUNS", "")
    assert runs.runs_root() == tmp_path / "runs"
    monkeypatch.setenv("HATRAIN_RUNS", "there")
    assert runs.runs_root() == tmp_path / "there"


def test_an_attempt_knows_its_number(tmp_path):
    assert Attempt(tmp_path / "7").number == 7


@pytest.mark.parametrize(
    ("folder", "name", "in_sweep"),
    [
        ("runs/kitchen", "kitchen", False),
        ("runs/kitchen/sweep/3", "kitchen/sweep/3", True),
        ("runs/kitchen/sweep/3.20261125-120000", "3.20261125-120000", False),
        ("sweep/kitchen", "kitchen", False),
    ],
)
def test_a_run_of_a_sweep_is_named_by_sweep_and_number(tmp_path, folder, name, in_sweep):
    run = RunDirectory(tmp_path / folder)
    assert (run.name, run.in_sweep) == (name, in_sweep)


def test_the_runs_of_a_sweep_are_found_by_its_name_in_the_order_of_their_numbers(tmp_path, monkeypatch):
    monkeypatch.setenv("HATRAIN_RUNS", str(tmp_path))
    for number in ("10", "9", "9.20261125-120000"):
        (tmp_path / "kitchen/sweep" / number).mkdir(parents=True)
        (tmp_path / "kitchen/sweep" / number / "plan.json").touch()
    assert [run.name for run in find_runs("kitchen")] == ["kitchen/sweep/9", "kitchen/sweep/10"]
    assert [run.name for run in find_runs("kitchen/sweep/9")] == ["kitchen/sweep/9"]


def test_what_can_never_succeed_stands_beside_the_report_that_decides(run):
    attempt = run.new_attempt()
    attempt.report_exit(0, Exit.REQUEUE, "the disk is full", decides=True)
    attempt.report_exit(1, Exit.FAULT, "a link went down")
    attempt.report_exit(2, Exit.FATAL, "out of GPU memory")
    full, fatal = (Exit.REQUEUE, "the disk is full"), (Exit.FATAL, "out of GPU memory")
    assert attempt.outcomes([0, 1, 2, 3]) == attempt.deciding([0, 1, 2, 3]) == {0: full, 2: fatal}
    assert attempt.deciding([1, 2, 3]) == {}
