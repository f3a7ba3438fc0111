"""Runs Slurm's programs. Every failure is a BadInput of one line."""

import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hatrain.errors import BadInput

TIMEOUT_SECONDS = 60.0
"""A busy controller answers late; one that takes longer than this is down."""


@dataclass(frozen=True)
class Variables:
    """What a program sees of its environment: everything but the names with a prefix of `dropped`, unless `kept`."""

    dropped: tuple[str, ...]
    kept: frozenset[str] = frozenset()

    def has(self, name: str) -> bool:
        return name in self.kept or not name.startswith(self.dropped)


QUERY = Variables(("SQUEUE_", "SACCT_"))
"""A user's SQUEUE_STATES or SACCT_FORMAT would change the output."""


class NotInstalled(BadInput):
    """A program is not where it should run."""


@dataclass(frozen=True)
class Ended:
    """How a program ended."""

    code: int
    out: str
    errors: str


class Machine(Protocol):
    """Where Slurm's programs run."""

    def execute(self, command: Sequence[str], variables: Variables, stdin: str) -> Ended:
        """Raises NotInstalled for a program that is not there, and BadInput where there is no answer."""


class ThisMachine:
    """A login node of the cluster."""

    def execute(self, command: Sequence[str], variables: Variables, stdin: str) -> Ended:
        program = command[0]
        try:
            result = subprocess.run(
                command,
                env={name: value for name, value in os.environ.items() if variables.has(name)},
                input=stdin,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=TIMEOUT_SECONDS,
            )
        except FileNotFoundError:
            raise NotInstalled(
                f"{program}: not found on this machine; run hatrain on a login node of the cluster, or set ssh in the "
                "cluster file"
            ) from None
        except OSError as error:
            raise BadInput(f"{program}: cannot be started: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            raise no_answer(program) from None
        return Ended(result.returncode, result.stdout, result.stderr)


def no_answer(program: str) -> BadInput:
    hint = "; the job may have been submitted: see squeue --me" if program == "sbatch" else ""
    return BadInput(f"{program}: no answer in {TIMEOUT_SECONDS:g} s; check Slurm with `scontrol ping`{hint}")


def run(machine: Machine, command: Sequence[str], variables: Variables = QUERY, stdin: str = "") -> str:
    """Run one of Slurm's programs. Returns its output. Raises BadInput with one line for every failure."""
    program = command[0]
    ended = machine.execute(command, variables, stdin)
    if ended.code:
        raise BadInput(f"{program}: {complaint(program, ended.errors.splitlines()) or f'exit code {ended.code}'}")
    return ended.out


def complaint(program: str, lines: Iterable[str]) -> str:
    """One line of what a program printed to stderr, without its own name before each part."""
    parts = (re.sub(rf"^({program}: )?((error|fatal): )?", "", line.strip()) for line in lines)
    return shortened("; ".join(dict.fromkeys(part for part in parts if part)))


def quoted(text: str) -> str:
    return repr(shortened(text))


def shortened(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:300]}…"
