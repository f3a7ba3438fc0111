"""The stages of the benchmark: rows, training, evaluations, export. Each is a command of hatrain, and is made once."""

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hatrain.contract.run import RunDirectory
from hatrain.runtime import seal

CLIENT = "home-llm-legacy"
"""The chat template of SmolLM2 has no tools, so its calls are text."""
HOME = Path(__file__).parents[2] / "hatrain" / "home" / "demo.yaml"
TRAIN, TEST = "home_assistant_train.jsonl", "home_assistant_test.jsonl"


class Failed(Exception):
    """A command ended with an error."""


class Stages:
    """The stages of one size, in its folder. What a stage took stands in `took.json`: seconds, and the largest memory
    of its processes in bytes."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def took(self) -> dict[str, dict[str, float]]:
        file = self.folder / "took.json"
        return dict(json.loads(file.read_text())) if file.is_file() else {}

    def rows(self, folder: Path, language: str) -> Path:
        """Generate the rows of the demo's house; return the test set, which has the training set beside it."""
        out = folder / language
        command = ["data", "--client", CLIENT, "--train", "--test", "--home", HOME, "--language", language]
        command += ["--seed", "42", "--requests-per-home", "8", "--out", out]
        self._made(f"rows, {language}", out / TEST, command)
        return out / TEST

    def intents(self, folder: Path, clone: Path) -> Path:
        out = folder / "intents"
        command = ["data", "--intents", clone, "--language", "english", "--client", CLIENT, "--out", out]
        self._made("rows, intents", out / "home_assistant_intents.jsonl", command)
        return out / "home_assistant_intents.jsonl"

    def train(
        self, job: Path, base: Path, test: Path, count: int, requests: int, earlier: RunDirectory | None
    ) -> RunDirectory:
        """Train on the first `count` rows beside `test`, and judge before and after. An `earlier` run has judged the
        base already: hatrain keeps the figures that are there."""
        rows = self.folder / f"train-{count}.jsonl"
        with (test.parent / TRAIN).open() as lines:
            rows.write_text("".join(line for line, _ in zip(lines, range(count), strict=False)))
        run = RunDirectory(self.folder / "runs" / f"smollm2-{count}")
        if earlier and not run.evaluation.exists():
            before = json.loads(earlier.evaluation.read_text(encoding="utf-8"))["before"]
            seal.write_json(run.evaluation, {"before": before})
        settings = [f"name={run.folder.name}", f"model.base={_from(base, self.folder)}", f"data.train={rows.name}"]
        settings += [f"data.test={_from(test, self.folder)}", f"evaluation.requests={requests}"]
        command = ["train", job, *(word for each in settings for word in ("--set", each))]
        self._made(f"training, {count} rows", run.done, command)
        return run

    def evaluate(self, model: Path | RunDirectory, dataset: Path, rows: int) -> dict[str, Any]:
        """Judge some rows of a test set."""
        what = "after" if isinstance(model, RunDirectory) else "before"
        name = f"{dataset.parent.name}-{what}"
        out = self.folder / "evaluations" / name
        weights = model.model if isinstance(model, RunDirectory) else model
        command = ["evaluate", weights, "--dataset", dataset, "--limit", rows, "--out", out]
        self._made(f"evaluation, {name}", out / "evaluation.json", command)
        return dict(json.loads((out / "evaluation.json").read_text()))

    def export(self, run: RunDirectory, requests: int) -> dict[str, Any]:
        """Write GGUF files, compared and judged."""
        out = run.export
        command = ["export", run.folder, "--gguf", "f16,q8_0,q4_k_m", "--requests", min(requests, 50), "--out", out]
        self._made("export", out / "export.json", command)
        return dict(json.loads((out / "export.json").read_text()))

    def merge_error(self, run: RunDirectory, base: Path) -> float:
        """How far the logits of the merged model are from the adapter's, as a share of the largest."""
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(run.model)
        ids = tokenizer("Turn off the light in the kitchen, and lock the front door.", return_tensors="pt").input_ids
        merged = AutoModelForCausalLM.from_pretrained(run.model, dtype=torch.float32)
        whole = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        adapted = PeftModel.from_pretrained(whole, run.adapter).eval()
        with torch.no_grad():
            one, other = merged(ids).logits, adapted(ids).logits
        return float((one - other).abs().max() / other.abs().max())

    def _made(self, stage: str, result: Path, command: list[Any]) -> None:
        """Run a command of hatrain in the folder, unless its result is there. Raises Failed."""
        if result.exists():
            return
        words = [sys.executable, "-m", "hatrain", *map(str, command)]
        print(f"# {stage}: hatrain {shlex.join(words[3:])}", file=sys.stderr, flush=True)
        started = time.monotonic()
        process = subprocess.Popen(words, cwd=self.folder, env=_environment(), stdout=sys.stderr)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise Failed(f"{stage} ended with {process.returncode}")
        taken = {"seconds": round(time.monotonic() - started, 1), "memory": used.ru_maxrss * 1024}
        seal.write_json(self.folder / "took.json", {**self.took, stage: taken})


def _environment() -> dict[str, str]:
    """Of a command: this tree, and the run directories of the folder that it starts in."""
    there = {key: value for key, value in os.environ.items() if key != "HATRAIN_RUNS"}
    root = str(Path(__file__).parents[2])
    return {**there, "PYTHONPATH": os.pathsep.join(filter(None, [root, there.get("PYTHONPATH")]))}


def _from(path: Path, folder: Path) -> str:
    return os.path.relpath(path, folder)
