"""kubectl as a process: what it is asked, how long it may take, and one line where it does not answer. It knows
nothing of runs."""

import json
import re
import subprocess
from collections.abc import Sequence
from typing import Any

from hatrain.contract.cluster import KubernetesCluster
from hatrain.errors import BadInput

SECONDS = 60.0
"""A server that is busy answers late; one that does not answer by now is down, or cannot be reached from here."""

Json = dict[str, Any]


class Kubectl:
    """Speaks to one namespace of one cluster."""

    def __init__(self, place: KubernetesCluster):
        context = ("--context", place.context) if place.context else ()
        self._where = (*context, "--namespace", place.namespace)

    def command(self, *words: str) -> tuple[str, ...]:
        """Return a command as a person would give it."""
        return ("kubectl", *self._where, *words)

    def run(
        self,
        *words: str,
        given: str | None = None,
        accepted: Sequence[int] = (0,),
        seconds: float = SECONDS,
    ) -> "subprocess.CompletedProcess[str]":
        """Run kubectl to its end, with `given` on its input. Raises BadInput when it is missing, takes longer than
        `seconds`, or leaves with a code that is not `accepted`: then in the server's own words."""
        command = self.command(*words)
        try:
            told = subprocess.run(
                command,
                # Not the terminal: somebody who has to log in is told so, and not asked in between.
                stdin=subprocess.DEVNULL if given is None else None,
                input=given,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=seconds,
            )
        except FileNotFoundError:
            raise BadInput(
                "kubectl: not found; install it, or pipe hatrain render to it where it is: kubectl apply -f -"
            ) from None
        except OSError as error:
            raise BadInput(f"kubectl: cannot be started: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            raise BadInput(f"kubectl {words[0]}: no answer within {seconds:g} s; {self.whom()}") from None
        if told.returncode not in accepted:
            raise BadInput(_problems(words[0], told))
        return told

    def objects(self, *words: str) -> list[Json]:
        """Return what `kubectl get` finds, if anything. Raises BadInput, also for an answer that is no list of
        objects."""
        text = self.run("get", *words, "--ignore-not-found", "--output", "json").stdout
        if not text.strip():
            return []
        try:
            answer = json.loads(text)
            found = answer["items"] if answer["kind"].endswith("List") else [answer]
            if all(
                isinstance(one["kind"], str) and isinstance(one["metadata"]["name"], str) for one in found
            ):
                return list(found)
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        start = " ".join(text.split())[:60]
        raise BadInput(f"kubectl get: answered {start!r}, which is no list of objects; {self.whom()}")

    def whom(self) -> str:
        """Return whom it speaks to, to be checked by hand."""
        return f"try: {' '.join(self.command('get', 'pods'))}"


_LOGGED = re.compile(r"[EWIF]\d{4} \d\d:\d\d:\d\d")
"""How a line of klog begins: severity, month and day, time."""


def complaint(told: "subprocess.CompletedProcess[str]") -> list[str]:
    """Return the lines of what kubectl complained of, without what its libraries log before the sentence that is for
    people: that says the same several times."""
    lines = [line.strip() for line in told.stderr.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("Warning:")]
    return [line for line in lines if not _LOGGED.match(line)] or lines[-1:]


def _problems(verb: str, told: "subprocess.CompletedProcess[str]") -> list[str]:
    return [f"kubectl {verb}: {line}" for line in complaint(told)] or [
        f"kubectl {verb}: left with exit code {told.returncode} and no word"
    ]
