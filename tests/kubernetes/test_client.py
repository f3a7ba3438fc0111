"""The client of Kubernetes against a kubectl that answers from a record: what is asked, in which order, and what is
made of the answers."""

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
from launch.backends import JobState, Member, client
from launch.backends.kubernetes import client as by_kubectl
from launch.backends.kubernetes import kubectl
from launch.backends.kubernetes import render as kubernetes
from tests.kubernetes.objects import condition, job, jobset, listed, pod
from tests.plans import a_job

STUB = Path(__file__).with_name("kubectl_stub.py")
FINISHED = condition("Complete")
NO_GPU = "0/9 nodes are available: 9 Insufficient nvidia.com/gpu."


class Stub:
    """The record that the stub answers from, and the calls that it wrote down."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.answers: list[dict] = []

    def answer(self, *words, **said):
        """Answer calls with these words; what is asked for first goes first. Objects are listed as JSON."""
        if "objects" in said:
            said["stdout"] = json.dumps(listed(*said.pop("objects")))
        self.answers.append({"words": words, **said})
        (self.folder / "answers.json").write_text(json.dumps(self.answers))

    def calls(self, verb=None):
        """Return (words, input) of each call, without whom it went to."""
        path = self.folder / "calls.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        for line in lines:
            assert line["words"][:4] == ["--context", "house", "--namespace", "team"]
        found = [(line["words"][4:], line["given"]) for line in lines]
        return [one for one in found if verb is None or one[0][0] == verb]


@pytest.fixture
def stub(tmp_path, monkeypatch):
    programs, folder = tmp_path / "bin", tmp_path / "stub"
    programs.mkdir()
    folder.mkdir()
    # This very interpreter, and nothing that takes it long to start.
    first, _, rest = STUB.read_text().partition("\n")
    assert first.startswith("#!")
    (programs / "kubectl").write_text(f"#!{sys.executable} -IS\n{rest}")
    (programs / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    monkeypatch.setenv("KUBECTL_STUB", str(folder))
    return Stub(folder)


def a_place(**changes) -> KubernetesCluster:
    written = {
        "kind": "kubernetes",
        "context": "house",
        "namespace": "team",
        "image": "hatrain@sha256:" + "0" * 64,
    }
    written |= {"runs": {"claim": "runs", "access": "ReadWriteMany"}, **changes}
    return KubernetesCluster.model_validate(written)


def planned(place=None, run=None, **changes) -> Plan:
    nowhere = Path("/nowhere")
    return planner.plan(
        a_job(**changes), place or a_place(), "k8s", workdir=nowhere, runs_root=nowhere, run=run
    )


def a_run(tmp_path, plan: Plan) -> RunDirectory:
    """Return the directory that a submission leaves here."""
    inside = Path(plan.paths.run).relative_to("/workspace/runs")
    run = RunDirectory(tmp_path / "runs" / inside)
    run.adopt(plan, kubernetes.files(plan))
    return run


def submission(tmp_path, *plans, place=None):
    """Return (submission, client), with its files written."""
    members = [Member(a_run(tmp_path, plan), plan, kubernetes.files(plan)) for plan in plans]
    folder = members[0].run.folder if len(plans) == 1 else tmp_path / "runs" / "kitchen"
    speaker = client(place or a_place())
    made = speaker.submission(members, folder, None)
    for path, text in made.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return made, speaker


def names(stream: str) -> list[str]:
    return [f"{one['kind']} {one['metadata']['name']}" for one in yaml.safe_load_all(stream)]


# --- submitting ---------------------------------------------------------------------------------------------


def test_what_is_sent_is_applied_by_the_server_from_the_runs_own_file(tmp_path, stub):
    made, _ = submission(tmp_path, planned())
    told = " ".join(made.command)
    assert told == (
        "kubectl --context house --namespace team apply --server-side --field-manager=hatrain "
        f"--filename {tmp_path}/runs/kitchen/launch/manifests.yaml"
    )
    assert made.files == {}
    assert stub.calls() == []


def test_a_sweep_is_sent_as_one_stream_with_a_job_for_each_run(tmp_path, stub):
    made, _ = submission(tmp_path, *(planned(run=f"kitchen/sweep/{k}", seed=k) for k in (1, 2)))
    assert made.command[-1] == f"{tmp_path}/runs/kitchen/launch/manifests.yaml"
    jobs = [name for name in names(made.files["launch/manifests.yaml"]) if name.startswith("Job")]
    assert jobs == ["Job kitchen-sweep-1", "Job kitchen-sweep-2"]


def test_the_server_is_asked_for_exactly_what_would_be_sent(tmp_path, stub):
    made, speaker = submission(tmp_path, planned())
    stub.answer("get", "job.batch", "kitchen", stdout="")
    stub.answer("apply", "--dry-run=server", stdout="job.batch/kitchen serverside-applied (server dry run)")
    speaker.check(made)
    ((words, given),) = stub.calls("apply")
    assert words == [
        "apply", "--server-side", "--field-manager=hatrain", "--dry-run=server", "--filename", "-"
    ]  # fmt: skip
    assert given == made.members[0].files["launch/manifests.yaml"]


def test_a_refusal_comes_in_the_servers_own_words(tmp_path, stub):
    reason = (
        'Error from server (Forbidden): jobs.batch "kitchen" is forbidden: User "ada" cannot patch resource '
        '"jobs" in API group "batch" in the namespace "team"'
    )
    made, speaker = submission(tmp_path, planned())
    stub.answer("get", stdout="")
    stub.answer("apply", stderr=f"Warning: resource is old\n{reason}\n", code=1)
    with pytest.raises(BadInput) as raised:
        speaker.check(made)
    assert raised.value.problems == (f"kubectl apply: {reason}",)


def test_pods_that_the_namespace_would_refuse_are_a_refusal_and_other_warnings_are_told(
    tmp_path, stub, capsys
):
    made, speaker = submission(tmp_path, planned())
    stub.answer("get", stdout="")
    violation = (
        'Warning: would violate PodSecurity "restricted:latest": seccompProfile (pod or containers ...)'
    )
    stub.answer("apply", stderr=f"{violation}\n", times=1)
    stub.answer("apply", stderr="Warning: batch/v0 is deprecated\n")
    with pytest.raises(BadInput, match=r"the namespace team would refuse the pods: .*seccompProfile"):
        speaker.check(made)
    speaker.check(made)
    assert "note: kubectl: Warning: batch/v0 is deprecated" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (job("kitchen"), "kitchen: its Job kitchen is not finished; first: hatrain cancel kitchen"),
        (job("kitchen", deleting=True), "kitchen: its Job kitchen is still on its way out"),
        (
            job("kitchen", FINISHED, run="Kitchen"),
            "the Job kitchen belongs to the run Kitchen; give this run",
        ),
    ],
)
@pytest.mark.parametrize("act", ["check", "start"])
def test_a_job_at_work_or_of_another_run_is_left_alone(tmp_path, stub, found, told, act):
    made, speaker = submission(tmp_path, planned())
    stub.answer("get", stdout=json.dumps(found))
    with pytest.raises(BadInput, match=told):
        getattr(speaker, act)(made)
    assert [words[0] for words, _ in stub.calls()] == ["get"]


def test_a_job_that_is_not_hatrains_is_left_alone(tmp_path, stub):
    made, speaker = submission(tmp_path, planned())
    foreign = job("kitchen", FINISHED)
    del foreign["metadata"]["annotations"]
    stub.answer("get", stdout=json.dumps(foreign))
    with pytest.raises(BadInput, match="the Job kitchen is not hatrain's; give this run another name"):
        speaker.start(made)


def test_where_a_finished_job_will_make_room_the_server_is_asked_under_another_name(tmp_path, stub):
    made, speaker = submission(tmp_path, planned(hardware__nodes=2))
    stub.answer("get", stdout=json.dumps(job("kitchen", FINISHED)))
    stub.answer("apply")
    speaker.check(made)
    ((_, given),) = stub.calls("apply")
    kinds = [name.partition(" ") for name in names(given)]
    assert [kind for kind, _, _ in kinds] == ["ConfigMap", "Service", "Job"]
    assert all(name.startswith("kitchen-dry-run") for _, _, name in kinds)


def test_a_start_clears_what_is_left_applies_and_makes_the_job_the_owner_of_the_rest(tmp_path, stub):
    made, speaker = submission(tmp_path, planned(hardware__nodes=2))
    stub.answer("get", stdout=json.dumps(job("kitchen", FINISHED)))
    stub.answer("delete")
    stub.answer("apply")
    assert speaker.start(made) == ["kitchen"]
    assert [words[0] for words, _ in stub.calls()] == ["get", "delete", "apply", "get", "apply"]
    ((deleted, _),) = stub.calls("delete")
    assert deleted[1:4] == [
        "job.batch,service,configmap",
        "--selector",
        "app.kubernetes.io/name=hatrain,app.kubernetes.io/instance in (kitchen)",
    ]
    assert "--wait=true" in deleted
    (sent, _), (owned, given) = stub.calls("apply")
    assert tuple(sent) == made.command[5:]
    assert "--field-manager=hatrain-ownership" in owned
    parts = json.loads(given)["items"]
    assert [(one["kind"], one["metadata"]["name"]) for one in parts] == [
        (one["kind"], one["metadata"]["name"]) for one in kubernetes.parts(made.members[0].plan)
    ]
    assert all(set(one) == {"apiVersion", "kind", "metadata"} for one in parts)
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "kitchen", "uid": "uid-of-kitchen"}
    assert all(one["metadata"]["ownerReferences"] == [owner] for one in parts)


def test_a_jobset_is_asked_for_by_its_own_group(tmp_path, stub):
    place = a_place(controller="jobset")
    made, speaker = submission(tmp_path, planned(place), place=place)
    stub.answer("get", stderr='error: the server doesn\'t have a resource type "jobset"\n', code=1)
    with pytest.raises(BadInput, match=r"kubectl get: error: the server doesn't have a resource type"):
        speaker.check(made)
    assert stub.calls()[0][0][1] == "jobset.jobset.x-k8s.io"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"code": 0}, ""),
        ({"code": 1, "stdout": "-  cpu: 8\n+  cpu: 16\n"}, "-  cpu: 8\n+  cpu: 16\n"),
        ({"code": 2, "stderr": "The Job is invalid: spec.template: field is immutable"}, None),
    ],
)
def test_the_server_says_what_would_change(tmp_path, stub, said, told):
    made, speaker = submission(tmp_path, planned())
    stub.answer("diff", **said)
    assert speaker.diff(made) == told
    ((words, given),) = stub.calls("diff")
    assert words == ["diff", "--server-side", "--field-manager=hatrain", "--filename", "-"]
    assert given == made.members[0].files["launch/manifests.yaml"]


def test_a_difference_that_cannot_be_told_is_one_line(tmp_path, stub):
    made, speaker = submission(tmp_path, planned())
    stub.answer("diff", code=2, stderr="error: dial tcp 10.0.0.1:443:\n connection refused\n")
    with pytest.raises(BadInput, match=r"^kubectl diff: error: dial tcp 10.0.0.1:443: connection refused$"):
        speaker.diff(made)


# --- kubectl itself -----------------------------------------------------------------------------------------


def test_no_kubectl_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    made, speaker = submission(tmp_path, planned())
    with pytest.raises(BadInput, match=r"^kubectl: not found; install it, or pipe hatrain render to it .*$"):
        speaker.check(made)


LOGGED = 'E1125 14:55:04.942032    3908 memcache.go:265] "Unhandled Error" err="connection refused"\n'
REFUSED = "The connection to the server localhost:8080 was refused"


@pytest.mark.parametrize(
    ("stderr", "told"), [(LOGGED * 2 + REFUSED, REFUSED), (LOGGED * 2, "E1125 .*connection refused.")]
)
def test_what_kubectls_libraries_log_is_left_out_where_a_sentence_for_people_follows(
    tmp_path, stub, stderr, told
):
    stub.answer("get", code=1, stderr=stderr)
    with pytest.raises(BadInput, match=f"^kubectl get: {told}$"):
        client(a_place()).states({"kitchen": a_run(tmp_path, planned())})


def test_a_server_that_does_not_answer_is_one_line(tmp_path, stub, monkeypatch):
    monkeypatch.setattr(
        kubectl.Kubectl.run, "__kwdefaults__", {"given": None, "accepted": (0,), "seconds": 0.5}
    )
    stub.answer("get", sleep=30)
    with pytest.raises(
        BadInput, match=r"^kubectl get: no answer within 0.5 s; try: kubectl --context house .*$"
    ):
        client(a_place()).states({"kitchen": a_run(tmp_path, planned())})


@pytest.mark.parametrize(
    "nonsense", ["Unable to connect", "[]", "{}", '{"kind": "List", "items": [{}]}', "null", "7"]
)
def test_an_answer_that_is_no_list_of_objects_is_one_line(tmp_path, stub, nonsense):
    stub.answer("get", stdout=nonsense)
    with pytest.raises(
        BadInput, match=r"^kubectl get: answered '.*', which is no list of objects; try: kubectl .*$"
    ):
        client(a_place()).states({"kitchen": a_run(tmp_path, planned())})


def test_kubectl_that_leaves_without_a_word_is_one_line(tmp_path, stub):
    stub.answer("get", code=7)
    with pytest.raises(BadInput, match=r"^kubectl get: left with exit code 7 and no word$"):
        client(a_place()).states({"kitchen": a_run(tmp_path, planned())})


# --- states -------------------------------------------------------------------------------------------------

EXIT_78 = (
    "Container hatrain for pod team/kitchen-0-m01 failed with exit code 78 matching FailJob rule at index 0"
)
EXIT_130 = EXIT_78.replace("78", "130")
STAGES = {
    "unknown": ([], JobState("unknown")),
    "new": ([job("kitchen")], JobState("queued", "has no pod yet; see: kubectl describe job kitchen")),
    "suspended by Kueue": (
        [job("kitchen", suspend=True, queue="team-a")],
        JobState("queued", "the queue team-a has not let it in"),
    ),
    "no room": (
        [job("kitchen"), pod("kitchen", "Pending", unschedulable=NO_GPU)],
        JobState("queued", f"kitchen-0-m01: {NO_GPU}"),
    ),
    "no image": (
        [job("kitchen"), pod("kitchen", "Pending", waiting=("ImagePullBackOff", "no such image"))],
        JobState("queued", "kitchen-0-m01: ImagePullBackOff: no such image"),
    ),
    "running": ([job("kitchen"), pod("kitchen", "Running")], JobState("running")),
    "half of it": (
        [
            job("kitchen", nodes=2),
            pod("kitchen", "Running"),
            pod("kitchen", "Pending", index=1, unschedulable=NO_GPU),
        ],
        JobState("running", f"1 of 2 pods run; kitchen-1-m01: {NO_GPU}"),
    ),
    "running again": (
        [job("kitchen"), pod("kitchen", "Failed", code=137), pod("kitchen", "Running", minute=5)],
        JobState("running"),
    ),
    "between two attempts": (
        [job("kitchen"), pod("kitchen", "Failed", code=75), pod("kitchen", "Failed", code=137, minute=7)],
        JobState("queued", "waits to start again after exit code 137"),
    ),
    "cancelled, with its grace": (
        [job("kitchen", deleting=True), pod("kitchen", "Running")],
        JobState("running", "ends"),
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
    "gave up": (
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
    "failed, its pods gone": (
        [job("kitchen", condition("Failed", "BackoffLimitExceeded"))],
        JobState("ended", "BackoffLimitExceeded"),
    ),
    "of another run": (
        [job("kitchen", run="Kitchen")],
        JobState("unknown", "the Job kitchen belongs to the run Kitchen by now"),
    ),
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_told_as_it_is(tmp_path, stub, stage):
    objects, told = STAGES[stage]
    stub.answer("get", "job.batch,pod", objects=objects)
    assert client(a_place()).states({"kitchen": a_run(tmp_path, planned())}) == {"kitchen": told}


@pytest.mark.parametrize(
    ("objects", "told"),
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
def test_a_jobset_is_told_as_it_is(tmp_path, stub, objects, told):
    place = a_place(controller="jobset")
    stub.answer("get", "jobset.jobset.x-k8s.io,job.batch,pod", objects=objects)
    assert client(place).states({"kitchen": a_run(tmp_path, planned(place))}) == {"kitchen": told}


def test_many_jobs_are_asked_for_at_once(tmp_path, stub):
    run = a_run(tmp_path, planned())
    stub.answer("get", objects=[job("a", FINISHED, run="kitchen"), job("b", run="kitchen")])
    told = client(a_place()).states({"a": run, "b": run, "c": run})
    assert [told[name].phase for name in "abc"] == ["ended", "queued", "unknown"]
    ((words, _),) = stub.calls()
    assert words[words.index("--selector") + 1].endswith("app.kubernetes.io/instance in (a,b,c)")


def test_very_many_jobs_are_asked_for_by_what_they_have_in_common(tmp_path, stub):
    run = a_run(tmp_path, planned())
    stub.answer("get", objects=[])
    client(a_place()).states({f"run-{number}": run for number in range(60)})
    ((words, _),) = stub.calls()
    assert words[words.index("--selector") + 1] == "app.kubernetes.io/name=hatrain"


def test_nothing_is_asked_about_nothing(stub):
    assert client(a_place()).states({}) == {}
    assert stub.calls() == []


# --- ending -------------------------------------------------------------------------------------------------


def test_a_cancelled_job_is_deleted_with_the_grace_of_its_pods(tmp_path, stub):
    stub.answer("get", stdout=json.dumps(job("kitchen")))
    stub.answer("delete")
    client(a_place()).cancel("kitchen", a_run(tmp_path, planned()))
    ((words, _),) = stub.calls("delete")
    assert words[:3] == ["delete", "job.batch", "kitchen"]
    assert "--cascade=foreground" in words
    assert not [word for word in words if "grace" in word or "force" in word or "now" in word]


def test_a_job_that_belongs_to_another_run_by_now_is_not_cancelled(tmp_path, stub):
    stub.answer("get", stdout=json.dumps(job("kitchen", run="Kitchen")))
    with pytest.raises(BadInput, match="belongs to the run Kitchen by now"):
        client(a_place()).cancel("kitchen", a_run(tmp_path, planned()))
    assert stub.calls("delete") == []


def test_a_stop_is_asked_for_inside_of_the_first_node_by_the_run_that_is_meant(tmp_path, stub):
    objects = [
        pod("kitchen", "Failed", code=75),
        pod("kitchen", "Running", index=1, minute=5),
        pod("kitchen", "Running", index=0, minute=6),
    ]
    stub.answer("get", "pod", objects=objects)
    stub.answer("exec", stdout="attempt 2 saves a checkpoint at its next step and leaves\n")
    plan = planned(hardware__nodes=2)
    told = client(a_place()).stop("kitchen", a_run(tmp_path, plan), 'stop; said "ada" $HOME')
    assert told == "attempt 2 saves a checkpoint at its next step and leaves"
    ((words, _),) = stub.calls("exec")
    assert words[:5] == ["exec", "kitchen-0-m06", "--container", "hatrain", "--"]
    assert words[5:8] == ["bash", "/etc/hatrain/launch/stop.sh", "/workspace/runs/kitchen"]
    assert json.loads(words[-1]) == {"reason": 'stop; said "ada" $HOME', "requeue": False}


@pytest.mark.parametrize(
    "objects", [[], [pod("kitchen", "Pending")], [pod("kitchen", "Running", run="Kitchen")]]
)
def test_a_stop_without_a_live_pod_says_what_to_do(tmp_path, stub, objects):
    stub.answer("get", objects=objects)
    with pytest.raises(BadInput, match="kitchen has no live attempt; hatrain cancel kitchen takes it out"):
        client(a_place()).stop("kitchen", a_run(tmp_path, planned()), "why")


# --- reading ------------------------------------------------------------------------------------------------


def read_for(reader, wanted: bytes, seconds=20.0) -> bytes:
    """Read until something is there, or time is up."""
    said, until = b"", time.monotonic() + seconds
    while wanted not in said and time.monotonic() < until:
        said += reader.read()
        time.sleep(0.02)
    return said


@pytest.fixture(autouse=True)
def looks_often(monkeypatch):
    monkeypatch.setattr(by_kubectl, "LOOK_SECONDS", 0.05)


def test_the_words_of_all_pods_of_a_node_come_in_order_and_the_live_ones_as_they_are_said(tmp_path, stub):
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
    reader = client(a_place()).reader("kitchen", a_run(tmp_path, plan), node=0, whole=True)
    assert reader.read() == b"first\nsecond\nthird\n"
    assert read_for(reader, b"fourth") == b"fourth\n"
    reader.close()


def test_what_was_said_before_is_left_out_when_it_is_not_wanted(tmp_path, stub):
    stub.answer("get", objects=[pod("kitchen", "Failed", code=1), pod("kitchen", "Running", minute=5)])
    stub.answer("logs", "kitchen-0-m05", "--follow", pieces=["old\n", "new\n"], sleep=0.3)
    stub.answer("logs", "kitchen-0-m05", stdout="old\n")
    reader = client(a_place()).reader("kitchen", a_run(tmp_path, planned()), node=0, whole=False)
    assert read_for(reader, b"new") == b"new\n"
    reader.close()
    assert not [words for words, _ in stub.calls("logs") if "kitchen-0-m01" in words]


def test_a_connection_that_breaks_is_made_again_and_nothing_is_said_twice(tmp_path, stub):
    stub.answer("get", objects=[pod("kitchen", "Running")], times=2)
    stub.answer("get", objects=[pod("kitchen", "Succeeded", code=0)])
    stub.answer("logs", "--follow", stdout="one\ntwo\n", times=1)
    stub.answer("logs", "--follow", stdout="one\ntwo\nthree\n", code=1)
    stub.answer("logs", stdout="one\n", times=1)
    stub.answer("logs", stdout="one\ntwo\n", times=1)
    stub.answer("logs", stdout="one\ntwo\nthree\nfour\n")
    reader = client(a_place()).reader("kitchen", a_run(tmp_path, planned()), node=0, whole=True)
    assert read_for(reader, b"four") == b"one\ntwo\nthree\nfour\n"
    assert reader.read() == b""
    reader.close()


def test_a_pod_that_comes_later_is_read_from_its_beginning(tmp_path, stub):
    stub.answer("get", objects=[pod("kitchen", "Pending", unschedulable=NO_GPU)], times=2)
    stub.answer("get", objects=[pod("kitchen", "Succeeded", code=0)])
    stub.answer("logs", stdout="from the beginning\n")
    reader = client(a_place()).reader("kitchen", a_run(tmp_path, planned()), node=0, whole=False)
    assert read_for(reader, b"\n") == b"from the beginning\n"
    reader.close()


def test_a_server_that_is_away_for_a_moment_ends_no_reading_but_one_that_never_answered_does(tmp_path, stub):
    stub.answer("get", objects=[], times=1)
    stub.answer("get", code=1, stderr="Unable to connect to the server: EOF", times=2)
    stub.answer("get", objects=[pod("kitchen", "Succeeded", code=0)], times=1)
    stub.answer("get", code=1, stderr="Unable to connect to the server: EOF")
    stub.answer("logs", stdout="at last\n")
    run = a_run(tmp_path, planned())
    reader = client(a_place()).reader("kitchen", run, node=0, whole=True)
    assert read_for(reader, b"\n") == b"at last\n"
    reader.close()
    with pytest.raises(BadInput, match="kubectl get: Unable to connect to the server: EOF"):
        client(a_place()).reader("kitchen", run, node=0, whole=True).read()


def test_closing_ends_kubectl(tmp_path, stub):
    stub.answer("get", objects=[pod("kitchen", "Running")])
    stub.answer("logs", "--follow", stdout="x\n", sleep=600)
    stub.answer("logs", stdout="")
    reader = client(a_place()).reader("kitchen", a_run(tmp_path, planned()), node=0, whole=True)
    read_for(reader, b"x")
    began = time.monotonic()
    reader.close()
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("node", [-1, 2])
def test_a_node_that_there_is_not_is_refused(tmp_path, stub, node):
    run = a_run(tmp_path, planned(hardware__nodes=2))
    with pytest.raises(BadInput, match=f"--node {node}: kitchen has nodes 0 to 1"):
        client(a_place()).reader("kitchen", run, node=node, whole=True)
