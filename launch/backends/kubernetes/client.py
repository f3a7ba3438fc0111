"""Talks to Kubernetes through kubectl: server-side apply, objects as JSON, deletion with the pods' grace period."""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from hatrain.contract.cluster import KubernetesCluster
from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput
from launch.backends.kubernetes import pods, render
from launch.backends.kubernetes.kubectl import SECONDS, Json, Kubectl, complaint
from launch.backends.kubernetes.pod import CONTAINER, FILES
from launch.backends.kubernetes.reader import PodReader
from launch.backends.protocol import AccessRefused, JobState, PlannedRun, Reader, Submission, nothing_to_pull

APPLY = ("apply", "--server-side", "--field-manager=hatrain")
TAIL = 200
"""Lines of a log in which the newest step is looked for."""
OWNERSHIP = ("apply", "--server-side", "--field-manager=hatrain-ownership", "--filename", "-")


class KubernetesClient:
    """Applies a Job or JobSet for each run. A job's id is the name of that object."""

    poll_seconds = 5.0

    def __init__(self, cluster: KubernetesCluster):
        self._cluster = cluster
        self._kubectl = Kubectl(cluster)
        self._kind = "JobSet" if cluster.controller == "jobset" else "Job"
        self._resource = "jobset.jobset.x-k8s.io" if cluster.controller == "jobset" else "job.batch"

    # --- submitting ---

    def submission(
        self, runs: Sequence[PlannedRun], folder: Path, parent: str | None, at_once: int | None = None
    ) -> Submission:
        if at_once is not None:
            raise BadInput("--at-once: Kubernetes starts every Job for which there is room; limit them with a queue")
        one = len(runs) == 1 and runs[0].directory.folder == folder
        manifests = "".join(planned.files[render.MANIFESTS] for planned in runs)
        return Submission(
            tuple(runs),
            folder,
            {} if one else {render.MANIFESTS: manifests},
            self._kubectl.command(*APPLY, "--filename", str(folder / render.MANIFESTS)),
            tuple(_name(planned.plan) for planned in runs),
        )

    def check(self, submission: Submission) -> list[str]:
        """Raises BadInput also if the objects of a run are still in use, or are not its own."""
        finished = self._finished(submission)
        # Finished objects are deleted before the start but cannot be changed: check the same under another name.
        plans = [
            _renamed(planned.plan) if _name(planned.plan) in finished else planned.plan for planned in submission.runs
        ]
        manifests = "".join(render.single_file(plan, self._cluster) for plan in plans)
        result = self._kubectl.run(*APPLY, "--dry-run=server", "--filename", "-", stdin=manifests, seconds=2 * SECONDS)
        lines = list(filter(None, map(str.strip, result.stderr.splitlines())))
        for line in lines:
            # The server accepts such a Job, and then silently refuses its pods.
            if "would violate PodSecurity" in line:
                raise BadInput(f"the namespace {self._cluster.namespace} would refuse the pods: {line}")
        return [f"kubectl: {line}" for line in lines]

    def start(self, submission: Submission) -> list[str]:
        """Objects of an earlier submission are deleted first: the pods of a Job cannot be changed, a finished Job does
        not start again, and deleting it later would delete the new files with it."""
        self._finished(submission)
        self._delete_earlier(submission.jobs)
        self._kubectl.run(*submission.command[len(self._kubectl.command()) :], seconds=2 * SECONDS)
        try:
            self._set_owners(submission)
        except BadInput as error:
            # The run is started. What has no owner stays until the run is cancelled or submitted again.
            print(f"note: the files of the run will not be deleted with its Job: {error.problems[0]}", file=sys.stderr)
        return list(submission.jobs)

    def refresh(self, runs: Sequence[RunDirectory]) -> None:
        """Nothing to do: these directories are no copies."""

    def arrived(self, submission: Submission) -> list[str]:
        return []

    def pull(self, run: RunDirectory, *, model: bool, metrics: bool) -> list[str]:
        raise nothing_to_pull(run)

    def diff(self, submission: Submission) -> str | None:
        """kubectl's own diff. None if the server cannot tell: the pods of a Job cannot be changed, and a submission
        replaces the Job."""
        manifests = submission.files or submission.runs[0].files
        result = self._kubectl.run(
            *("diff", "--server-side", "--field-manager=hatrain", "--filename", "-"),
            stdin=manifests[render.MANIFESTS],
            accepted=range(256),
        )
        if result.returncode in (0, 1):
            return result.stdout
        if "immutable" in result.stderr:
            return None
        raise BadInput(f"kubectl diff: {' '.join(complaint(result))}")

    def _finished(self, submission: Submission) -> set[str]:
        """Names whose objects exist and are finished. Raises BadInput for objects in use, or of another owner."""
        expected = {_name(planned.plan): planned for planned in submission.runs}
        problems, finished = [], set()
        for controller in self._controllers(expected):
            name, kind = pods.name(controller), controller["kind"]
            run = expected[name].directory.name
            if (owner := pods.run_of(controller)) != run:
                whose = f"belongs to the run {owner}" if owner else "was not created by hatrain"
                problems.append(f"{run}: the {kind} {name} {whose}; give this run another name")
            elif "deletionTimestamp" in controller["metadata"]:
                problems.append(f"{run}: its {kind} {name} is still being deleted; try again in a moment")
            elif not pods.is_finished(controller):
                problems.append(f"{run}: its {kind} {name} is not finished; first: hatrain cancel {run}")
            else:
                finished.add(name)
        if problems:
            raise BadInput(problems)
        return finished

    def _controllers(self, names: Iterable[str]) -> list[Json]:
        """Jobs or JobSets of these names, whoever created them."""
        return self._kubectl.objects(self._resource, *names)

    def _delete_earlier(self, names: Sequence[str]) -> None:
        for batch in pods.batches(names):
            self._kubectl.run(
                "delete",
                f"{self._resource},service,configmap",
                *("--selector", pods.selector(batch)),
                *("--cascade=foreground", "--wait=true", f"--timeout={SECONDS:g}s"),
                seconds=2 * SECONDS,
            )

    def _set_owners(self, submission: Submission) -> None:
        """Make each Job the owner of its run's ConfigMap and Service, so that they are deleted with it."""
        owners = {pods.name(controller): controller for controller in self._controllers(submission.jobs)}
        parts: list[Json] = []
        for planned in submission.runs:
            if owner := owners.get(_name(planned.plan)):
                parts += _with_owner(render.parts(planned.plan, self._cluster), owner)
        if parts:
            items = {"apiVersion": "v1", "kind": "List", "items": parts}
            self._kubectl.run(*OWNERSHIP, stdin=json.dumps(items))

    # --- watching ---

    def states(self, jobs: Mapping[str, RunDirectory]) -> dict[str, JobState]:
        if not jobs:
            return {}
        # The exit code of a JobSet's pod is in the Job inside.
        kinds = [self._resource, *(["job.batch"] if self._kind == "JobSet" else []), "pod"]
        resources = self._objects(",".join(kinds), list(jobs))
        controllers = {pods.name(each): each for each in resources if each["kind"] == self._kind}
        states = {}
        for job, run in jobs.items():
            if job not in controllers:
                states[job] = JobState("unknown")
            elif (owner := pods.run_of(controllers[job])) != run.name:
                states[job] = JobState("unknown", f"the {self._kind} {job} now belongs to the run {owner}")
            else:
                states[job] = pods.state(controllers[job], resources, datetime.now(UTC))
        waiting = [job for job, state in states.items() if state.phase == "queued" and not state.advice]
        if waiting and (events := self._warnings()):
            for job in waiting:
                states[job] = pods.state(controllers[job], [*resources, *events], datetime.now(UTC))
        return states

    def _warnings(self) -> list[Json]:
        """Warnings of the namespace, which name what the objects do not, such as a quota; none where they are not to
        be read."""
        try:
            return self._kubectl.objects("event", "--field-selector", "type=Warning")
        except BadInput:
            return []

    def newest_step(self, job: str, run: RunDirectory) -> str:
        """From the log of the first running pod."""
        running = [pod for pod in pods.of(self._objects("pod", [job]), job, "Pod") if pods.is_running(pod)]
        if not running:
            return ""
        name = pods.name(min(running, key=pods.index))
        output = self._kubectl.run("logs", name, "--container", CONTAINER, f"--tail={TAIL}").stdout
        return next((line for line in reversed(output.splitlines()) if re.match(r"step \d+/\d+ ", line)), "")

    def reader(self, job: str, run: RunDirectory, *, node: int, whole: bool) -> Reader:
        """Raises BadInput for a node that the run lacks."""
        nodes = run.plan().nodes
        if not 0 <= node < nodes:
            raise BadInput(f"--node {node}: {run.name} has nodes 0 to {nodes - 1}")
        return PodReader(self._kubectl, job, node, whole=whole)

    def _objects(self, kinds: str, names: Sequence[str]) -> list[Json]:
        return self._kubectl.objects(kinds, "--selector", pods.selector(names))

    # --- ending ---

    def cancel(self, job: str, run: RunDirectory) -> None:
        """Raises BadInput if the Job belongs to another run by now."""
        for controller in self._controllers([job]):
            if (owner := pods.run_of(controller)) != run.name:
                raise BadInput(f"{run.name}: the {controller['kind']} {job} now belongs to the run {owner}")
        # In the foreground: the Job stays visible until its last pod is gone.
        self._kubectl.run(
            *("delete", self._resource, job, "--cascade=foreground", "--wait=false", "--ignore-not-found")
        )
        self.remove_rest(job, run)

    def remove_rest(self, job: str, run: RunDirectory) -> bool:
        """Files and Services that no Job owns. One that is deleted while a pod uses it stays mounted there."""
        found = [
            each
            for each in self._objects("service,configmap", [job])
            if pods.run_of(each) == run.name and not each["metadata"].get("ownerReferences")
        ]
        if found:
            names = [f"{each['kind'].lower()}/{pods.name(each)}" for each in found]
            self._kubectl.run("delete", *names, "--wait=false", "--ignore-not-found")
        return bool(found)

    def stop(self, job: str, run: RunDirectory, reason: str) -> str:
        """Runs stop.sh in the first running pod. Raises BadInput if none runs."""
        running = [
            pod
            for pod in pods.of(self._objects("pod", [job]), job, "Pod")
            if pods.is_running(pod) and pods.run_of(pod) == run.name and "deletionTimestamp" not in pod["metadata"]
        ]
        if not running:
            raise BadInput(f"{run.name}: no attempt is running; to remove it from the queue: hatrain cancel {run.name}")
        request = json.dumps({"reason": reason, "requeue": False}, ensure_ascii=False)
        command = ("bash", f"{FILES}/launch/stop.sh", run.plan().paths.run, request)
        problems: list[str] = []
        for pod in sorted(running, key=pods.index):
            # Every pod sees the run: where one does not answer, the next may.
            try:
                output = self._kubectl.run("exec", pods.name(pod), "--container", CONTAINER, "--", *command).stdout
            except AccessRefused:
                raise
            except BadInput as error:
                problems += error.problems
            else:
                return output.strip() or "was asked to stop"
        raise BadInput(problems)


def _name(plan: Plan) -> str:
    return render.request_of(plan).name


def _renamed(plan: Plan) -> Plan:
    """The same plan with another object name, which is not too long either."""
    request = render.request_of(plan)
    name = f"{request.name[:40].rstrip('-')}-dry-run"
    return plan.model_copy(update={"resources": request.model_copy(update={"name": name})})


def _with_owner(parts: Iterable[Json], owner: Json) -> Iterator[Json]:
    """Patches that set the owner of each part and nothing else."""
    reference = {key: owner[key] for key in ("apiVersion", "kind")}
    reference |= {key: owner["metadata"][key] for key in ("name", "uid")}
    for part in parts:
        meta = {key: part["metadata"][key] for key in ("name", "namespace")}
        yield {
            "apiVersion": part["apiVersion"],
            "kind": part["kind"],
            "metadata": {**meta, "ownerReferences": [reference]},
        }
