"""Slurm's programs on the login node of a cluster."""

import shlex
from collections.abc import Sequence

from launch.backends.slurm import programs
from launch.backends.slurm.programs import Ended, NotInstalled, Variables, no_answer
from launch.backends.slurm.ssh.connection import Connection
from launch.run_files import here_document

_TIMED_OUT, _NOT_FOUND = 124, 127
"""Exit codes of `timeout`."""


class LoginNode:
    """Runs programs with the environment of a login there."""

    def __init__(self, connection: Connection):
        self._connection = connection

    def execute(self, command: Sequence[str], variables: Variables, stdin: str) -> Ended:
        program = command[0]
        timed = ["timeout", f"{programs.TIMEOUT_SECONDS:g}", *command]
        lines = [*unset(variables), *here_document(shlex.join(timed), stdin)]
        output = self._connection.run("\n".join(lines), login=True)
        if output.code == _NOT_FOUND:
            raise NotInstalled(
                f"{program}: not found on {self._connection.host}; it has to be on the PATH of a login there"
            )
        if output.code == _TIMED_OUT:
            raise no_answer(program)
        return Ended(output.code, output.text, output.errors)


def unset(variables: Variables) -> list[str]:
    """Lines of bash that drop variables."""
    names = " ".join(f'"${{!{prefix}@}}"' for prefix in variables.dropped)
    kept = shlex.quote(f" {' '.join(sorted(variables.kept))} ")
    return [
        f"for name in {names}; do",
        f'  if [[ -n $name && {kept} != *" $name "* ]]; then unset "$name"; fi',
        "done",
    ]
