"""Where a base model's config.json comes from: the table of known models, a folder, the hub's cache, the base of an
earlier run, and at last the hub itself."""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from hatrain.contract import hub, model_ref
from hatrain.contract.load import Loader
from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput
from launch.memory.structure import NotKnown, Structure, structure

TABLE = Path(__file__).with_name("models.json")
"""The sizes of models that people train, as their config.json has them."""
REVISION = r"-rev\d+"
"""The end of a run's name that counts its revisions: another revision of a job has the same base."""
CHAIN = 8
"""Runs that stand on each other's models, at most."""


@cache
def known() -> Mapping[str, dict[str, Any]]:
    """config.json of each known model, by its hub id in lower case."""
    return {name.lower(): config for name, config in json.loads(TABLE.read_text(encoding="utf-8")).items()}


def structure_of(
    base: str, revision: str | None, *, workdir: Path, runs_root: Path, ask_hub: bool = False
) -> Structure:
    """Read the structure of a base model. Raises NotKnown, with where its config.json was looked for."""
    for _ in range(CHAIN):
        if config := known().get(base.lower()):
            return structure(config)
        folder = _folder(base, workdir, runs_root)
        if folder is None:
            return structure(_from_hub(base, revision, ask_hub))
        config_file = folder / "config.json"
        if config_file.is_file():
            return structure(_read(config_file))
        trained = _base_of_run(folder.name, workdir, runs_root)
        if trained is None:
            raise NotKnown(f"{base} has no config.json yet")
        base, revision = trained
    raise NotKnown(f"{base} stands on more than {CHAIN} earlier runs")


def _folder(base: str, workdir: Path, runs_root: Path) -> Path | None:
    """The folder that a base is in, or will be in; None for a hub id."""
    try:
        found = model_ref.find_folder(base, workdir=workdir, runs_root=runs_root)
    except BadInput:
        return workdir / base
    if found is None:
        return None
    run = RunDirectory(found)
    return run.model if run.model.is_dir() else found


def _base_of_run(name: str, workdir: Path, runs_root: Path) -> tuple[str, str | None] | None:
    """The base and revision of a run that has left no model yet: from its plan, or from a job of that name,
    its revision aside."""
    run = RunDirectory(runs_root / name)
    if run.plan_file.is_file():
        model = run.job().model
        return model.base, model.revision
    stem = re.sub(REVISION, "", name)
    line = re.compile(rf"^name:\s*{re.escape(stem)}({REVISION})?\s*$", re.MULTILINE)
    for path in sorted((workdir / "jobs").glob("*.yaml")):
        text = path.read_text(encoding="utf-8", errors="replace")
        if line.search(text):
            try:
                model = yaml.load(text, Loader=Loader)["model"]
                return str(model["base"]), model.get("revision")
            except (yaml.YAMLError, LookupError, TypeError, AttributeError):
                return None
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise NotKnown(f"{path} cannot be read: {error}") from None


def _from_hub(base: str, revision: str | None, ask: bool) -> dict[str, Any]:
    """Read the configuration from the hub's cache, or, with `ask`, from the hub unless it is switched off."""
    if path := hub.cached_config(base, revision):
        return _read(path)
    where = f"it is not in {TABLE.parent.name}/{TABLE.name} and not in the model cache"
    if not ask or "/" not in base or hub.offline():
        raise NotKnown(f"{base}: {where}; hatrain fetch JOB downloads it")
    answer = hub.ask(base, revision or "main")
    if answer.config is None:
        failure = answer.failure or ("no config.json" if answer.status == 200 else f"HTTP {answer.status}")
        raise NotKnown(f"{base}: {where}, and the hub does not answer ({failure}); hatrain fetch JOB downloads it")
    return answer.config
