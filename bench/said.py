"""Trains small models from nothing on this revision's rows and on an earlier one's, at equal steps, and asks them what
people really say: `python -m bench.said CLONE`, a clone of home-assistant/intents. About half an hour on two cores.

The home is that of the tests' fixtures without their sensors, so that both revisions know its devices.
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from math import comb
from pathlib import Path
from typing import Any

import yaml

from hatrain.home.devices.entity import Entity
from hatrain.home.intents.clone import read_sentences
from hatrain.home.language.grammar import slug

ROOT = Path(__file__).parents[1]
BASE = "16a376f"
"""The last revision that drew neither floors nor scenes nor questions about many things."""

SENSORS = ("binary_sensor", "sensor")
CLIENT = "home-llm-legacy"
"""The client with the shortest rows: its prompt lists the devices, and it has no tools."""

JOB: dict[str, Any] = {
    "method": {
        "kind": "sft",
        "learning_rate": "2e-3",
        "learning_rate_warmup": 0.02,
        "batch_size": 16,
        "micro_batch_size": 4,
        "ctx_size": 2048,
        "gradient_checkpointing": False,
    },
    "hardware": {"gpu": "cpu", "gpus_per_node": 1},
    "checkpoints": {"save_steps": 100_000},
    "evaluation": {"eval_steps": 100_000, "sample": 16, "requests": 300},
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.said", description=__doc__)
    parser.add_argument("clone", type=Path, help="a clone of home-assistant/intents")
    parser.add_argument("--base", default=BASE, help=f"the earlier revision (default: {BASE})")
    parser.add_argument("--epochs", type=float, default=2, help="passes over 20,000 rows (default: 2)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="said-") as folder:
        work = Path(folder)
        trees = {"earlier": _tree(arguments.base, work / "tree"), "this": ROOT}
        clone = _without_sensors(arguments.clone, work / "clone")
        _write_home(clone, work / "home")
        for name, tree in trees.items():
            _data(tree, clone, work, work / name)
        train = work / "this" / "home_assistant_train.jsonl"
        _hatrain(ROOT, "tiny", "--data", train, "--out", work / "base", "--vocabulary", 2048, "--hidden", 192,
                 "--layers", 3, "--ctx-size", 2048)  # fmt: skip
        running = [_start(tree, work, name, arguments.epochs) for name, tree in trees.items()]
        for process, name in zip(running, trees, strict=True):
            if process.wait():
                raise SystemExit(f"bench.said: {name}: failed\n{(work / name / 'log.txt').read_text()[-2000:]}")
        _report(work)


def _tree(revision: str, tree: Path) -> Path:
    archive = subprocess.run(["git", "archive", revision], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(tree, filter="data")
    return tree


def _without_sensors(clone: Path, copy: Path) -> Path:
    """Copy the English tests of a clone, and leave the sensors out of their home."""
    shutil.copytree(clone / "tests" / "en", copy / "tests" / "en", copy_function=shutil.copyfile)
    fixtures = copy / "tests" / "en" / "_fixtures.yaml"
    home = yaml.safe_load(fixtures.read_text())
    home["entities"] = [
        each for each in home["entities"] if (each.get("id") or each["domain"]).partition(".")[0] not in SENSORS
    ]
    fixtures.write_text(yaml.safe_dump(home, allow_unicode=True, sort_keys=False))
    return copy


def _write_home(clone: Path, folder: Path) -> None:
    """Write the tests' home as Home Assistant stores one."""
    tests = read_sentences(clone, "en")
    entities = {entity.entity_id: entity for entity in tests.home}
    for block in tests.blocks:
        entities |= {each.entity_id: each for each in block.entities if each.entity_id not in entities}
    areas = {entity.area: entity.floor for entity in entities.values() if entity.area}
    folder.mkdir()
    floors = ({"floor_id": slug(floor), "name": floor} for floor in sorted(set(filter(None, areas.values()))))
    _registry(folder, "floor", "floors", floors)
    in_areas = ({"id": slug(area), "name": area, "floor_id": floor and slug(floor)} for area, floor in areas.items())
    _registry(folder, "area", "areas", in_areas)
    _registry(folder, "entity", "entities", map(_entry, entities.values()))


def _entry(entity: Entity) -> dict[str, Any]:
    return {
        "entity_id": entity.entity_id,
        "name": entity.name,
        "area_id": slug(entity.area) if entity.area else None,
        "aliases": list(entity.aliases),
        "original_device_class": entity.attributes.get("device_class"),
    }


def _registry(folder: Path, kind: str, key: str, records: Iterable[dict[str, Any]]) -> None:
    content = {"key": f"core.{kind}_registry", "data": {key: list(records)}}
    (folder / f"core.{kind}_registry").write_text(json.dumps(content))


def _data(tree: Path, clone: Path, work: Path, out: Path) -> None:
    common = ("--client", CLIENT, "--language", "english", "--out", out)
    _hatrain(tree, "data", "--train", "--home", work / "home", "--requests-per-home", 8, *common)
    _hatrain(tree, "data", "--intents", clone, *common)


def _start(tree: Path, work: Path, name: str, epochs: float) -> "subprocess.Popen[bytes]":
    files = work / name
    job = {
        "name": f"said-{name}",
        "model": {"base": str(work / "base"), "dtype": "fp32"},
        "data": {
            "train": str(files / "home_assistant_train.jsonl"),
            "test": str(files / "home_assistant_intents.jsonl"),
            "order": "by_prefix",
        },
        **JOB,
        "method": {**JOB["method"], "epochs": epochs},
    }
    (work / f"{name}.yaml").write_text(yaml.safe_dump(job, sort_keys=False))
    command = [sys.executable, "-m", "hatrain", "train", f"{name}.yaml", "--fresh"]
    return subprocess.Popen(command, cwd=work, env=_environment(tree), stdout=(files / "log.txt").open("w"))


def _hatrain(tree: Path, *arguments: object) -> None:
    command = [sys.executable, "-m", "hatrain", *map(str, arguments)]
    subprocess.run(command, cwd=tree, env=_environment(tree), check=True, stdout=subprocess.DEVNULL)


def _environment(tree: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def _report(work: Path) -> None:
    """Print the accuracies with 95 % intervals, and how likely the difference is chance (McNemar, exact)."""
    wrong: dict[str, set[str]] = {}
    for name in ("earlier", "this"):
        run = work / "runs" / f"said-{name}"
        after = json.loads((run / "evaluation.json").read_text())["after"]
        low, high = after["strict_interval"]
        accuracy = after["strict_accuracy"]
        print(f"{name} revision: {accuracy:.1%} of {after['requests']} sentences ({low:.1%} to {high:.1%})")
        failures = map(json.loads, (run / "failures-after.jsonl").read_text().splitlines())
        wrong[name] = {f"{Path(each['where']).name} {each['turn']}" for each in failures}
    better, worse = len(wrong["earlier"] - wrong["this"]), len(wrong["this"] - wrong["earlier"])
    tails = sum(comb(better + worse, k) for k in range(max(better, worse), better + worse + 1))
    chance = min(1.0, 2 * tails / 2 ** (better + worse))
    print(f"right in this revision alone: {better}, in the earlier alone: {worse}; by chance: p = {chance:.3f}")


if __name__ == "__main__":
    main()
