"""A cluster under Kubernetes, by kubectl alone: objects are applied by the server, looked at as JSON, and ended with
the grace that they have."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from hatrain.contract.cluster import KubernetesCluster
from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput
from launch.backends import JobState, Member, Reader, Submission
from launch.backends.kubernetes import pods
from launch.backends.kubernetes import render as kubernetes
from launch.backends.kubernetes.kubectl import SECONDS, Json, Kubectl, complaint
from launch.backends.kubernetes.pod import CONTAINER, FILES

APPLY = ("apply", "--server-side", "--field-manager=hatrain")
OWNERSHIP = ("apply", "--server-side", "--field-manager=hatrain-ownership", "--filename", "-")
NAMED = 50
"""More runs than these are asked for by the label that all have in common, and not each by its name."""
LOOK_SECONDS = 1.0
"""From one look for a pod to the next."""
PATIENCE_SECONDS = 300.0
"""How long a server that answered before may be away while somebody reads."""


def make(place: KubernetesCluster) -> "KubernetesClient":
    """Return the client of a cluster."""
    return KubernetesClient(place)


class KubernetesClient:
    """Applies a Job or JobSet for each run. A job's id is the name of that object."""

    poll_seconds = 5.0

    def __init__(self, place: KubernetesCluster):
        self._place = place
        self._kubectl = Kubectl(place)
        self._kind = "JobSet" if place.controller == "jobset" else "Job"
        self._keeper = "jobset.jobset.x-k8s.io" if place.controller == "jobset" else "job.batch"

    # --- submitting ---

    def submission(self, members: Sequence[Member], folder: Path, parent: str | None) -> Submission:
        """Return the files and the command; a sweep is one stream with a Job for each run. Entry waits for a parent."""
        one = len(members) == 1 and members[0].run.folder == folder
        stream = "".join(member.files[kubernetes.MANIFESTS] for member in members)
        return Submission(
            tuple(members),
            folder,
            {} if one else {kubernetes.MANIFESTS: stream},
            self._kubectl.command(*APPLY, "--filename", str(folder / kubernetes.MANIFESTS)),
        )

    def check(self, submission: Submission) -> None:
        """Ask the server whether it would take this. Raises BadInput with its own reason, or when the objects of a run
        are still at work, or are somebody else's."""
        finished = self._refuse(submission)
        # What is finished makes room first, and would not let itself be changed: ask for the same by another name.
        plans = [_aside(one.plan) if _name(one.plan) in finished else one.plan for one in submission.members]
        told = self._kubectl.run(
            *APPLY,
            "--dry-run=server",
            "--filename",
            "-",
            given=kubernetes.streams(plans),
            seconds=2 * SECONDS,
        )
        for line in filter(None, map(str.strip, told.stderr.splitlines())):
            # A warning of the Job's is a refusal of its pods', which nobody would see.
            if "would violate PodSecurity" in line:
                raise BadInput(f"the namespace {self._place.namespace} would refuse the pods: {line}")
            print(f"note: kubectl: {line}", file=sys.stderr)

    def start(self, submission: Submission) -> list[str]:
        """Apply it, once its files are written. Returns the name of each run's object.

        What is left of an earlier submission is deleted first: pods of a Job cannot be changed, a finished one does not
        start again, and its files would be taken away with it.
        """
        self._refuse(submission)
        names = [_name(member.plan) for member in submission.members]
        self._clear(names)
        self._kubectl.run(*submission.command[len(self._kubectl.command()) :], seconds=2 * SECONDS)
        self._own(submission)
        return names

    def diff(self, submission: Submission) -> str | None:
        """Return what applying this would change on the server, as kubectl says it; empty when nothing.

        None where the server cannot say, since a Job's pods are never changed: a submission replaces it.
        """
        told = self._kubectl.run(
            "diff",
            "--server-side",
            "--field-manager=hatrain",
            "--filename",
            "-",
            given=_stream(submission),
            accepted=range(256),
        )
        if told.returncode in (0, 1):
            return told.stdout
        if "immutable" in told.stderr:
            return None
        raise BadInput(f"kubectl diff: {' '.join(complaint(told))}")

    def _refuse(self, submission: Submission) -> set[str]:
        """Return the names whose object is there and finished. Raises BadInput for one at work, or somebody else's."""
        wanted = {_name(member.plan): member for member in submission.members}
        problems, finished = [], set()
        for found in self._named(wanted):
            name, run = pods.name(found), wanted[pods.name(found)].run.name
            if (owner := pods.run_of(found)) != run:
                whose = f"belongs to the run {owner}" if owner else "is not hatrain's"
                problems.append(f"{run}: the {found['kind']} {name} {whose}; give this run another name")
            elif "deletionTimestamp" in found["metadata"]:
                problems.append(
                    f"{run}: its {found['kind']} {name} is still on its way out; try again in a moment"
                )
            elif not pods.is_finished(found):
                problems.append(
                    f"{run}: its {found['kind']} {name} is not finished; first: hatrain cancel {run}"
                )
            else:
                finished.add(name)
        if problems:
            raise BadInput(problems)
        return finished

    def _named(self, names: Iterable[str]) -> list[Json]:
        """Return the Jobs or JobSets of these names, whoever made them."""
        return self._kubectl.objects(self._keeper, *names)

    def _clear(self, names: Sequence[str]) -> None:
        """Delete what is left of earlier submissions, and wait until it is gone."""
        for some in _batches(names):
            self._kubectl.run(
                "delete",
                f"{self._keeper},service,configmap",
                "--selector",
                _selector(some),
                "--cascade=foreground",
                "--wait=true",
                f"--timeout={SECONDS:g}s",
                seconds=2 * SECONDS,
            )

    def _own(self, submission: Submission) -> None:
        """Make each run's files and Service part of its Job, so that they go when it goes, whoever deletes it."""
        owners = {
            pods.name(one): one for one in self._named(_name(member.plan) for member in submission.members)
        }
        parts = []
        for member in submission.members:
            if owner := owners.get(_name(member.plan)):
                parts += list(_owned(kubernetes.parts(member.plan), owner))
        if parts:
            self._kubectl.run(
                *OWNERSHIP, given=json.dumps({"apiVersion": "v1", "kind": "List", "items": parts})
            )

    # --- looking ---

    def states(self, jobs: Mapping[str, RunDirectory]) -> dict[str, JobState]:
        """Return what became of jobs, asking once for all of them."""
        if not jobs:
            return {}
        # A JobSet's own Job says how a pod of it left.
        kinds = [self._keeper, *(["job.batch"] if self._kind == "JobSet" else []), "pod"]
        objects = self._objects(",".join(kinds), list(jobs))
        keepers = {pods.name(one): one for one in objects if one["kind"] == self._kind}
        told = {}
        for job, run in jobs.items():
            if job not in keepers:
                told[job] = JobState("unknown")
            elif (owner := pods.run_of(keepers[job])) != run.name:
                told[job] = JobState("unknown", f"the {self._kind} {job} belongs to the run {owner} by now")
            else:
                told[job] = pods.state(keepers[job], objects)
        return told

    def reader(self, job: str, run: RunDirectory, *, node: int, whole: bool) -> Reader:
        """Return what the pods of a node print, one after the other. Raises BadInput for a node that there is not."""
        nodes = run.plan().nodes
        if not 0 <= node < nodes:
            raise BadInput(f"--node {node}: {run.name} has nodes 0 to {nodes - 1}")
        return PodReader(self._kubectl, job, node, whole=whole)

    def _objects(self, kinds: str, names: Sequence[str]) -> list[Json]:
        selector = _selector(names) if len(names) <= NAMED else pods.OURS
        return self._kubectl.objects(kinds, "--selector", selector)

    # --- ending ---

    def cancel(self, job: str, run: RunDirectory) -> None:
        """Delete the Job: its pods are told to stop, and have their grace. Raises BadInput when it is another run's."""
        for found in self._named([job]):
            if (owner := pods.run_of(found)) != run.name:
                raise BadInput(f"{run.name}: the {found['kind']} {job} belongs to the run {owner} by now")
        # In the foreground: the Job is seen until the last of its pods is gone.
        self._kubectl.run(
            "delete", self._keeper, job, "--cascade=foreground", "--wait=false", "--ignore-not-found"
        )

    def stop(self, job: str, run: RunDirectory, reason: str) -> str:
        """Ask the attempt, inside of a pod, to save a checkpoint and leave for good. Raises BadInput when none runs."""
        live = [pod for pod in pods.of(self._objects("pod", [job]), job, "Pod") if pods.is_running(pod)]
        live = [pod for pod in live if pods.run_of(pod) == run.name]
        if not live:
            raise BadInput(
                f"{run.name} has no live attempt; hatrain cancel {run.name} takes it out of the queue"
            )
        first = min(live, key=pods.index)
        word = json.dumps({"reason": reason, "requeue": False}, ensure_ascii=False)
        said = self._kubectl.run(
            "exec",
            pods.name(first),
            "--container",
            CONTAINER,
            "--",
            "bash",
            f"{FILES}/launch/stop.sh",
            run.plan().paths.run,
            word,
        ).stdout
        return said.strip() or "was asked to leave"


class PodReader:
    """What the pods of a node print: the earlier ones first, then the live one as it speaks."""

    def __init__(self, kubectl: Kubectl, job: str, node: int, *, whole: bool):
        self._kubectl, self._job, self._node = kubectl, job, node
        self._over: set[str] = set()
        self._given: dict[str, int] = {}
        """Bytes of each pod that were passed on, for a connection that breaks is made again from the beginning."""
        self._following: tuple[str, subprocess.Popen[bytes]] | None = None
        self._skip = 0
        self._next_look = 0.0
        self._answered: float | None = None
        if not whole:
            for pod in self._pods():
                if pods.is_over(pod):
                    self._over.add(pods.name(pod))
                elif pods.is_running(pod):
                    self._given[pods.name(pod)] = len(self._log(pods.name(pod)))

    def read(self) -> bytes:
        """Return what came since the last call."""
        said = self._heard()
        if self._following is None and time.monotonic() >= self._next_look:
            try:
                said += self._look()
                self._answered = time.monotonic()
            except BadInput:
                if self._answered is None or time.monotonic() - self._answered > PATIENCE_SECONDS:
                    raise
            self._next_look = time.monotonic() + LOOK_SECONDS
        return said

    def close(self) -> None:
        """End kubectl."""
        if self._following:
            _, process = self._following
            process.kill()
            process.communicate()
            self._following = None

    def _look(self) -> bytes:
        """Return the words of pods that are over; follow the first that is not."""
        said = b""
        for pod in self._pods():
            name = pods.name(pod)
            if name in self._over:
                continue
            if pods.is_over(pod):
                said += self._log(name)[self._given.get(name, 0) :]
                self._over.add(name)
                continue
            if pods.is_running(pod):
                # What there is by now is not waited for; what follows comes as it comes.
                now = self._log(name)
                said += now[self._given.get(name, 0) :]
                self._given[name] = max(self._given.get(name, 0), len(now))
                self._follow(name)
            break
        return said

    def _pods(self) -> list[Json]:
        found = self._kubectl.objects("pod", "--selector", _selector([self._job]))
        return [pod for pod in pods.of(found, self._job, "Pod") if pods.index(pod) == self._node]

    def _log(self, name: str) -> bytes:
        """Return all that a pod has printed; nothing when its node has lost it."""
        command = self._kubectl.command("logs", name, "--container", CONTAINER)
        try:
            told = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return b""
        return told.stdout

    def _follow(self, name: str) -> None:
        process = subprocess.Popen(
            self._kubectl.command("logs", name, "--container", CONTAINER, "--follow"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        self._following, self._skip = (name, process), self._given.get(name, 0)

    def _heard(self) -> bytes:
        if self._following is None:
            return b""
        name, process = self._following
        assert process.stdout is not None
        ended = process.poll() is not None
        said = process.stdout.read() or b""
        skipped = min(self._skip, len(said))
        said, self._skip = said[skipped:], self._skip - skipped
        self._given[name] = self._given.get(name, 0) + len(said)
        if ended:
            process.stdout.close()
            self._following = None
        return said


# --- in the words of Kubernetes -----------------------------------------------------------------------------


def _name(plan: Plan) -> str:
    assert plan.resources is not None
    return plan.resources.name


def _stream(submission: Submission) -> str:
    return submission.files.get(kubernetes.MANIFESTS) or submission.members[0].files[kubernetes.MANIFESTS]


def _aside(plan: Plan) -> Plan:
    """Return a plan whose objects have another name, of a length that is allowed too."""
    assert plan.resources is not None
    name = f"{plan.resources.name[:40].rstrip('-')}-dry-run"
    return plan.model_copy(update={"resources": plan.resources.model_copy(update={"name": name})})


def _selector(names: Sequence[str]) -> str:
    return f"{pods.OURS},{pods.INSTANCE} in ({','.join(names)})"


def _batches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(names), NAMED):
        yield names[at : at + NAMED]


def _owned(parts: Iterable[Json], owner: Json) -> Iterator[Json]:
    """Yield what makes a Job the owner of each part: the key that says so, and nothing else."""
    reference = {key: owner[key] for key in ("apiVersion", "kind")}
    reference |= {key: owner["metadata"][key] for key in ("name", "uid")}
    for part in parts:
        meta = {key: part["metadata"][key] for key in ("name", "namespace")}
        yield {
            "apiVersion": part["apiVersion"],
            "kind": part["kind"],
            "metadata": {**meta, "ownerReferences": [reference]},
        }
