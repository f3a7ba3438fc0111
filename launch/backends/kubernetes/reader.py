"""Reads the output of the pods of one node."""

import os
import subprocess
import time

from hatrain.errors import BadInput
from launch.backends.kubernetes import pods
from launch.backends.kubernetes.kubectl import SECONDS, Json, Kubectl
from launch.backends.kubernetes.pod import CONTAINER

LOOK_SECONDS = 1.0
"""Interval between two queries for pods."""
RETRY_SECONDS = 300.0
"""How long a server that has answered before may be unreachable."""


class PodReader:
    """The output of earlier pods first, then that of the running pod as it is written."""

    def __init__(self, kubectl: Kubectl, job: str, node: int, *, whole: bool):
        self._kubectl, self._job, self._node = kubectl, job, node
        self._ended: set[str] = set()
        self._read_bytes: dict[str, int] = {}
        """Bytes of each pod's output that were returned: a new connection starts from the beginning."""
        self._following: tuple[str, subprocess.Popen[bytes]] | None = None
        self._skip = 0
        self._next_look = 0.0
        self._last_answer: float | None = None
        self.problem: tuple[int, list[str]] | None = None
        if not whole:
            for pod in self._pods():
                if pods.has_ended(pod):
                    self._ended.add(pods.name(pod))
                elif pods.is_running(pod):
                    self._read_bytes[pods.name(pod)] = len(self._log(pods.name(pod)))

    def read(self) -> bytes:
        output = self._read_followed()
        if self._following is None and time.monotonic() >= self._next_look:
            try:
                output += self._read_pods()
                self._last_answer = time.monotonic()
            except BadInput:
                if self._last_answer is None or time.monotonic() - self._last_answer > RETRY_SECONDS:
                    raise
            self._next_look = time.monotonic() + LOOK_SECONDS
        return output

    def read_rest(self) -> bytes:
        return self.read()

    def close(self) -> None:
        if self._following:
            _, process = self._following
            process.kill()
            process.communicate()
            self._following = None

    def _read_pods(self) -> bytes:
        """Read pods that have ended, and follow the first that has not."""
        output = b""
        for pod in self._pods():
            name = pods.name(pod)
            if name in self._ended:
                continue
            if pods.has_ended(pod):
                output += self._log(name)[self._read_bytes.get(name, 0) :]
                self._ended.add(name)
                continue
            if pods.is_running(pod):
                # Read at once what there is, and follow what comes later.
                log = self._log(name)
                output += log[self._read_bytes.get(name, 0) :]
                self._read_bytes[name] = max(self._read_bytes.get(name, 0), len(log))
                self._follow(name)
            break
        return output

    def _pods(self) -> list[Json]:
        found = self._kubectl.objects("pod", "--selector", pods.selector([self._job]))
        return [pod for pod in pods.of(found, self._job, "Pod") if pods.index(pod) == self._node]

    def _log(self, name: str) -> bytes:
        """All output of a pod; empty if its node has lost it, and then `problem` says why."""
        command = self._kubectl.command("logs", name, "--container", CONTAINER)
        try:
            result = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            self.problem = (1, [f"kubectl logs {name}: {error}"])
            return b""
        if result.returncode:
            lines = result.stderr.decode(errors="replace").splitlines()
            self.problem = (result.returncode, [f"kubectl logs {name}: {line}" for line in lines if line.strip()])
        return result.stdout

    def _follow(self, name: str) -> None:
        process = subprocess.Popen(
            self._kubectl.command("logs", name, "--container", CONTAINER, "--follow"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        self._following, self._skip = (name, process), self._read_bytes.get(name, 0)

    def _read_followed(self) -> bytes:
        if self._following is None:
            return b""
        name, process = self._following
        assert process.stdout is not None
        ended = process.poll() is not None
        output = process.stdout.read() or b""
        skipped = min(self._skip, len(output))
        output, self._skip = output[skipped:], self._skip - skipped
        self._read_bytes[name] = self._read_bytes.get(name, 0) + len(output)
        if ended:
            process.stdout.close()
            self._following = None
        return output
