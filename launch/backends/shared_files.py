"""Reading and stopping runs whose directories this machine sees. Shared by the backends that have such runs."""

from collections.abc import Callable, Sequence
from pathlib import Path

from hatrain.contract.run import Attempt, RunDirectory
from hatrain.errors import BadInput
from hatrain.runtime.stop import Stop


class FileReader:
    """Reads what is appended to the files of a job, in order. A file that appears later is read from its beginning."""

    problem: tuple[int, list[str]] | None = None

    def __init__(self, files: Callable[[], Sequence[Path]], *, whole: bool):
        """`files` lists the files that exist by now; `whole` also reads what they already hold."""
        self._files = files
        self._offsets = {} if whole else {path: path.stat().st_size for path in files() if path.exists()}

    def read(self) -> bytes:
        output = b""
        for path in self._files():
            try:
                with path.open("rb") as file:
                    file.seek(self._offsets.get(path, 0))
                    appended = file.read()
            except FileNotFoundError:
                continue
            self._offsets[path] = self._offsets.get(path, 0) + len(appended)
            output += appended
        return output

    def read_rest(self) -> bytes:
        return self.read()

    def close(self) -> None:
        """Nothing to close: no file stays open between two reads."""


def running_attempt(run: RunDirectory) -> Attempt:
    """Raises BadInput if there is none."""
    attempts = run.all_attempts()
    if not attempts or run.lease.holder() is None:
        raise BadInput(f"{run.name}: no attempt is running; to remove it from the queue: hatrain cancel {run.name}")
    return attempts[-1]


def stop_by_file(run: RunDirectory, reason: str) -> str:
    """Write the stop file of a run's running attempt. Raises BadInput if there is none."""
    attempt = running_attempt(run)
    try:
        attempt.request_stop(Stop(reason, requeue=False))
    except OSError as error:
        raise BadInput(
            f"{run.name}: cannot write to {attempt.folder}: {error.strerror}; ask the run's own user to stop it"
        ) from None
    return f"attempt {attempt.number} saves a checkpoint after its current step and exits"
