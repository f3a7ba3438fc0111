"""Every verb from a laptop: a real ssh, a real rsync and a real Slurm, with a stand-in for the trainer."""

import json
import sys

from hatrain.contract import variables
from hatrain.runtime import seal
from tests.slurm.cluster import DEADLINE
from tests.slurm.ssh.laptop import jobs_of
from tests.slurm.workspace import calls, environment

WAITS = {"directives": {"begin": "now+3600"}}


def test_a_job_runs_on_the_cluster_with_the_files_of_the_laptop(laptop):
    cluster = laptop.cluster_file(secrets={"GIVEN_TOKEN": {"file": "~/token"}})
    token = laptop.sshd.home / "token"
    token.write_text("from the cluster")
    token.chmod(0o600)
    laptop.environ["HF_TOKEN"] = "from the laptop"
    output = laptop.hatrain("submit", laptop.job_file(), "--cluster", cluster, "--snapshot", "--follow")
    assert "sending 1 file, 144 bytes, to my-hpc:" in output and "training finish in attempt 1" in output
    there = laptop.there.run()
    assert (laptop.there.folder / "train.jsonl").read_text() == (laptop.folder / "train.jsonl").read_text()
    assert calls(there) == ["training finish"] and (there.folder / "code/launch/submit.py").is_file()
    seen = environment(there)
    assert (seen.get("HF_TOKEN"), seen["GIVEN_TOKEN"]) == (None, "from the cluster")
    assert "training finish in attempt 1" in laptop.hatrain("logs", "kitchen")
    assert laptop.hatrain("wait", "kitchen") == "kitchen: finished (0)\n"
    assert "has finished already" in laptop.hatrain("submit", laptop.job_file(), "--cluster", cluster)

    pulled = laptop.hatrain("pull", "kitchen").splitlines()
    run = laptop.run()
    assert pulled[-3:] == [f"kitchen: {run.folder}", f"kitchen: {run.model}", "kitchen: models/kitchen"]
    assert seal.verify(run.model) is None and (laptop.folder / "models/kitchen/weights").read_text() == "trained"
    assert "report.html" in laptop.hatrain("report", "kitchen")

    laptop.hatrain("submit", laptop.job_file(), "--cluster", laptop.cluster_file(**WAITS), "--fresh")
    assert [len(list(each.glob("kitchen*"))) for each in (laptop.folder / "runs", there.root)] == [2, 2]
    assert laptop.state() == "queued" and not there.done.exists()
    laptop.hatrain("cancel", "kitchen")
    assert laptop.state() == "cancelled"


def test_a_run_is_followed_and_stopped_while_connections_break(laptop):
    laptop.submit(behavior="stop")
    followed, waited = laptop.folder / "followed", laptop.folder / "waited"
    following = laptop.start("logs", "kitchen", "--follow", output=followed)
    waiting = laptop.start("wait", "kitchen", output=waited)
    laptop.there.until_text(followed, "training stop in attempt 1")
    assert laptop.state() == "running"
    laptop.sshd.stop()
    for output in (followed, waited):
        laptop.there.until_text(output, "my-hpc: lost the connection")
    refused = laptop.hatrain("stop", "kitchen", code=1)
    laptop.sshd.start()
    assert "my-hpc: " in refused and "refused" in refused
    assert "saves a checkpoint" in laptop.hatrain("stop", "kitchen")
    assert (following.wait(DEADLINE), waiting.wait(DEADLINE)) == (130, 130), followed.read_text() + waited.read_text()
    assert followed.read_text().count("training stop in attempt 1") == 1
    assert followed.read_text().count("my-hpc: lost the connection") == 1
    assert laptop.state() == "stopped"


def test_the_runs_of_a_sweep_share_every_session(laptop):
    job, cluster = laptop.job_file("rates"), laptop.cluster_file(**WAITS)
    output = laptop.hatrain("submit", job, "--cluster", cluster, "--sweep", "method.learning_rate=1e-5,2e-5,3e-5")
    (job_id,) = set(jobs_of(laptop, "rates"))
    assert [line.split("(job ")[1] for line in output.splitlines() if "is submitted" in line] == [
        f"{job_id}_0)",
        f"{job_id}_1)",
        f"{job_id}_2)",
    ]
    laptop.hatrain("submit", laptop.job_file("other"), "--cluster", cluster)
    before = laptop.sessions()
    assert laptop.hatrain("runs").count("queued") == 4
    # One that lists the files of all runs, and one that asks squeue. What was not known yet is fetched by a third.
    assert laptop.sessions() - before <= 3
    laptop.hatrain("cancel", "rates")
    assert laptop.hatrain("status", "rates").count("cancelled") == 3
    laptop.hatrain("cancel", "other")


def test_a_checkpoint_is_pulled_while_the_run_goes_on_and_never_half_of_one(laptop):
    laptop.hatrain("submit", laptop.job_file(), "--cluster", laptop.cluster_file(**WAITS))
    there, here = laptop.there.run(), laptop.run()
    assert "has no model and no whole checkpoint yet" in laptop.hatrain("pull", "kitchen", "--model")
    identity = there.plan().identity
    for step in (5, 10):
        seal.write_text(there.folder / "aside/weights", f"of step {step}")
        seal.seal(there.folder / "aside", there.checkpoints / f"checkpoint-{step}", identity=identity, step=step)
    # One that is being written, one that is damaged.
    seal.write_text(there.checkpoints / ".partial-checkpoint-15/weights", "half")
    seal.write_text(there.checkpoints / "checkpoint-15/weights", "half")
    assert "its checkpoint of step 10" in laptop.hatrain("pull", "kitchen", "--model")
    assert [path.name for path in here.checkpoints.iterdir()] == ["checkpoint-10"]
    assert seal.verify(here.checkpoints / "checkpoint-10") is None
    seal.append_line(there.metrics, {"step": 10, "steps": 40, "loss": 1.5})
    seal.write_text(there.evaluation, "{}")
    laptop.hatrain("pull", "kitchen", "--metrics")
    assert json.loads(here.metrics.read_text())["step"] == 10 and here.evaluation.exists()
    assert "10/40" in laptop.hatrain("status", "kitchen")
    laptop.hatrain("cancel", "kitchen")


def test_what_another_laptop_has_submitted_is_not_replaced(laptop):
    cluster = laptop.cluster_file(**WAITS)
    laptop.hatrain("submit", laptop.job_file(), "--cluster", cluster)
    (laptop.folder / "runs").rename(laptop.folder / "runs of the other")
    other = laptop.hatrain("submit", laptop.job_file(method__epochs=3), "--cluster", cluster, code=2)
    assert "is queued already" in other
    laptop.hatrain("cancel", "kitchen")
    changed = laptop.hatrain("submit", laptop.job_file(method__epochs=3), "--cluster", cluster, code=2)
    assert "holds another job of this name; use --fresh" in changed and "method.epochs: 1.0 → 3.0" in changed


def test_inputs_are_sent_once_asked_for_or_refused(laptop):
    cluster = laptop.cluster_file(**WAITS)
    (laptop.there.folder / "only there.jsonl").write_text('{"text": "hello"}\n' * 8)
    (laptop.folder / "base").mkdir()
    (laptop.folder / "base/config.json").write_text("{}")
    data = {"train": ["train.jsonl", str(laptop.there.folder / "only there.jsonl")], "test": "only there.jsonl"}
    first = laptop.hatrain("submit", laptop.job_file("first", data=data, model__base="./base"), "--cluster", cluster)
    assert first.count("sending 1 file") == 2
    assert (laptop.there.folder / "base/config.json").read_text() == "{}"
    second = laptop.hatrain("submit", laptop.job_file("second"), "--cluster", cluster)
    assert "sending" not in second
    (laptop.folder / "train.jsonl").write_text('{"text": "goodbye"}\n' * 8)
    third = laptop.hatrain("submit", laptop.job_file("third"), "--cluster", cluster, code=2)
    assert "train.jsonl: differs from the one that first was submitted with, which is not finished" in third
    laptop.hatrain("cancel", "first")
    laptop.hatrain("cancel", "second")
    assert "sending 1 file" in laptop.hatrain("submit", laptop.job_file("third"), "--cluster", cluster)
    assert "goodbye" in (laptop.there.folder / "train.jsonl").read_text()
    laptop.hatrain("cancel", "third")

    data = {"train": "nowhere.jsonl", "test": str(laptop.folder / "train.jsonl")}
    refused = laptop.hatrain("submit", laptop.job_file("fourth", data=data), "--cluster", cluster, code=2)
    assert f"data.train: nowhere.jsonl: no such file here (from {laptop.folder}), nor on my-hpc" in refused
    # The cluster of the test is this machine, so that an absolute path is there too.
    assert "data.test" not in refused
    assert not (laptop.folder / "runs/fourth").exists()


def test_a_folder_that_both_machines_see_is_refused_since_one_would_be_the_copy_of_itself(laptop):
    cluster = laptop.cluster_file(**WAITS, ssh={"host": "my-hpc", "workdir": str(laptop.folder)})
    output = laptop.hatrain("submit", laptop.job_file("shared"), "--cluster", cluster, code=2)
    assert "use a cluster file without ssh, or another ssh.workdir" in output
    assert jobs_of(laptop, "shared") == []
    assert "use a cluster file without ssh here" in laptop.hatrain("status", "shared")


def test_without_a_connection_one_line_says_why_and_nothing_is_written(laptop):
    laptop.sshd.stop()
    try:
        output = laptop.hatrain("submit", laptop.job_file(), "--cluster", laptop.cluster_file(), code=2)
    finally:
        laptop.sshd.start()
    (line,) = [line for line in output.splitlines() if not line.startswith("note:")]
    assert line.startswith("my-hpc: ssh: connect to host 127.0.0.1") and line.endswith("Connection refused")
    assert not (laptop.folder / "runs").exists()


def test_a_connection_that_the_user_has_opened_is_used_and_a_login_that_needs_more_fails_at_once(laptop):
    """As on a site with one-time codes: without the user's connection nobody can log in."""
    with laptop.sshd.open_connection(), laptop.sshd.locked():
        laptop.hatrain("submit", laptop.job_file(), "--cluster", laptop.cluster_file(**WAITS))
        assert laptop.state() == "queued"
    with laptop.sshd.locked():
        output = laptop.hatrain("status", "kitchen")
        assert "unknown" in output and "Permission denied" in output and "try: ssh my-hpc true" in output
    laptop.hatrain("cancel", "kitchen")


def test_what_start_up_files_print_there_is_left_out_and_rsync_says_what_to_change(laptop):
    profile = laptop.sshd.home / ".bash_profile"
    profile.write_text("echo welcome; echo careful >&2; cat > /dev/null\n")
    try:
        laptop.hatrain("submit", laptop.job_file(), "--cluster", laptop.cluster_file(**WAITS))
        assert laptop.state() == "queued"
        laptop.hatrain("cancel", "kitchen")
    finally:
        profile.unlink()
    start_up = laptop.sshd.home / ".bashrc"
    start_up.write_text("echo welcome\n")
    try:
        output = laptop.hatrain("doctor", "--cluster", laptop.cluster_file(), code=1)
        assert "let it print only on a terminal" in " ".join(output.split())
    finally:
        start_up.unlink()


def test_a_submission_whose_connection_is_cut_while_slurm_works_is_sent_once(laptop):
    """sbatch waits until the connection is cut; hatrain connects again, and waits for the first session's result."""
    gate = laptop.sshd.hold_sbatch()
    process = laptop.start("submit", laptop.job_file("cut"), "--cluster", laptop.cluster_file(**WAITS))
    laptop.there.until(lambda: gate.is_waiting)
    laptop.sshd.cut()
    laptop.there.until(lambda: laptop.sshd.sessions() > 0)
    gate.open()
    output, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0 and "my-hpc: lost the connection" in output, output
    (job,) = jobs_of(laptop, "cut")
    assert f"cut is submitted to my-hpc (job {job})" in output
    laptop.hatrain("cancel", "cut")


def test_doctor_names_what_the_cluster_lacks(laptop):
    def doctor(code: int, **cluster: object) -> str:
        return " ".join(laptop.hatrain("doctor", "--cluster", laptop.cluster_file(**cluster), code=code).split())

    output = doctor(0, python=variables.literal(sys.executable))
    assert [f"{check} ok" in output for check in ("ssh", "rsync", "Slurm", "workdir", "hatrain")] == [True] * 5, output
    secrets = {"HF_TOKEN": {"file": "~/absent"}}
    output = doctor(1, python="/no/python", secrets=secrets, ssh={"host": "my-hpc", "workdir": "/proc/x"})
    assert "workdir bad /proc/x" in output and "~/absent: cannot be read on my-hpc" in output
    assert "hatrain bad /no/python" in output and "name its environment in the cluster file" in output
    output = doctor(1, ssh={"host": "no-such-host.invalid", "workdir": "/x"})
    assert "ssh bad no-such-host.invalid: ssh: Could not resolve" in output
    assert "found one without ssh" in laptop.hatrain("doctor", "--cluster", "local", code=2)
