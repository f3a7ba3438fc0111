"""The run directory: where each file of a run lies, its attempts and its record, and how a plan takes it over."""

import enum
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from hatrain.contract.plan import Plan
from hatrain.contract.record import Fruitless, fruitless, well_formed
from hatrain.contract.spec import JobSpec, leaves
from hatrain.errors import BadInput, nearest
from hatrain.runtime import credentials, reserve, seal
from hatrain.runtime.lease import Lease
from hatrain.runtime.stop import Stop
from hatrain.runtime.stop import read as read_stop


class Exit(enum.IntEnum):
    """The exit code of an attempt, which tells a launcher what to do next."""

    FINISHED = 0
    """DONE is there."""
    FAULT = 1
    """A rank or a node failed: queue again."""
    REQUEUE = 75
    """Stopped from outside, the checkpoint is safe: queue again."""
    FATAL = 78
    """Can never succeed as it stands: fail, never retry."""
    STOPPED = 130
    """The user stopped it, the checkpoint is safe: end, do not queue again."""

    @property
    def state(self) -> str:
        """What a run is whose last attempt ended so."""
        return {0: "finished", 75: "stopped", 130: "stopped"}.get(self, "failed")


def combine(codes: Iterable[int]) -> Exit:
    """Combine the exit codes of several ranks: 78 over a fault, a fault over 130, 130 over 75, 75 over 0. Unknown
    codes, and no code at all, are faults."""
    order = [Exit.FATAL, Exit.FAULT, Exit.STOPPED, Exit.REQUEUE, Exit.FINISHED]
    known = {int(code) for code in order}
    found = {Exit(code) if code in known else Exit.FAULT for code in codes}
    return next((code for code in order if code in found), Exit.FAULT)


def runs_root() -> Path:
    """The folder of all runs: $HATRAIN_RUNS, else ./runs."""
    return Path(os.environ.get("HATRAIN_RUNS") or "runs").absolute()


NO_REPORT = "ended without an exit report"
_DATE_BEFORE = date(2024, 7, 26)
"""The date of runs that began before it was recorded."""


class Attempt:
    """The folder of one attempt, attempts/N: the stop file and the exit report of each rank."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.number = int(folder.name)

    def request_stop(self, stop: Stop) -> None:
        """Write the stop file, unless an earlier request stands (`Stop.replaces`)."""
        if stop.replaces(self.stop()):
            request = {"reason": stop.reason, "requeue": stop.requeue}
            self._with_room(lambda: seal.write_json(self.folder / "STOP", request))

    def stop(self) -> Stop | None:
        return read_stop(self.folder / "STOP")

    def report_exit(self, rank: int | str, code: Exit, reason: str, *, decides: bool = False) -> None:
        """Write the exit report of a rank, or of a stage by its name: torchrun turns every exit code into 1.

        One that `decides` is why the other ranks could not go on: their faults do not count.
        """
        report = {"code": int(code), "reason": credentials.hide(reason), **({"decides": True} if decides else {})}
        self._with_room(lambda: seal.write_json(self.folder / f"rank-{rank}.json", report))

    def _with_room(self, write: Callable[[], None]) -> None:
        reserve.with_room(self.folder.parents[1], write)

    def has_reported(self, rank: int | str) -> bool:
        return (self.folder / f"rank-{rank}.json").exists()

    def outcomes(self, ranks: Iterable[int | str]) -> dict[int | str, tuple[Exit, str]]:
        """Return each rank's exit code and reason; a rank without an exit report is a fault. Where one report decides,
        only those that decide are returned, and what can never succeed."""
        reports = {rank: self._exit_report(rank) for rank in ranks}
        outcomes = {rank: (code, reason) for rank, (code, reason, _) in reports.items()}
        return _deciding(reports) or outcomes

    def deciding(self, ranks: Iterable[int]) -> dict[int | str, tuple[Exit, str]]:
        """Return the exit codes and reasons that decide for these ranks, of all nodes; none where no report decides."""
        return _deciding({rank: self._exit_report(rank) for rank in ranks})

    def _exit_report(self, rank: int | str) -> tuple[Exit, str, bool]:
        """Exit code, reason, and whether they decide."""
        try:
            report = json.loads((self.folder / f"rank-{rank}.json").read_text(encoding="utf-8"))
            return combine([report["code"]]), str(report["reason"]), report.get("decides") is True
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return Exit.FAULT, NO_REPORT, False


def _deciding(reports: Mapping[Any, tuple[Exit, str, bool]]) -> dict[int | str, tuple[Exit, str]]:
    if not any(decides for _, _, decides in reports.values()):
        return {}
    return {rank: (code, reason) for rank, (code, reason, decides) in reports.items() if decides or code is Exit.FATAL}


SWEEP = "sweep"
"""The runs of a sweep are NAME/sweep/0, NAME/sweep/1, …"""


class RunDirectory:
    """The folder of one run. The name of a run of a sweep is NAME/sweep/K."""

    def __init__(self, folder: Path):
        self.folder = folder.absolute()
        self.in_sweep = self.folder.parent.name == SWEEP and self.folder.name.isdigit()
        self.root = self.folder.parents[2 if self.in_sweep else 0]
        self.name = str(self.folder.relative_to(self.root))
        self.job_file = self.folder / "job.yaml"
        self.plan_file = self.folder / "plan.json"
        self.record_file = self.folder / "record.jsonl"
        self.launch = self.folder / "launch"
        self.attempts = self.folder / "attempts"
        self.metrics = self.folder / "metrics.jsonl"
        self.tensorboard = self.folder / "tensorboard"
        self.trackers = self.folder / "trackers.json"
        self.checkpoints = self.folder / "checkpoints"
        self.model = self.folder / "model"
        self.adapter = self.folder / "adapter"
        self.description = self.folder / "description.json"
        self.evaluation = self.folder / "evaluation.json"
        self.export = self.folder / "export"
        self.report = self.folder / "report.html"
        self.done = self.folder / "DONE"
        self.lease = Lease(self.folder / "lease.json")

    def plan(self) -> Plan:
        """Read plan.json. Raises BadInput when it is missing, or of a version that cannot be read."""
        try:
            return Plan.model_validate_json(self.plan_file.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            raise BadInput(f"{self.plan_file}: no such file; {self.folder} is not a run") from None
        except OSError as error:
            raise BadInput(f"{self.plan_file}: cannot be read: {error.strerror}") from None
        except ValueError as error:
            first = str(error).splitlines()[0]
            raise BadInput(f"{self.plan_file}: not a plan that this version reads: {first}") from None

    def job(self) -> JobSpec:
        """Read the job from plan.json, whatever its version. Raises BadInput when it cannot be read."""
        try:
            return JobSpec.model_validate(json.loads(self.plan_file.read_bytes())["job"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            first = str(error).splitlines()[0]
            raise BadInput(f"{self.plan_file}: no job that this version reads: {first}") from None

    # --- the record ---

    def record(self, event: str, **facts: Any) -> None:
        """Append an event to record.jsonl, with the time (UTC)."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        line = credentials.hidden({"time": now, "event": event, **facts})
        reserve.with_room(self.folder, lambda: seal.append_line(self.record_file, line))

    def events(self) -> list[dict[str, Any]]:
        """Read the record, oldest event first. Raises OSError when it is no readable file."""
        return list(well_formed(seal.read_lines(self.record_file)))

    def today(self) -> date:
        """Return the run's date, which the first attempt recorded as it began; today's before that.

        Some chat templates write the date, and every attempt and the evaluation have to render the same text.
        """
        begun = next((event for event in self.events() if event.get("event") == "attempt begun"), None)
        if begun is None:
            return datetime.now(UTC).date()
        return date.fromisoformat(begun["date"]) if "date" in begun else _DATE_BEFORE

    def fruitless(self) -> Fruitless:
        """Count the latest attempts in a row that began and sealed nothing."""

        def was_stopped(number: int) -> bool:
            stop = Attempt(self.attempts / str(number)).stop()
            return stop is not None and stop.requeue

        return fruitless(self.events(), was_stopped)

    # --- attempts ---

    def all_attempts(self) -> list[Attempt]:
        """Return the attempts, oldest first."""
        numbers = [int(path.name) for path in self.attempts.glob("*") if path.name.isdigit()]
        return [Attempt(self.attempts / str(number)) for number in sorted(numbers)]

    def new_attempt(self) -> Attempt:
        earlier = self.all_attempts()
        folder = self.attempts / str(earlier[-1].number + 1 if earlier else 1)
        reserve.with_room(self.folder, lambda: folder.mkdir(parents=True))
        return Attempt(folder)

    def remove_unfinished(self) -> None:
        """Remove what a killed attempt was writing. Only the holder of the lease may."""
        for folder in (self.folder, self.checkpoints):
            for path in (*folder.glob(".partial-*"), *folder.glob(".old-*")):
                with suppress(OSError):
                    seal.remove(path)

    # --- taking over ---

    def difference(self, job: JobSpec) -> list[str]:
        """Return a line for each key of the identity in which a job differs from this directory's."""
        old, new = (dict(leaves(one.identity_parts())) for one in (self.job(), job))
        return [
            f"{key}: {_shown(old.get(key))} → {_shown(new.get(key))}"
            for key in dict.fromkeys([*old, *new])
            if old.get(key) != new.get(key)
        ]

    def refuse_another(self, job: JobSpec) -> None:
        """Raise BadInput, with the difference, when this directory belongs to a job of another identity."""
        if lines := self.difference(job):
            raise BadInput(
                [
                    f"{self.folder}: holds another job of this name; use --fresh to set it aside, "
                    "or give this one another name",
                    *(f"  {line}" for line in lines),
                ]
            )

    def adopt(self, plan: Plan, files: Mapping[str, str], *, fresh: bool = False) -> Path | None:
        """Make this the directory of a plan: write its `{path: text}` files, plan.json last.

        Returns where `fresh` moved an earlier directory to. Raises BadInput while an attempt is live, and when
        the directory belongs to another job and `fresh` is not given.
        """
        aside = None
        if owner := self.lease.holder() if self.folder.is_dir() else None:
            raise BadInput(
                f"{self.name}: an attempt is running (process {owner['pid']} on {owner['host']}); "
                f"stop it first: hatrain stop {self.name}"
            )
        if self.plan_file.exists():
            if fresh:
                aside = self._set_aside()
            else:
                self.refuse_another(plan.job)
        for name, text in files.items():
            seal.write_text(self.folder / name, text, 0o755 if name.endswith(".sh") else 0o644)
        seal.write_text(self.plan_file, plan.model_dump_json(indent=2) + "\n")
        return aside

    def _set_aside(self) -> Path:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        aside = self.folder.with_name(f"{self.folder.name}.{stamp}")
        number = 1
        while aside.exists():
            number += 1
            aside = self.folder.with_name(f"{self.folder.name}.{stamp}-{number}")
        return self.folder.rename(aside)

    def result(self, job: JobSpec) -> Path:
        """Return the folder of the result: `adapter/` for LoRA that is not merged, else `model/`."""
        return self.adapter if job.method.lora and not job.method.lora.merge else self.model

    def link_model(self, models: Path, result: Path) -> Path | None:
        """Link `models/NAME` to the result. Returns None when a real folder of that name is in the way."""
        link = models / self.name.replace("/", "-")
        if link.exists() and not link.is_symlink():
            return None
        models.mkdir(parents=True, exist_ok=True)
        aside = models / f".{link.name}.{os.getpid()}"
        with suppress(FileNotFoundError):
            aside.unlink()
        aside.symlink_to(os.path.relpath(result, models.resolve()))
        return aside.replace(link)


def all_runs() -> list[RunDirectory]:
    """Return all runs, those of sweeps too, sorted by name. Raises BadInput when the runs folder is a file."""
    root = runs_root()
    if root.exists() and not root.is_dir():
        raise BadInput(f"{root}: found a file; accepted: a folder of runs ($HATRAIN_RUNS, else ./runs)")
    swept = (path for path in root.glob(f"*/{SWEEP}/*/plan.json") if path.parent.name.isdigit())
    runs = (RunDirectory(path.parent) for path in (*root.glob("*/plan.json"), *swept))
    return sorted(runs, key=lambda run: _natural(run.name))


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort run 10 of a sweep after run 9."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in name.split("/")]


def find_runs(name: str) -> list[RunDirectory]:
    """Find a run, or all runs of a sweep in their order, by folder or by name. Raises as `find_run` does."""
    for folder in (runs_root() / name, Path(name)):
        numbers = [path.parent.name for path in (folder / SWEEP).glob("*/plan.json")]
        if inside := sorted(int(number) for number in numbers if number.isdigit()):
            return [RunDirectory(folder / SWEEP / str(number)) for number in inside]
    return [find_run(name)]


def find_run(name: str) -> RunDirectory:
    """Find a run by its folder, or by its name in the runs folder. Raises BadInput with the nearest name."""
    root = runs_root()
    for folder in (root / name, Path(name)):
        if (folder / "plan.json").is_file():
            return RunDirectory(folder)
    known = [run.name for run in all_runs()]
    accepted = f" (accepted: a folder, or {', '.join(known)})" if known else f" (there is none in {root})"
    raise BadInput(f"{name}: no such run{accepted}{nearest(name, known)}")


def _shown(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)
