"""The commit of a hub model that a run trains on: recorded by its first attempt and used by every later one, so that a
branch that moves changes no run. It imports neither torch nor transformers."""

from pathlib import Path

from hatrain.contract import hub, model_ref
from hatrain.contract.inputs import workdir_of
from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput

EVENT = "base model"


def record(plan: Plan, run: RunDirectory) -> None:
    """Record the commit that the job's revision resolves to, once in a run. A folder has none, and a hub that does not
    answer leaves nothing recorded: reading the model then says what is wrong."""
    try:
        ref = _resolve(plan, run)
    except BadInput:
        return
    if ref.repository and _recorded(run, ref) is None and (commit := commit_of(ref)):
        run.record(EVENT, repository=ref.repository, revision=ref.revision, commit=commit)


def pinned(plan: Plan, run: RunDirectory) -> Plan:
    """Return the plan with `model.base` as `from_pretrained` takes it, and the recorded commit as `model.revision`.

    Raises BadInput for a base that is not there.
    """
    ref = _resolve(plan, run)
    revision = (_recorded(run, ref) or ref.revision) if ref.repository else None
    model = plan.job.model.model_copy(update={"base": ref.source, "revision": revision})
    return plan.model_copy(update={"job": plan.job.model_copy(update={"model": model})})


def commit_of(ref: model_ref.ModelRef) -> str | None:
    """Return the commit that a repository's revision stands for, from the hub or its cache; None where neither
    tells."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        hub.require(str(ref.repository), ref.revision)
        file = hf_hub_download(str(ref.repository), "config.json", revision=ref.revision)
    except (BadInput, HfHubHTTPError, HFValidationError, OSError, ValueError):
        return None
    return Path(file).parent.name


def _resolve(plan: Plan, run: RunDirectory) -> model_ref.ModelRef:
    model = plan.job.model
    try:
        return model_ref.resolve(model.base, model.revision, workdir=workdir_of(plan, run), runs_root=run.root)
    except BadInput as error:
        raise BadInput(f"model.base: {problem}" for problem in error.problems) from None


def _recorded(run: RunDirectory, ref: model_ref.ModelRef) -> str | None:
    wanted = {"event": EVENT, "repository": ref.repository, "revision": ref.revision}
    for event in reversed(run.events()):
        if wanted.items() <= event.items():
            return str(event.get("commit"))
    return None
