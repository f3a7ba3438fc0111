"""Passes logged steps to TensorBoard, W&B, MLflow and Trackio: the last three through transformers' own integrations.

Each tracker works in a thread of its own, so that training never waits for a server; one that fails is left out from
there on, and training goes on. Only rank 0 has trackers.
"""

import contextlib
import copy
import hashlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from transformers import TrainerControl, TrainerState, TrainingArguments

from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory
from hatrain.contract.spec import leaves
from hatrain.runtime import credentials, seal

LAST_SECONDS, LAST_SECONDS_AT_STOP = 60.0, 10.0
"""How long training waits at its end, and at a stop, for trackers that still send."""
MOST_WAITING = 10_000
"""Logged steps that may wait for a tracker; one that is further behind is left out."""
PROJECT = "hatrain"
"""The project, or experiment, of all runs, unless the environment names another."""


class Tracker(Protocol):
    """What shows the logged steps of a run. All methods are called by one thread, and may raise anything."""

    name: str

    def begin(self, args: TrainingArguments, state: TrainerState, model: Any) -> str:
        """Start, or go on after an interruption. Returns where the steps can be seen, in a few words, or nothing."""

    def log(self, args: TrainingArguments, state: TrainerState, values: dict[str, float]) -> None:
        """Show the values of a step, `state.global_step`. Names of a test begin with `test_`."""

    def end(self, args: TrainingArguments, state: TrainerState) -> None:
        """Send what is left."""


def trackers(plan: Plan, run: RunDirectory) -> list["Guarded"]:
    """Return the trackers of a run's job, started."""
    made = [Board(run) if name == "tensorboard" else Integration(name, plan, run) for name in plan.job.logging.trackers]
    return [Guarded(tracker, run) for tracker in made]


def tracked_id(plan: Plan, run: RunDirectory) -> str:
    """Return the id of a run for its trackers, the same in all its attempts: it is recorded in trackers.json.

    It comes from the run's name, its identity and the first time in its record, so that a run that begins anew under
    its old name is another one.
    """
    known = read_ids(run).get("id")
    if isinstance(known, str):
        return known
    began = next((str(event.get("time")) for event in run.events()), "")
    made = hashlib.sha256("\n".join((run.name, plan.identity, began)).encode()).hexdigest()[:16]
    record_id(run, "id", made)
    return made


def read_ids(run: RunDirectory) -> dict[str, Any]:
    """What trackers.json says; empty without one."""
    return seal.read_object(run.trackers)


def record_id(run: RunDirectory, name: str, value: str) -> None:
    seal.write_json(run.trackers, {**read_ids(run), name: value})


def end(trackers: Sequence["Guarded"], args: TrainingArguments, state: TrainerState) -> None:
    """End all trackers, and wait until they have sent everything: a minute at most, and less at a stop."""
    for tracker in trackers:
        tracker.end(args, state)
    most = LAST_SECONDS if state.global_step >= state.max_steps else LAST_SECONDS_AT_STOP
    deadline = time.monotonic() + most
    for tracker in trackers:
        tracker.wait(max(0.0, deadline - time.monotonic()), most)


class Guarded:
    """Calls a tracker in a thread of its own, in order. A failure, or a server that does not answer, stops no step."""

    def __init__(self, tracker: Tracker, run: RunDirectory):
        self.tracker, self.run = tracker, run
        self._calls: queue.Queue[Callable[[], None] | None] = queue.Queue(MOST_WAITING)
        self._failed = False
        self._thread = threading.Thread(target=self._work, name=tracker.name, daemon=True)
        self._thread.start()

    def begin(self, args: TrainingArguments, state: TrainerState, model: Any) -> None:
        # The state goes on changing while the tracker is at it.
        now = copy.copy(state)

        def begin() -> None:
            if where := self.tracker.begin(args, now, model):
                self._say(f"tracked by {self.tracker.name}: {where}")

        self._put(begin)

    def log(self, args: TrainingArguments, state: TrainerState, values: dict[str, float]) -> None:
        now = copy.copy(state)
        self._put(lambda: self.tracker.log(args, now, values))

    def end(self, args: TrainingArguments, state: TrainerState) -> None:
        now = copy.copy(state)
        self._put(lambda: self.tracker.end(args, now))
        self._put(None)

    def wait(self, seconds: float, waited: float) -> None:
        """Wait until everything is sent, for so many more seconds; `waited` is how long that is in all."""
        if self._failed:
            return
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._fail(f"still sending {waited:g} s after the last step")

    def _put(self, call: Callable[[], None] | None) -> None:
        if self._failed:
            return
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            self._fail(f"{MOST_WAITING:,} logged steps behind")

    def _work(self) -> None:
        while call := self._calls.get():
            try:
                call()
            except BaseException as error:  # some libraries raise SystemExit or KeyboardInterrupt
                said = (str(error).strip().splitlines() or [""])[0]
                self._fail(f"{type(error).__name__}: {said}" if said else type(error).__name__)
                return

    def _fail(self, reason: str) -> None:
        if self._failed:
            return
        self._failed = True
        reason = credentials.hide(reason)
        self._say(f"{self.tracker.name} tracks this attempt no further, training goes on: {reason}")
        with contextlib.suppress(OSError):
            self.run.record("tracker failed", tracker=self.tracker.name, reason=reason)

    def _say(self, text: str) -> None:
        # In one piece: other threads print as well.
        print(credentials.hide(text) + "\n", end="", flush=True)


class Board:
    """TensorBoard's own files, in the run's directory. After an interruption it purges the steps that are repeated."""

    name = "tensorboard"

    def __init__(self, run: RunDirectory):
        self.run = run

    def begin(self, args: TrainingArguments, state: TrainerState, model: Any) -> str:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self.run.tensorboard), purge_step=state.global_step + 1)
        return ""

    def log(self, args: TrainingArguments, state: TrainerState, values: dict[str, float]) -> None:
        for name, value in values.items():
            tag = f"test/{name[5:]}" if name.startswith("test_") else f"train/{name}"
            self._writer.add_scalar(tag, value, state.global_step)
        self._writer.flush()

    def end(self, args: TrainingArguments, state: TrainerState) -> None:
        self._writer.close()


class Integration:
    """W&B, MLflow or Trackio, through transformers' callback. It gets the job as its settings, and metrics; never
    weights."""

    def __init__(self, name: str, plan: Plan, run: RunDirectory):
        self.name, self.plan, self.run = name, plan, run
        self.id = tracked_id(plan, run)

    def begin(self, args: TrainingArguments, state: TrainerState, model: Any) -> str:
        os.environ.update(_SET[self.name](self))
        for key, value in _DEFAULTS[self.name](self).items():
            os.environ.setdefault(key, value)
        from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

        self.callback = INTEGRATION_TO_CALLBACK[self.name]()
        for library in ("mlflow", "alembic"):
            logging.getLogger(library).setLevel(logging.WARNING)
        self.callback.on_train_begin(self._described(args), state, TrainerControl(), model=model)
        return _WHERE[self.name](self)

    def log(self, args: TrainingArguments, state: TrainerState, values: dict[str, float]) -> None:
        self.callback.on_log(self._described(args), state, TrainerControl(), logs=values)

    def end(self, args: TrainingArguments, state: TrainerState) -> None:
        self.callback.on_train_end(self._described(args), state, TrainerControl())
        if self.name == "wandb":
            self.callback._wandb.finish()

    def _described(self, args: TrainingArguments) -> TrainingArguments:
        """transformers' arguments under the run's name, which describe themselves by the keys of the job."""
        described: Any = copy.copy(args)
        described.run_name = f"{self.run.name}-{self.id[:8]}" if self.name == "trackio" else self.run.name
        described.project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        described.trackio_space_id = os.environ.get("TRACKIO_SPACE_ID")
        described.trackio_static_space_id = False
        job = {key: value for key, value in leaves(self.plan.job.model_dump(mode="json")) if value is not None}
        described.to_dict = lambda: dict(credentials.hidden(job))
        return described


# --- what each needs in its environment, and where it shows a run --------------------------------------------


def _wandb_set(tracker: Integration) -> dict[str, str]:
    """The same run in each attempt. Weights stay here, and W&B's output does not mix with the log."""
    return {
        "WANDB_RUN_ID": tracker.id,
        "WANDB_RESUME": "allow",
        "WANDB_LOG_MODEL": "false",
        "WANDB_WATCH": "false",
        "WANDB_SILENT": "true",
    }


def _wandb_defaults(tracker: Integration) -> dict[str, str]:
    name, run = tracker.run.name, tracker.run
    return {
        "WANDB_PROJECT": PROJECT,
        "WANDB_DIR": str(run.folder),
        "WANDB_CONSOLE": "off",
        **({"WANDB_RUN_GROUP": name.partition("/")[0]} if run.in_sweep else {}),
        **({} if tracker.plan.cluster_spec.network else {"WANDB_MODE": "offline"}),
    }


def _wandb_where(tracker: Integration) -> str:
    current = tracker.callback._wandb.run
    return str(current.url or f"{current.dir.removesuffix('/files')}, to send with wandb sync")


def _mlflow_set(tracker: Integration) -> dict[str, str]:
    """MLflow chooses the id of a run: a later attempt goes on with the one that the first recorded."""
    known = read_ids(tracker.run).get("mlflow")
    if not isinstance(known, str):
        os.environ.pop("MLFLOW_RUN_ID", None)
        return {}
    return {"MLFLOW_RUN_ID": known}


def _mlflow_where(tracker: Integration) -> str:
    mlflow = tracker.callback._ml_flow
    number = mlflow.active_run().info.run_id
    record_id(tracker.run, "mlflow", number)
    return f"run {number} at {mlflow.get_tracking_uri()}"


_Variables = Callable[[Integration], dict[str, str]]
_SET: dict[str, _Variables] = {"wandb": _wandb_set, "mlflow": _mlflow_set, "trackio": lambda tracker: {}}
_DEFAULTS: dict[str, _Variables] = {
    "wandb": _wandb_defaults,
    "mlflow": lambda tracker: {"MLFLOW_EXPERIMENT_NAME": PROJECT},
    "trackio": lambda tracker: {},
}
_WHERE: dict[str, Callable[[Integration], str]] = {
    "wandb": _wandb_where,
    "mlflow": _mlflow_where,
    "trackio": lambda tracker: f"project {os.environ.get('TRACKIO_PROJECT', PROJECT)}, to see with trackio show",
}
