"""The life of a run after apply, with a real kubectl and a small API server."""

import os
import signal
import subprocess
import time

from tests.kubernetes.api_server import ApiServer, Failure
from tests.kubernetes.objects import pod


def kills(process: "subprocess.Popen[str]", api: ApiServer, k: int):
    """Kills a verb and its kubectl once the k-th request is answered."""

    def kill(request: str) -> None:
        if len(api.requests) == k:
            os.killpg(process.pid, signal.SIGKILL)

    return kill


def refuses(word: str, failure: Failure, *, after: int = 0):
    """Refuses requests with this word in them, but for the first `after` ones."""
    seen = []

    def answer(request: str) -> Failure | None:
        if word not in request:
            return None
        seen.append(request)
        return failure if len(seen) > after else None

    return answer


# --- a submission that does not get through -----------------------------------------------------------------


def test_a_submission_is_started_looked_at_and_cancelled(laptop):
    laptop.submit()
    kinds = [name.partition("/")[0] for name in laptop.api.names()]
    assert kinds == ["configmaps", "jobs", "services"]
    job = laptop.api.objects["jobs", "kitchen"]
    for key, each in laptop.api.objects.items():
        owners = [owner["uid"] for owner in each["metadata"].get("ownerReferences", [])]
        assert owners == ([] if key[0] == "jobs" else [job["metadata"]["uid"]])
    assert laptop.hatrain("status", "kitchen").splitlines()[1].split()[2] == "queued"
    laptop.hatrain("cancel", "kitchen")
    assert laptop.api.names() == []


def test_a_submission_that_is_killed_after_any_request_is_ended_by_cancel(laptop):
    """Killed after its k-th request to an object, for every k from the last one that changes nothing yet."""
    laptop.submit()
    requests = list(laptop.api.requests)
    first = next(k for k, each in enumerate(requests) if not each.startswith("GET") and "dryRun" not in each)
    laptop.hatrain("cancel", "kitchen")
    assert 2 < first < len(requests) - 4
    for k in range(first, len(requests) + 1):
        laptop.api.requests.clear()
        process = laptop.start("submit", "kitchen.yaml", "--cluster", "cluster.yaml")
        laptop.api.after = kills(process, laptop.api, k)
        process.communicate(timeout=600)
        laptop.api.after = lambda request: None
        assert process.returncode in (0, -signal.SIGKILL)
        before = laptop.api.names()
        if (laptop.folder / "runs/kitchen/plan.json").exists():
            laptop.hatrain("cancel", "kitchen", code=0 if before else 1)
        assert laptop.api.names() == [], f"after request {k}: {before}"


def test_a_refusal_of_the_owners_does_not_fail_a_submission(laptop):
    laptop.api.answer = refuses("hatrain-ownership", Failure(500, "InternalError", "etcd is away"))
    assert "will not be deleted with its Job: kubectl apply: " in laptop.submit()
    laptop.api.answer = lambda request: None
    laptop.hatrain("cancel", "kitchen")
    assert laptop.api.names() == []


def test_a_quota_that_refuses_the_second_job_of_a_sweep_leaves_runs_that_can_be_ended(laptop):
    quota = 'jobs.batch "kitchen-sweep-1" is forbidden: exceeded quota: gpus, requested: 1, used: 1, limited: 1'
    answer = refuses("jobs/kitchen-sweep-1?", Failure(403, "Forbidden", quota))
    laptop.api.answer = lambda request: answer(request) if "PATCH" in request and "dryRun" not in request else None
    assert "exceeded quota" in laptop.submit("--sweep", "seed=1,2", code=2)
    first, second = laptop.hatrain("status", "kitchen").splitlines()[1:3]
    assert first.split()[2] == "queued"
    assert second.split()[2] == "failed" and "was not sent as a whole" in second and "exceeded quota" in second
    assert "is queued already" in laptop.submit("--sweep", "seed=1,2", code=2)
    laptop.hatrain("cancel", "kitchen")
    assert laptop.api.names() == []
    laptop.api.answer = lambda request: None
    laptop.submit("--sweep", "seed=1,2")


# --- a run that goes on -------------------------------------------------------------------------------------


def running() -> dict:
    """The pod of the first node."""
    started = pod("kitchen", "Running")
    started["spec"]["containers"] = [{"name": "hatrain"}]
    return started


def test_a_running_run_shows_its_step_its_figures_and_its_log(laptop):
    laptop.submit()
    laptop.api.put(running())
    laptop.api.logs["kitchen-0-m01"] = (
        "loading\nstep 10/200  epoch 0.1  loss 2.5\nstep 20/200  epoch 0.2  loss 2.25\nmore\n"
    )
    output = laptop.hatrain("status", "kitchen")
    assert output.splitlines()[1].split()[2:4] == ["running", "20/200"]
    assert "step 20/200  epoch 0.2  loss 2.25" in output
    assert laptop.hatrain("logs", "kitchen").startswith("loading\nstep 10/200")


def test_what_kubectl_says_about_a_log_is_passed_on_with_its_code(laptop):
    laptop.submit()
    laptop.api.put(running())
    gone = Failure(500, "InternalError", "the node gpu-3 does not answer")
    laptop.api.answer = lambda request: gone if "/log" in request else None
    assert "the node gpu-3 does not answer" in laptop.hatrain("logs", "kitchen", code=1)


def test_waiting_gives_up_at_once_where_access_is_refused_and_not_where_a_server_stumbles(laptop):
    laptop.submit()
    stumbles = iter([Failure(503, "ServiceUnavailable", "try again")] * 3)
    laptop.api.answer = lambda request: next(stumbles, None) if "GET" in request else None
    refused = Failure(403, "Forbidden", 'jobs.batch is forbidden: User "ada" cannot list')

    def answer(request: str) -> Failure | None:
        return next(stumbles, refused) if "namespaces/team" in request else None

    waiting = laptop.start("wait", "kitchen")
    seen = len(laptop.api.requests)
    while len(laptop.api.requests) == seen:
        assert waiting.poll() is None
        time.sleep(0.05)
    laptop.api.answer = answer
    output, _ = waiting.communicate(timeout=600)
    assert waiting.returncode == 2 and "cannot list" in output


def test_a_fresh_submission_lets_the_run_set_the_old_one_aside(laptop):
    laptop.submit()
    laptop.hatrain("cancel", "kitchen")
    laptop.submit("--fresh")
    (files,) = [each["data"] for key, each in laptop.api.objects.items() if key[0] == "configmaps"]
    assert "export HATRAIN_FRESH=1\n" in files["env.sh"]
