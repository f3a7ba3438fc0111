"""The Kubernetes client with a stand-in for kubectl: which commands it runs, and how it reads their output."""

import json
import sys
import time
from pathlib import Path

import pytest
import yaml

from hatrain.contract.cluster import KubernetesCluster
from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput
from launch import planner
from launch.backends import backend
from launch.backends.kubernetes import kubectl, reader, render
from launch.backends.protocol import JobState, PlannedRun
from tests.kubernetes.objects import condition, job, jobset, listed, pod
from tests.launch.rendering import files
from tests.plans import a_job

STUB = Path(__file__).with_name("kubectl_stub.py")
FINISHED = condition("Complete")
NO_GPU = "0/9 nodes are available: 9 Insufficient nvidia.com/gpu."


class Stub:
    """The answers of the stand-in, and the calls that it recorded."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.answers: list[dict] = []

    def answer(self, *arguments, **answer):
        """Answer calls that contain these arguments; the first answer that matches is stdin. `objects` are listed as
        JSON."""
        if "objects" in answer:
            answer["stdout"] = json.dumps(listed(*answer.pop("objects")))
        self.answers.append({"arguments": arguments, **answer})
        (self.folder / "answers.json").write_text(json.dumps(self.answers))

    def calls(self, verb=None):
        """(arguments, stdin) of each call, without context and namespace."""
        path = self.folder / "calls.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        for line in lines:
            assert line["arguments"][:4] == ["--context", "my-cluster", "--namespace", "team"]
        found = [(line["arguments"][4:], line["stdin"]) for line in lines]
        return [one for one in found if verb is None or one[0][0] == verb]


@pytest.fixture
def stub(tmp_path, monkeypatch):
    programs, folder = tmp_path / "bin", tmp_path / "stub"
    programs.mkdir()
    folder.mkdir()
    # This interpreter, without what makes it start slowly.
    first, _, rest = STUB.read_text().partition("\n")
    assert first.startswith("#!")
    (programs / "kubectl").write_text(f"#!{sys.executable} -IS\n{rest}")
    (programs / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    monkeypatch.setenv("KUBECTL_STUB", str(folder))
    return Stub(folder)


def a_cluster(**changes) -> KubernetesCluster:
    written = {
        "kind": "kubernetes",
        "context": "my-cluster",
        "namespace": "team",
        "image": "hatrain@sha256:" + "0" * 64,
    }
    written |= {"runs": {"claim": "runs", "access": "ReadWriteMany"}, **changes}
    return KubernetesCluster.model_validate(written)


def planned(cluster=None, run=None, **changes) -> Plan:
    nowhere = Path("/nowhere")
    return planner.plan(a_job(**changes), cluster or a_cluster(), "k8s", workdir=nowhere, runs_root=nowhere, run=run)


def a_run(tmp_path, plan: Plan) -> RunDirectory:
    """The directory that a submission leaves on this machine."""
    inside = Path(plan.paths.run).relative_to("/workspace/runs")
    run = RunDirectory(tmp_path / "runs" / inside)
    run.adopt(plan, files(plan))
    return run


def client(cluster=None):
    return backend(cluster or a_cluster()).client()


def submission(tmp_path, *plans, cluster=None):
    """(submission with its files written, client)."""
    runs = [PlannedRun(a_run(tmp_path, plan), plan, files(plan)) for plan in plans]
    folder = runs[0].directory.folder if len(plans) == 1 else tmp_path / "runs" / "kitchen"
    sender = client(cluster)
    submission = sender.submission(runs, folder, None)
    for path, text in submission.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return submission, sender


def names(stream: str) -> list[str]:
    return [f"{one['kind']} {one['metadata']['name']}" for one in yaml.safe_load_all(stream)]


# --- submitting ---------------------------------------------------------------------------------------------


def test_a_submission_is_applied_by_the_server_from_the_file_of_the_run(tmp_path, stub):
    sent, _ = submission(tmp_path, planned())
    result = " ".join(sent.command)
    assert result == (
        "kubectl --context my-cluster --namespace team apply --server-side --field-manager=hatrain "
        f"--filename {tmp_path}/runs/kitchen/launch/manifests.yaml"
    )
    assert sent.files == {}
    assert stub.calls() == []


def test_a_sweep_is_one_file_with_a_job_for_each_run(tmp_path, stub):
    sent, _ = submission(tmp_path, *(planned(run=f"kitchen/sweep/{k}", seed=k) for k in (1, 2)))
    assert sent.command[-1] == f"{tmp_path}/runs/kitchen/launch/manifests.yaml"
    jobs = [name for name in names(sent.files["launch/manifests.yaml"]) if name.startswith("Job")]
    assert jobs == ["Job kitchen-sweep-1", "Job kitchen-sweep-2"]


def test_the_server_checks_exactly_what_would_be_sent(tmp_path, stub):
    sent, sender = submission(tmp_path, planned())
    stub.answer("get", "job.batch", "kitchen", stdout="")
    stub.answer("apply", "--dry-run=server", stdout="job.batch/kitchen serverside-applied (server dry run)")
    sender.check(sent)
    ((arguments, stdin),) = stub.calls("apply")
    assert arguments == [
        "apply", "--server-side", "--field-manager=hatrain", "--dry-run=server", "--filename", "-"
    ]  # fmt: skip
    assert stdin == sent.runs[0].files["launch/manifests.yaml"]


def test_a_refusal_has_the_message_of_the_server(tmp_path, stub):
    reason = (
        'Error from server (Forbidden): jobs.batch "kitchen" is forbidden: User "ada" cannot patch resource '
        '"jobs" in API group "batch" in the namespace "team"'
    )
    sent, sender = submission(tmp_path, planned())
    stub.answer("get", stdout="")
    stub.answer("apply", stderr=f"Warning: resource is old\n{reason}\n", code=1)
    with pytest.raises(BadInput) as raised:
        sender.check(sent)
    assert raised.value.problems == (f"kubectl apply: {reason}",)


def test_a_pod_security_warning_is_a_refusal_and_other_warnings_are_notes(tmp_path, stub):
    sent, sender = submission(tmp_path, planned())
    stub.answer("get", stdout="")
    violation = 'Warning: would violate PodSecurity "restricted:latest": seccompProfile (pod or containers ...)'
    stub.answer("apply", stderr=f"{violation}\n", times=1)
    stub.answer("apply", stderr="Warning: batch/v0 is deprecated\n")
    with pytest.raises(BadInput, match=r"the namespace team would refuse the pods: .*seccompProfile"):
        sender.check(sent)
    assert sender.check(sent) == ["kubectl: Warning: batch/v0 is deprecated"]


@pytest.mark.parametrize(
    ("existing", "message"),
    [
        (job("kitchen"), "kitchen: its Job kitchen is not finished; first: hatrain cancel kitchen"),
        (job("kitchen", deleting=True), "kitchen: its Job kitchen is still being deleted"),
        (
            job("kitchen", FINISHED, run="Kitchen"),
            "the Job kitchen belongs to the run Kitchen; give this run",
        ),
    ],
)
@pytest.mark.parametrize("call", ["check", "start"])
def test_a_job_in_use_or_of_another_run_is_left_alone(tmp_path, stub, existing, message, call):
    sent, sender = submission(tmp_path, planned())
    stub.answer("get", stdout=json.dumps(existing))
    with pytest.raises(BadInput, match=message):
        getattr(sender, call)(sent)
    assert [arguments[0] for arguments, _ in stub.calls()] == ["get"]


def test_a_job_that_hatrain_did_not_create_is_left_alone(tmp_path, stub):
    sent, sender = submission(tmp_path, planned())
    foreign = job("kitchen", FINISHED)
    del foreign["metadata"]["annotations"]
    stub.answer("get", stdout=json.dumps(foreign))
    with pytest.raises(BadInput, match="the Job kitchen was not created by hatrain; give this run another name"):
        sender.start(sent)


def test_if_a_finished_job_will_be_replaced_the_server_checks_under_another_name(tmp_path, stub):
    sent, sender = submission(tmp_path, planned(hardware__nodes=2))
    stub.answer("get", stdout=json.dumps(job("kitchen", FINISHED)))
    stub.answer("apply")
    sender.check(sent)
    ((_, stdin),) = stub.calls("apply")
    kinds = [name.partition(" ") for name in names(stdin)]
    assert [kind for kind, _, _ in kinds] == ["ConfigMap", "Service", "Job"]
    assert all(name.startswith("kitchen-dry-run") for _, _, name in kinds)


def test_a_start_deletes_old_objects_applies_and_makes_the_job_the_owner_of_the_others(tmp_path, stub):
    sent, sender = submission(tmp_path, planned(hardware__nodes=2))
    stub.answer("get", stdout=json.dumps(job("kitchen", FINISHED)))
    stub.answer("delete")
    stub.answer("apply")
    assert sender.start(sent) == ["kitchen"]
    assert [arguments[0] for arguments, _ in stub.calls()] == ["get", "delete", "apply", "get", "apply"]
    ((deleted, _),) = stub.calls("delete")
    assert deleted[1:4] == [
        "job.batch,service,configmap",
        "--selector",
        "app.kubernetes.io/name=hatrain,app.kubernetes.io/instance in (kitchen)",
    ]
    assert "--wait=true" in deleted
    (applied, _), (owned, stdin) = stub.calls("apply")
    assert tuple(applied) == sent.command[5:]
    assert "--field-manager=hatrain-ownership" in owned
    parts = json.loads(stdin)["items"]
    assert [(one["kind"], one["metadata"]["name"]) for one in parts] == [
        (one["kind"], one["metadata"]["name"]) for one in render.parts(sent.runs[0].plan, a_cluster())
    ]
    assert all(set(one) == {"apiVersion", "kind", "metadata"} for one in parts)
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "kitchen", "uid": "uid-of-kitchen"}
    assert all(one["metadata"]["ownerReferences"] == [owner] for one in parts)


def test_a_jobset_is_named_with_its_api_group(tmp_path, stub):
    cluster = a_cluster(controller="jobset")
    sent, sender = submission(tmp_path, planned(cluster), cluster=cluster)
    stub.answer("get", stderr='error: the server doesn\'t have a resource type "jobset"\n', code=1)
    with pytest.raises(BadInput, match=r"kubectl get: error: the server doesn't have a resource type"):
        sender.check(sent)
    assert stub.calls()[0][0][1] == "jobset.jobset.x-k8s.io"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"code": 0}, ""),
        ({"code": 1, "stdout": "-  cpu: 8\n+  cpu: 16\n"}, "-  cpu: 8\n+  cpu: 16\n"),
        ({"code": 2, "stderr": "The Job is invalid: spec.template: field is immutable"}, None),
    ],
)
def test_the_server_reports_what_would_change(tmp_path, stub, answer, expected):
    sent, sender = submission(tmp_path, planned())
    stub.answer("diff", **answer)
    assert sender.diff(sent) == expected
    ((arguments, stdin),) = stub.calls("diff")
    assert arguments == ["diff", "--server-side", "--field-manager=hatrain", "--filename", "-"]
    assert stdin == sent.runs[0].files["launch/manifests.yaml"]


def test_a_diff_that_fails_is_one_line(tmp_path, stub):
    sent, sender = submission(tmp_path, planned())
    stub.answer("diff", code=2, stderr="error: dial tcp 10.0.0.1:443:\n connection refused\n")
    with pytest.raises(BadInput, match=r"^kubectl diff: error: dial tcp 10.0.0.1:443: connection refused$"):
        sender.diff(sent)


# --- kubectl itself -----------------------------------------------------------------------------------------


def test_a_missing_kubectl_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    sent, sender = submission(tmp_path, planned())
    with pytest.raises(BadInput, match=r"^kubectl: not found; install it, or pipe the output of hatrain render to .*$"):
        sender.check(sent)


LOGGED = 'E1125 14:55:04.942032    3908 memcache.go:265] "Unhandled Error" err="connection refused"\n'
REFUSED = "The connection to the server localhost:8080 was refused"


@pytest.mark.parametrize(
    ("stderr", "message"), [(LOGGED * 2 + REFUSED, REFUSED), (LOGGED * 2, "E1125 .*connection refused.")]
)
def test_log_lines_of_kubectl_are_left_out_before_an_error_message(tmp_path, stub, stderr, message):
    stub.answer("get", code=1, stderr=stderr)
    with pytest.raises(BadInput, match=f"^kubectl get: {message}$"):
        client().states({"kitchen": a_run(tmp_path, planned())})


def test_a_server_that_does_not_answer_is_one_line(tmp_path, stub, monkeypatch):
    monkeypatch.setattr(kubectl.Kubectl.run, "__kwdefaults__", {"stdin": None, "accepted": (0,), "seconds": 0.5})
    stub.answer("get", sleep=30)
    with pytest.raises(BadInput, match=r"^kubectl get: no answer within 0.5 s; try: kubectl --context my-cluster .*$"):
        client().states({"kitchen": a_run(tmp_path, planned())})


@pytest.mark.parametrize("nonsense", ["Unable to connect", "[]", "{}", '{"kind": "List", "items": [{}]}', "null", "7"])
def test_output_that_is_no_list_of_objects_is_one_line(tmp_path, stub, nonsense):
    stub.answer("get", stdout=nonsense)
    with pytest.raises(BadInput, match=r"^kubectl get: printed '.*', which is no list of objects; try: kubectl .*$"):
        client().states({"kitchen": a_run(tmp_path, planned())})


def test_a_failure_of_kubectl_without_a_message_is_one_line(tmp_path, stub):
    stub.answer("get", code=7)
    with pytest.raises(BadInput, match=r"^kubectl get: exit code 7 and no message$"):
        client().states({"kitchen": a_run(tmp_path, planned())})


# --- states -------------------------------------------------------------------------------------------------

EXIT_78 = "Container hatrain for pod team/kitchen-0-m01 failed with exit code 78 matching FailJob rule at index 0"
EXIT_130 = EXIT_78.replace("78", "130")
STAGES = {
    "unknown": ([], JobState("unknown")),
    "new": ([job("kitchen")], JobState("queued", "has no pod yet; see: kubectl describe job kitchen")),
    "suspended by Kueue": (
        [job("kitchen", suspend=True, queue="team-a")],
        JobState("queued", "the queue team-a has not admitted it"),
    ),
    "no room": (
        [job("kitchen"), pod("kitchen", "Pending", unschedulable=NO_GPU)],
        JobState("queued", f"kitchen-0-m01: {NO_GPU}", advice="no node has so many free: wait, or ask for fewer"),
    ),
    "no image": (
        [job("kitchen"), pod("kitchen", "Pending", waiting=("ImagePullBackOff", "no such image"))],
        JobState("queued", "kitchen-0-m01: ImagePullBackOff: no such image", advice="check image and pull_secrets"),
    ),
    "running": ([job("kitchen"), pod("kitchen", "Running")], JobState("running")),
    "running on one of two nodes": (
        [
            job("kitchen", nodes=2),
            pod("kitchen", "Running"),
            pod("kitchen", "Pending", index=1, unschedulable=NO_GPU),
        ],
        JobState(
            "running",
            f"1 of 2 pods run; kitchen-1-m01: {NO_GPU}",
            advice="no node has so many free: wait, or ask for fewer",
        ),
    ),
    "running again": (
        [job("kitchen"), pod("kitchen", "Failed", code=137), pod("kitchen", "Running", minute=5)],
        JobState("running"),
    ),
    "between two attempts": (
        [job("kitchen"), pod("kitchen", "Failed", code=75), pod("kitchen", "Failed", code=137, minute=7)],
        JobState("queued", "restarts after exit code 137"),
    ),
    "cancelled, within its grace period": (
        [job("kitchen", deleting=True), pod("kitchen", "Running")],
        JobState("running", "being deleted"),
    ),
    "finished": (
        [job("kitchen", condition("SuccessCriteriaMet"), FINISHED), pod("kitchen", "Succeeded", code=0)],
        JobState("ended", code=0),
    ),
    "failed for good": (
        [job("kitchen", condition("Failed", "PodFailurePolicy", EXIT_78)), pod("kitchen", "Failed", code=78)],
        JobState("ended", f"PodFailurePolicy: {EXIT_78}", 78),
    ),
    "stopped by the user after a fault of a peer": (
        [
            job("kitchen", condition("Failed", "PodFailurePolicy", EXIT_130), nodes=2),
            pod("kitchen", "Failed", code=130),
            pod("kitchen", "Failed", code=137, index=1, minute=9),
        ],
        JobState("ended", f"PodFailurePolicy: {EXIT_130}", 130),
    ),
    "backoff limit reached": (
        [
            job(
                "kitchen",
                condition("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"),
            ),
            pod("kitchen", "Failed", code=1),
            pod("kitchen", "Failed", code=137, minute=9),
        ],
        JobState("ended", "BackoffLimitExceeded: Job has reached the specified backoff limit", 137),
    ),
    "failed, its pods deleted": (
        [job("kitchen", condition("Failed", "BackoffLimitExceeded"))],
        JobState("ended", "BackoffLimitExceeded"),
    ),
    "of another run": (
        [job("kitchen", run="Kitchen")],
        JobState("unknown", "the Job kitchen now belongs to the run Kitchen"),
    ),
}


@pytest.mark.parametrize("stage", STAGES)
def test_the_state_of_a_job_at_each_stage(tmp_path, stub, stage):
    objects, expected = STAGES[stage]
    stub.answer("get", "job.batch,pod", objects=objects)
    stub.answer("get", "event", objects=[])
    assert client().states({"kitchen": a_run(tmp_path, planned())}) == {"kitchen": expected}


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        (
            [jobset("kitchen", nodes=2)],
            JobState("queued", "has no pod yet; see: kubectl describe jobset kitchen"),
        ),
        ([jobset("kitchen", nodes=2), pod("kitchen", "Running")], JobState("running", "1 of 2 pods run")),
        ([jobset("kitchen", condition("Completed", "AllJobsCompleted"))], JobState("ended", code=0)),
        (
            [
                jobset("kitchen", condition("Failed", "FailJobSetFailurePolicyAction", "failed")),
                job("kitchen-node-0", condition("Failed", "PodFailurePolicy", EXIT_78), of="kitchen"),
            ],
            JobState("ended", "FailJobSetFailurePolicyAction: failed", 78),
        ),
    ],
)
def test_the_state_of_a_jobset_at_each_stage(tmp_path, stub, objects, expected):
    cluster = a_cluster(controller="jobset")
    stub.answer("get", "jobset.jobset.x-k8s.io,job.batch,pod", objects=objects)
    stub.answer("get", "event", objects=[])
    assert client(cluster).states({"kitchen": a_run(tmp_path, planned(cluster))}) == {"kitchen": expected}


def test_many_jobs_are_one_query(tmp_path, stub):
    run = a_run(tmp_path, planned())
    stub.answer("get", objects=[job("a", FINISHED, run="kitchen"), job("b", run="kitchen")])
    result = client().states({"a": run, "b": run, "c": run})
    assert [result[name].phase for name in "abc"] == ["ended", "queued", "unknown"]
    (arguments, _), (events, _) = stub.calls()
    assert events[:2] == ["get", "event"]
    assert arguments[arguments.index("--selector") + 1].endswith("app.kubernetes.io/instance in (a,b,c)")


def test_very_many_jobs_are_selected_by_their_common_label(tmp_path, stub):
    run = a_run(tmp_path, planned())
    stub.answer("get", objects=[])
    client().states({f"run-{number}": run for number in range(60)})
    ((arguments, _),) = stub.calls()
    assert arguments[arguments.index("--selector") + 1] == "app.kubernetes.io/name=hatrain"


def test_no_jobs_are_no_query(stub):
    assert client().states({}) == {}
    assert stub.calls() == []


# --- ending -------------------------------------------------------------------------------------------------


def test_a_cancelled_job_is_deleted_with_the_grace_period_of_its_pods(tmp_path, stub):
    stub.answer("get", "job.batch", stdout=json.dumps(job("kitchen")))
    stub.answer("get", "service,configmap", objects=[])
    stub.answer("delete")
    client().cancel("kitchen", a_run(tmp_path, planned()))
    ((arguments, _),) = stub.calls("delete")
    assert arguments[:3] == ["delete", "job.batch", "kitchen"]
    assert "--cascade=foreground" in arguments
    assert not [word for word in arguments if "grace" in word or "force" in word or "now" in word]


def test_a_job_that_now_belongs_to_another_run_is_not_cancelled(tmp_path, stub):
    stub.answer("get", stdout=json.dumps(job("kitchen", run="Kitchen")))
    with pytest.raises(BadInput, match="now belongs to the run Kitchen"):
        client().cancel("kitchen", a_run(tmp_path, planned()))
    assert stub.calls("delete") == []


def test_what_a_submission_left_is_removed_and_nothing_else(tmp_path, stub):
    def part(name: str, run: str, **meta) -> dict:
        about = {"name": name, "annotations": {render.RUN: run}, **meta}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about}

    owned = part("owned", "kitchen", ownerReferences=[{"uid": "1"}])
    stub.answer("get", objects=[part("left", "kitchen"), owned, part("other", "Kitchen")])
    stub.answer("delete")
    assert client().remove_rest("kitchen", a_run(tmp_path, planned()))
    ((arguments, _),) = stub.calls("delete")
    assert arguments == ["delete", "configmap/left", "--wait=false", "--ignore-not-found"]


def test_stop_runs_in_the_running_pod_of_the_first_node(tmp_path, stub):
    objects = [
        pod("kitchen", "Failed", code=75),
        pod("kitchen", "Running", index=1, minute=5),
        pod("kitchen", "Running", index=0, minute=6),
    ]
    stub.answer("get", "pod", objects=objects)
    stub.answer("exec", stdout="attempt 2 saves a checkpoint after its current step and exits\n")
    plan = planned(hardware__nodes=2)
    result = client().stop("kitchen", a_run(tmp_path, plan), 'stop; by "ada" $HOME')
    assert result == "attempt 2 saves a checkpoint after its current step and exits"
    ((arguments, _),) = stub.calls("exec")
    assert arguments[:5] == ["exec", "kitchen-0-m06", "--container", "hatrain", "--"]
    assert arguments[5:8] == ["bash", "/etc/hatrain/launch/stop.sh", "/workspace/runs/kitchen"]
    assert json.loads(arguments[-1]) == {"reason": 'stop; by "ada" $HOME', "requeue": False}


@pytest.mark.parametrize("objects", [[], [pod("kitchen", "Pending")], [pod("kitchen", "Running", run="Kitchen")]])
def test_a_stop_without_a_running_pod_says_what_to_do(tmp_path, stub, objects):
    stub.answer("get", objects=objects)
    with pytest.raises(BadInput, match=r"kitchen: no attempt is running; .*: hatrain cancel kitchen"):
        client().stop("kitchen", a_run(tmp_path, planned()), "why")


# --- reading ------------------------------------------------------------------------------------------------


def read_until(reader, expected: bytes) -> bytes:
    output, deadline = b"", time.monotonic() + 600
    while expected not in output and time.monotonic() < deadline:
        output += reader.read()
        time.sleep(0.02)
    return output


@pytest.fixture(autouse=True)
def frequent_queries(monkeypatch):
    monkeypatch.setattr(reader, "LOOK_SECONDS", 0.05)


def test_the_output_of_all_pods_of_a_node_is_read_in_order(tmp_path, stub):
    objects = [
        pod("kitchen", "Failed", code=75, minute=3),
        pod("kitchen", "Failed", code=1, minute=1),
        pod("kitchen", "Failed", code=1, minute=2, index=1),
        pod("kitchen", "Running", minute=9),
    ]
    stub.answer("get", objects=objects)
    stub.answer("logs", "kitchen-0-m01", stdout="first\n")
    stub.answer("logs", "kitchen-0-m03", stdout="second\n")
    stub.answer("logs", "kitchen-0-m09", "--follow", pieces=["third\n", "fourth\n"], sleep=0.3)
    stub.answer("logs", "kitchen-0-m09", stdout="third\n")
    plan = planned(hardware__nodes=2)
    reader = client().reader("kitchen", a_run(tmp_path, plan), node=0, whole=True)
    assert reader.read() == b"first\nsecond\nthird\n"
    assert read_until(reader, b"fourth") == b"fourth\n"
    reader.close()


def test_earlier_output_is_left_out_unless_all_is_asked_for(tmp_path, stub):
    stub.answer("get", objects=[pod("kitchen", "Failed", code=1), pod("kitchen", "Running", minute=5)])
    stub.answer("logs", "kitchen-0-m05", "--follow", pieces=["old\n", "new\n"], sleep=0.3)
    stub.answer("logs", "kitchen-0-m05", stdout="old\n")
    reader = client().reader("kitchen", a_run(tmp_path, planned()), node=0, whole=False)
    assert read_until(reader, b"new") == b"new\n"
    reader.close()
    assert not [arguments for arguments, _ in stub.calls("logs") if "kitchen-0-m01" in arguments]


def test_a_broken_connection_is_restored_without_repeating_output(tmp_path, stub):
    stub.answer("get", objects=[pod("kitchen", "Running")], times=2)
    stub.answer("get", objects=[pod("kitchen", "Succeeded", code=0)])
    stub.answer("logs", "--follow", stdout="one\ntwo\n", times=1)
    stub.answer("logs", "--follow", stdout="one\ntwo\nthree\n", code=1)
    stub.answer("logs", stdout="one\n", times=1)
    stub.answer("logs", stdout="one\ntwo\n", times=1)
    stub.answer("logs", stdout="one\ntwo\nthree\nfour\n")
    reader = client().reader("kitchen", a_run(tmp_path, planned()), node=0, whole=True)
    assert read_until(reader, b"four") == b"one\ntwo\nthree\nfour\n"
    assert reader.read() == b""
    reader.close()


def test_a_later_pod_is_read_from_its_beginning(tmp_path, stub):
    stub.answer("get", objects=[pod("kitchen", "Pending", unschedulable=NO_GPU)], times=2)
    stub.answer("get", objects=[pod("kitchen", "Succeeded", code=0)])
    stub.answer("logs", stdout="from the beginning\n")
    reader = client().reader("kitchen", a_run(tmp_path, planned()), node=0, whole=False)
    assert read_until(reader, b"\n") == b"from the beginning\n"
    reader.close()


def test_reading_survives_a_short_outage_but_not_a_server_that_never_answered(tmp_path, stub):
    stub.answer("get", objects=[], times=1)
    stub.answer("get", code=1, stderr="Unable to connect to the server: EOF", times=2)
    stub.answer("get", objects=[pod("kitchen", "Succeeded", code=0)], times=1)
    stub.answer("get", code=1, stderr="Unable to connect to the server: EOF")
    stub.answer("logs", stdout="at last\n")
    run = a_run(tmp_path, planned())
    reader = client().reader("kitchen", run, node=0, whole=True)
    assert read_until(reader, b"\n") == b"at last\n"
    reader.close()
    with pytest.raises(BadInput, match="kubectl get: Unable to connect to the server: EOF"):
        client().reader("kitchen", run, node=0, whole=True).read()


def test_closing_ends_kubectl(tmp_path, stub):
    stub.answer("get", objects=[pod("kitchen", "Running")])
    stub.answer("logs", "--follow", stdout="x\n", sleep=600)
    stub.answer("logs", stdout="")
    reader = client().reader("kitchen", a_run(tmp_path, planned()), node=0, whole=True)
    read_until(reader, b"x")
    start = time.monotonic()
    reader.close()
    assert time.monotonic() - start < 600


@pytest.mark.parametrize("node", [-1, 2])
def test_an_unknown_node_is_refused(tmp_path, stub, node):
    run = a_run(tmp_path, planned(hardware__nodes=2))
    with pytest.raises(BadInput, match=f"--node {node}: kitchen has nodes 0 to 1"):
        client().reader("kitchen", run, node=node, whole=True)
