"""Runs kubectl, and turns its failures into one line each. Knows nothing about runs."""

import json
import re
import subprocess
from collections.abc import Sequence
from typing import Any

from hatrain.contract.cluster import KubernetesCluster
from hatrain.errors import BadInput
from launch.backends.protocol import AccessRefused

SECONDS = 60.0
"""A busy server answers late; one that takes longer than this is down or unreachable."""

Json = dict[str, Any]


class Kubectl:
    """kubectl for one namespace of one cluster."""

    def __init__(self, cluster: KubernetesCluster):
        context = ("--context", cluster.context) if cluster.context else ()
        self._options = (*context, "--namespace", cluster.namespace)

    def command(self, *arguments: str) -> tuple[str, ...]:
        return ("kubectl", *self._options, *arguments)

    def run(
        self,
        *arguments: str,
        stdin: str | None = None,
        accepted: Sequence[int] = (0,),
        seconds: float = SECONDS,
    ) -> "subprocess.CompletedProcess[str]":
        """Raises BadInput if kubectl is missing, takes longer than `seconds`, or exits with a code that is not
        `accepted`: then with the server's own message."""
        try:
            result = subprocess.run(
                self.command(*arguments),
                # Not the terminal: kubectl must not prompt for a login.
                stdin=subprocess.DEVNULL if stdin is None else None,
                input=stdin,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=seconds,
            )
        except FileNotFoundError:
            raise BadInput(
                "kubectl: not found; install it, or pipe the output of hatrain render to a machine that has it: "
                "kubectl apply -f -"
            ) from None
        except OSError as error:
            raise BadInput(f"kubectl: cannot be started: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            raise BadInput(f"kubectl {arguments[0]}: no answer within {seconds:g} s; {self._hint()}") from None
        if result.returncode not in accepted:
            refused = re.search(r"\((Forbidden|Unauthorized)\)|must be logged in to the server", result.stderr)
            quota = "exceeded quota" in result.stderr
            raise (AccessRefused if refused and not quota else BadInput)(_problems(arguments[0], result))
        return result

    def objects(self, *arguments: str) -> list[Json]:
        """The objects that `kubectl get` finds. Raises BadInput, also for an answer that is no list of objects."""
        text = self.run("get", *arguments, "--ignore-not-found", "--output", "json").stdout
        if not text.strip():
            return []
        try:
            answer = json.loads(text)
            objects = answer["items"] if answer["kind"].endswith("List") else [answer]
            if all(isinstance(each["kind"], str) and isinstance(each["metadata"]["name"], str) for each in objects):
                return list(objects)
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        start = " ".join(text.split())[:60]
        raise BadInput(f"kubectl get: printed {start!r}, which is no list of objects; {self._hint()}")

    def _hint(self) -> str:
        return f"try: {' '.join(self.command('get', 'pods'))}"


_KLOG_PREFIX = re.compile(r"[EWIF]\d{4} \d\d:\d\d:\d\d")
"""Severity, month and day, time."""


def complaint(result: "subprocess.CompletedProcess[str]") -> list[str]:
    """The lines of kubectl's error message, without those that its libraries log before it."""
    lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("Warning:")]
    return [line for line in lines if not _KLOG_PREFIX.match(line)] or lines[-1:]


def _problems(verb: str, result: "subprocess.CompletedProcess[str]") -> list[str]:
    return [f"kubectl {verb}: {line}" for line in complaint(result)] or [
        f"kubectl {verb}: exit code {result.returncode} and no message"
    ]
