"""Jobs on a real Slurm, from submission to every way to end. The trainer is pretended; all else is as it is."""

import json
import subprocess
from pathlib import Path

import pytest

from hatrain.contract.run import RunDirectory
from tests.slurm.house import House, around, calls, codes


def state(house: House, run: RunDirectory) -> str:
    """What `hatrain status` calls the state of a run."""
    return house.hatrain("status", run.name).splitlines()[1].split()[2]


def by_hand(house: House, *sbatch: str, text: str | None = None) -> str:
    told = subprocess.run(
        ["sbatch", "--parsable", *sbatch],
        cwd=house.folder,
        env=house.cluster.environ,
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.returncode == 0, told.stderr
    return told.stdout.strip()


def rendered(house: House, *words: str) -> str:
    """The stream, without the notes, which a person's pipe does not take either."""
    said = house.hatrain("render", *words)
    return said[said.index("#!/usr/bin/env bash") :]


@pytest.fixture(scope="module")
def going_on(slurm, tmp_path_factory):
    """Jobs that are queued again, all at once: between two starts Slurm lets some seconds pass."""
    house = House(tmp_path_factory.mktemp("going on"), slurm)
    house.submit("fault", act="fault,finish", hardware__nodes=2)
    early = house.submit("early", act="stop,finish", place={"setup": ["sleep 5"]})
    # Slurm counts in minutes, and the warning may come up to one early.
    house.submit("warned", act="stop,finish", limits__time="00:01:00", place={"signal_lead": "00:00:57"})
    house.until(lambda: list(early.launch.glob("*-node-0.log")), early)
    house.submit("after", after="early")
    slurm.tell("scancel", "--batch", "--signal=USR1", house.id(early))
    assert not early.all_attempts()
    words = [str(house.job("rates")), "--cluster", str(house.place(act="fault,finish"))]
    house.hatrain("submit", *words, "--sweep", "method.learning_rate=1e-5,2e-5")
    words = [str(house.job("stream", hardware__nodes=2)), "--cluster", str(house.place(act="fault,finish"))]
    house.by_hand = by_hand(house, text=rendered(house, *words))
    return house


# --- the ordinary life of a job -----------------------------------------------------------------------------


def test_a_job_on_two_nodes_ends_completed_with_the_words_of_each_node_in_a_log_of_its_own(house):
    run = house.submit(hardware__nodes=2)
    assert house.ended(run) == "COMPLETED", house.tale(run)
    assert run.done.exists() and codes(run) == [0]
    assert sorted(calls(run)) == ["training finish", "training finish on node 1"]
    job = house.id(run)
    assert "training finish in attempt 1" in (run.launch / f"slurm-{job}.0-node-0.log").read_text()
    assert "node 1 in attempt 1" in (run.launch / f"slurm-{job}.0-node-1.log").read_text()
    assert "node 1 in attempt 1" in house.hatrain("logs", run.name, "--node", "1")
    assert "training finish in attempt 1" in house.hatrain("logs", run.name)
    assert "nodes 0 to 1" in house.hatrain("logs", run.name, "--node", "2", code=2)


def test_status_stop_and_wait_tell_the_truth_at_every_stage(house):
    run = house.submit(act="stop", place={"directives": {"begin": "now+3600"}})
    assert state(house, run) == "queued"
    assert "BeginTime" in house.hatrain("status", run.name)
    assert "no live attempt" in house.hatrain("stop", run.name, code=1)
    house.cluster.tell("scontrol", "update", f"JobId={house.id(run)}", "StartTime=now")
    waiting, following = house.start("wait", run.name), house.start("logs", run.name, "--follow")
    house.begun(run)
    assert state(house, run) == "running"
    assert "is running already" in house.hatrain(
        "submit", str(house.job()), "--cluster", str(house.place()), code=2
    )
    assert "saves a checkpoint" in house.hatrain("stop", run.name)
    assert house.ended(run) == "FAILED"
    assert state(house, run) == "stopped"
    assert codes(run) == [130]
    said, followed = waiting.communicate(timeout=60)[0], following.communicate(timeout=60)[0]
    assert (waiting.returncode, following.returncode) == (130, 130), said + followed
    assert "training stop in attempt 1" in followed
    assert "there is nothing to stop" in house.hatrain("stop", run.name, code=1)


def test_a_job_that_is_cancelled_while_it_waits_never_starts(house):
    run = house.submit(place={"directives": {"begin": "now+3600"}})
    house.hatrain("cancel", run.name)
    house.until(lambda: house.slurm(run) in ("", "CANCELLED"), run)
    assert state(house, run) == "cancelled"
    assert "cancelled (130)" in house.hatrain("wait", run.name, code=130)
    assert calls(run) == []


def test_a_job_that_is_cancelled_at_work_is_not_queued_again(house):
    run = house.submit(act="stop")
    house.begun(run)
    house.hatrain("cancel", run.name)
    assert house.ended(run) == "CANCELLED"
    house.until(lambda: codes(run) == [130], run)
    assert state(house, run) in ("stopped", "cancelled")


def test_scancel_by_hand_ends_a_job_that_could_be_queued_again(house):
    run = house.submit(act="stop")
    house.begun(run)
    house.cluster.tell("scancel", house.id(run))
    assert house.ended(run) == "CANCELLED"
    # It saved what it had, and would have been queued again had Slurm ended it by itself.
    assert codes(run) == [75]
    assert "not queued again" in house.hatrain("logs", run.name)


def test_what_can_never_succeed_stays_away(house):
    run = house.submit(act="fatal")
    assert house.ended(run) == "FAILED"
    assert "failed (78): out of GPU memory" in house.hatrain("wait", run.name, code=78)
    assert len(calls(run)) == 1


def test_a_fault_is_queued_again_and_goes_on(going_on):
    house, run = going_on, going_on.run("fault")
    assert house.ended(run) == "COMPLETED", house.tale(run)
    assert codes(run) == [1, 0]
    # Both starts are to be read, one behind the other.
    said = house.hatrain("logs", str(run.folder))
    assert said.index("training fault in attempt 1") < said.index("training finish in attempt 2")
    assert "left with exit code 1; queued again" in said


def test_a_task_of_an_array_is_queued_again_by_itself(going_on):
    house = going_on
    for number in range(2):
        run = house.run(f"rates/sweep/{number}")
        assert house.ended(run) == "COMPLETED", house.tale(run)
        assert codes(run) == [1, 0]


def test_the_stream_goes_through_a_pipe_to_sbatch_and_is_queued_again_like_any_other(going_on):
    house, run = going_on, going_on.run("stream")
    assert house.over(house.by_hand) == "COMPLETED", house.tale(run)
    assert codes(run) == [1, 0] and run.done.exists()
    assert run.job_file.exists() and (run.launch / "step.sh").exists()
    assert "queued again" in (house.folder / f"stream-{house.by_hand}.log").read_text()


def test_what_cannot_even_begin_does_not_come_back_for_ever(house):
    run = house.submit(place={"python": "/no/such/python"})
    assert house.ended(run) == "FAILED"
    assert "could not begin (exit code 127)" in house.hatrain("logs", run.name)


# --- the end of the time, and preemption --------------------------------------------------------------------


def test_a_warning_before_the_end_of_the_time_becomes_a_checkpoint_and_another_start(going_on):
    house, run = going_on, going_on.run("warned")
    assert house.ended(run) == "COMPLETED", house.tale(run)
    assert codes(run) == [75, 0]
    stop = json.loads((run.attempts / "1/STOP").read_text())
    assert stop["requeue"] is True and "SIGUSR1" in stop["reason"]


def test_a_warning_that_comes_before_the_attempt_is_heard_when_it_has_begun(going_on):
    house, run = going_on, going_on.run("early")
    assert house.ended(run) == "COMPLETED", house.tale(run)
    assert "SIGUSR1" in json.loads((run.attempts / "1/STOP").read_text())["reason"]
    assert codes(run)[-1] == 0


def test_a_warning_does_not_overrule_a_user_who_wants_an_end(house):
    run = house.submit(act="slow-stop")
    house.begun(run)
    house.hatrain("stop", run.name)
    house.cluster.tell("scancel", "--batch", "--signal=USR1", house.id(run))
    assert house.ended(run) == "FAILED"
    assert codes(run) == [130]


def test_a_job_that_is_preempted_saves_and_goes_on_when_there_is_room(house):
    """`grace` leaves a job a minute, in which one that ends by itself is taken to be finished."""
    runs = [house.submit(name, act="stop,finish", place={"partition": name}) for name in ("spot", "grace")]
    for run in runs:
        house.begun(run)
    everything = ["--exclusive", "--nodes=3", "--partition=gpu", "--parsable", "--output=/dev/null"]
    other = house.cluster.tell("sbatch", *everything, "--wrap", "sleep 1")
    try:
        for run in runs:
            assert house.ended(run) == "COMPLETED", house.tale(run)
            assert codes(run) == [75, 0]
    finally:
        house.cluster.tell("scancel", other)


# --- chains and sweeps --------------------------------------------------------------------------------------


def test_a_chain_is_cancelled_when_its_first_link_fails(house):
    first = house.submit("first", act="slow-stop")
    house.begun(first)
    second = house.submit("second", after="first")
    assert house.slurm(second, "%T %r") == "PENDING Dependency"
    house.hatrain("stop", "first")
    assert house.ended(first) == "FAILED"
    house.until(lambda: house.slurm(second) in ("", "CANCELLED"), second)
    assert calls(second) == []
    assert state(house, second) in ("cancelled", "failed", "lost")


def test_a_chain_waits_on_where_its_first_link_is_queued_again(going_on):
    house, first, second = going_on, going_on.run("early"), going_on.run("after")
    assert house.ended(second) == "COMPLETED", house.tale(second)
    assert len(codes(first)) > 1 and codes(second) == [0]


def test_a_parent_that_is_done_needs_no_dependency_and_one_that_nobody_knows_is_refused(house):
    words = [str(house.job("second", after="first")), "--cluster", str(house.place())]
    assert "after: first: no such run" in house.hatrain("submit", *words, code=2)
    assert not house.run("second").folder.exists()
    first = house.submit("first")
    house.ended(first)
    assert "--dependency" not in house.hatrain("submit", *words, "--dry-run").rpartition("==> command")[2]
    second = house.submit("second", after="first")
    assert house.ended(second) == "COMPLETED"


def test_a_sweep_is_one_array_whose_tasks_are_its_runs(house):
    words = [str(house.job("rates")), "--cluster", str(house.place())]
    said = house.hatrain("submit", *words, "--sweep", "method.learning_rate=1e-5,2e-5,3e-5")
    runs = [house.run(f"rates/sweep/{number}") for number in range(3)]
    jobs = [house.id(run) for run in runs]
    assert {job.partition("_")[0] for job in jobs} == {jobs[0].partition("_")[0]}, said
    assert [job.partition("_")[2] for job in jobs] == ["0", "1", "2"]
    for run, rate in zip(runs, (1e-5, 2e-5, 3e-5), strict=True):
        assert house.ended(run) == "COMPLETED", house.tale(run)
        assert run.done.exists()
        assert run.plan().job.method.learning_rate == rate
        assert "training finish in attempt 1" in house.hatrain("logs", run.name)
    assert house.hatrain("status", "rates").count("finished") == 3


# --- what is asked for --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "job", "told"),
    [
        ({}, {"hardware__nodes": 4}, "Node count specification invalid"),
        (
            {"gpus": {"h100-80gb": "h100"}},
            {"hardware__gpu": "h100-80gb"},
            "node configuration is not available",
        ),
        ({"partition": "nope"}, {}, "invalid partition specified: nope"),
        ({}, {"limits__time": "72:00:00"}, "time limit is invalid"),
        ({"directives": {"no-such-option": "x"}}, {}, "unrecognized option '--no-such-option=x'"),
    ],
)
def test_an_impossible_request_is_refused_with_the_reason_of_slurm_and_nothing_is_written(
    house, place, job, told
):
    words = [str(house.job(**job)), "--cluster", str(house.place(**place))]
    said = house.hatrain("submit", *words, code=2)
    assert told in said
    assert len([line for line in said.splitlines() if line.startswith("sbatch:")]) == 1
    assert not house.run().folder.exists()


@pytest.mark.parametrize("style", ["gpus-per-node", "gres"])
def test_gpus_of_a_type_land_on_the_node(house, style):
    run = house.submit(
        place={"gpus_style": style, "gpus": {"a100-80gb": "a100"}},
        hardware={"gpu": "a100-80gb", "gpus_per_node": 4},
    )
    house.until(lambda: list(run.folder.glob("environ-0")), run)
    assert "gpu:a100:4" in house.cluster.tell("scontrol", "show", "job", "-d", house.id(run))
    assert around(run)["CUDA_VISIBLE_DEVICES"] == "0,1,2,3"
    # What a daemon beside the job, such as docker's, has to be told.
    assert around(run)["SLURM_STEP_GPUS"] == "0,1,2,3"


def test_a_node_has_what_a_careful_person_would_have_set(house):
    run = house.submit(place={"cpus_per_gpu": 3}, hardware__nodes=2)
    assert house.ended(run) == "COMPLETED", house.tale(run)
    nodes = [around(run, node) for node in (0, 1)]
    assert {node["MASTER_PORT"] for node in nodes} == {str(10000 + int(house.id(run)) % 20000)}
    assert {node["MASTER_ADDR"] for node in nodes} == {nodes[0]["SLURMD_NODENAME"]}
    assert {node["SLURM_CPUS_PER_TASK"] for node in nodes} == {"3"}
    # Well before Slurm would end the ranks, and this entry with them.
    assert {node["HATRAIN_STOP_GRACE"] for node in nodes} == {"270"}
    # Of the node's own disk, and away with the job.
    for variable in ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"):
        caches = {node[variable] for node in nodes}
        assert len(caches) == 2 and all(cache.startswith("/tmp/hatrain-") for cache in caches)
        assert not [cache for cache in caches if Path(cache).parent.exists()]


def test_a_persons_own_variables_of_sbatch_do_not_overrule_the_cluster_file(house):
    house.cluster.environ |= {"SBATCH_PARTITION": "spot", "SLURM_MEM_PER_CPU": "7", "SBATCH_TIMELIMIT": "3"}
    try:
        run = house.submit()
        assert house.ended(run) == "COMPLETED", house.tale(run)
    finally:
        for name in ("SBATCH_PARTITION", "SLURM_MEM_PER_CPU", "SBATCH_TIMELIMIT"):
            del house.cluster.environ[name]
    assert house.slurm(run, "%P %l") == "gpu 20:00"


# --- by hand ------------------------------------------------------------------------------------------------


def test_what_render_wrote_to_a_folder_starts_with_the_command_that_it_names(house):
    words = [str(house.job()), "--cluster", str(house.place()), "--out", "written out"]
    said = house.hatrain("render", *words)
    command = said.rpartition("to start it: ")[2].strip()
    told = subprocess.run(
        ["bash", "-c", command],
        cwd="/",
        env=house.cluster.environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.returncode == 0, told.stderr
    assert house.over(told.stdout.split()[-1]) == "COMPLETED", house.tale(house.run())
    assert house.run().done.exists()


# --- odd values ---------------------------------------------------------------------------------------------

ODD = 'ünder "the" $HOME; touch CANARY # it\'s `touch CANARY` $(touch CANARY) 100%'
LINES = f"{ODD}\ntouch CANARY\nEND\n"


@pytest.mark.parametrize("way", ["submit", "stream", "sweep"])
def test_odd_names_and_values_neither_break_nor_run_anything(slurm, tmp_path, way):
    house = House(tmp_path / ODD, slurm)
    place = house.place(
        ODD.replace("/", ""),
        environment={"ODD": LINES},
        directives={"comment": ODD},
        setup=["printf '%s' \"$ODD_OUTSIDE\" > /dev/null"],
    )
    house.cluster.environ["ODD_OUTSIDE"] = LINES
    (house.folder / "train.jsonl").rename(house.folder / f"{ODD}.jsonl")
    words = [str(house.job(data__train=f"{ODD}.jsonl", hardware__nodes=2)), "--cluster", str(place)]
    if way == "stream":
        job, run = by_hand(house, text=rendered(house, *words)), house.run()
    elif way == "sweep":
        house.hatrain("submit", *words, "--sweep", "seed=1,2")
        run = house.run("kitchen/sweep/0")
        job = house.id(run)
    else:
        house.hatrain("submit", *words)
        job, run = house.id(house.run()), house.run()
    assert house.over(job) == "COMPLETED", house.tale(run)
    assert around(run)["ODD"] == around(run, 1)["ODD"] == LINES
    assert f"Comment={ODD}" in house.cluster.tell("scontrol", "show", "job", job)
    assert not list(tmp_path.rglob("CANARY"))
