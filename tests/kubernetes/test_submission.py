"""A submission that is recorded on another machine than the run's: the run learns of it from Kubernetes."""

from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory
from launch import run_files
from tests.harness import Harness


def from_elsewhere(harness: Harness, folder, **changes):
    """(run, plan.json) of a plan whose files are outside of the run directory."""
    plan: Plan = harness.plan(**changes)
    for path, text in {**run_files.shared(plan), "plan.json": run_files.plan_json(plan)}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return RunDirectory(harness.folder / "runs" / plan.job.name), folder / "plan.json"


def submissions(run):
    return [event["submission"] for event in run.events() if event["event"] == "submitted"]


def test_a_new_submission_resets_the_retries_and_a_new_pod_of_the_old_one_does_not(
    tmp_path,
):
    (tmp_path / "work").mkdir()
    with Harness(tmp_path / "work") as harness:
        run, plan = from_elsewhere(harness, tmp_path / "etc", limits__retries=1)
        codes = [harness.enter(plan, "fault", HATRAIN_SUBMISSION="one")[0] for _ in range(3)]
        assert codes == [1, 1, 78]
        assert submissions(run) == ["one"]
        assert harness.enter(plan, "finish", HATRAIN_SUBMISSION="two")[0] == 0
        assert submissions(run) == ["one", "two"]


def test_without_a_submission_id_no_submission_is_recorded(tmp_path):
    (tmp_path / "work").mkdir()
    with Harness(tmp_path / "work") as harness:
        run, plan = from_elsewhere(harness, tmp_path / "etc")
        assert harness.enter(plan, HATRAIN_SUBMISSION="")[0] == 0
        assert submissions(run) == []


def test_a_fresh_submission_sets_the_old_run_aside_once(tmp_path):
    (tmp_path / "work").mkdir()
    with Harness(tmp_path / "work") as harness:
        run, plan = from_elsewhere(harness, tmp_path / "etc")
        assert harness.enter(plan, HATRAIN_SUBMISSION="one")[0] == 0
        _, other = from_elsewhere(harness, tmp_path / "other", seed=7)
        # Another job of this name is refused.
        assert harness.enter(other, HATRAIN_SUBMISSION="two")[0] == 78
        assert submissions(run) == ["one"]
        fresh = {"HATRAIN_SUBMISSION": "three", "HATRAIN_FRESH": "1"}
        code, _, err = harness.enter(other, "fault,finish", **fresh)
        assert code == 1 and "moved the old run to" in err
        (aside,) = run.folder.parent.glob(f"{run.folder.name}.*")
        assert (aside / "DONE").exists() and not run.done.exists()
        assert (submissions(run), run.plan().job.seed) == (["three"], 7)
        # The next pod of the same submission continues.
        assert harness.enter(other, "fault,finish", **fresh)[0] == 0
        assert list(run.folder.parent.glob(f"{run.folder.name}.*")) == [aside]
        assert submissions(run) == ["three"] and run.done.exists()
