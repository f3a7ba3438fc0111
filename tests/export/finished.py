"""A run that is finished, as its files say, without training: small files in place of weights."""

import json
from pathlib import Path
from typing import Any

from hatrain.contract.run import RunDirectory
from hatrain.runtime import seal
from tests.plans import a_plan

ROWS = {
    "files": [
        {"name": "train.jsonl", "part": "training", "rows": 8, "sha256": "ab" * 32},
        {"name": "test.jsonl", "part": "test", "rows": 4, "sha256": "cd" * 32},
    ],
    "languages": {"en": 9, "german": 3},
    "codes": ["en", "de"],
    "names": {"en": "English", "german": "German"},
    "clients": {"home-llm-legacy": 12},
}
SCORE = {"requests": 40, "strict_accuracy": 0.85, "strict_interval": [0.709, 0.929]}
CARD = "the card of some/base"
DESCRIPTION = {
    "rows": ROWS,
    "audit": {"requests": {"distinct": 4, "shared": 1, "share": 0.25}},
    "prompt": {"prompt": "<s>Devices:\nlamp\n", "reply": "```homeassistant\n{}\n```", "client": "home-llm-legacy"},
    "base": {
        "name": "some/base",
        "repository": "some/base",
        "revision": "c0ffee",
        "licence": {
            "id": "other",
            "name": "llama3",
            "link": "https://example.org/l",
            "source": CARD,
        },
    },
}
CALLS = {"call_requests": 30, "call_accuracy": 0.8, "call_interval": [0.62, 0.91], "no_call_share": 0.25}
EVALUATION = {
    "before": {**SCORE, **CALLS, "strict_accuracy": 0.1, "call_accuracy": 0.0, "loss": 3.0, "by_language": {}},
    "after": {
        **SCORE,
        **CALLS,
        "loss": 1.25,
        "by_language": {"en": SCORE, "german": {**SCORE, "requests": 7, "strict_accuracy": None}},
    },
}
KEPT = {
    "step": 30,
    "best": 30,
    "trained": 50,
    "steps": 100,
    "keep": "best",
    "metric": "accuracy",
    "why": "strict accuracy 0.850, the highest of 5 looks",
    "ended_early": True,
    "without_gain": 2,
    "looks": [],
    "requests": 44,
    "apart": True,
}


def finished(folder: Path, **changes: Any) -> RunDirectory:
    """Return a finished run in `folder/runs`; `changes` are those of its job."""
    folder.mkdir(parents=True, exist_ok=True)
    plan = a_plan(folder, **{"data__test": "test.jsonl", **changes})
    run = RunDirectory(Path(plan.paths.run))
    run.adopt(plan, {})
    begun = {"versions": {"hatrain": "0.1.0"}, "host": "secret-host", "date": "2026-11-28"}
    run.record("attempt begun", attempt=1, ranks=2, **begun)
    run.record("model sealed", attempt=1, step=30)
    run.record("kept", attempt=1, **KEPT)
    run.record("outcome", attempt=1, code=0, reasons={}, seconds=5400.0)
    seal.write_json(run.description, DESCRIPTION)
    seal.write_json(run.evaluation, EVALUATION)
    partial = run.folder / ".partial-result"
    partial.mkdir()
    (partial / "model.safetensors").write_bytes(bytes(range(256)) * 9)
    (partial / "config.json").write_text(json.dumps({"_name_or_path": str(folder / "base"), "hidden_size": 8}))
    (partial / "tokenizer.json").write_text("{}")
    seal.seal(partial, run.result(plan.job), identity=plan.identity, steps=30)
    seal.write_json(run.done, {"attempt": 1})
    return run


def exported(run: RunDirectory) -> None:
    """Add an export."""
    partial = run.folder / ".partial-export"
    partial.mkdir()
    (partial / "kitchen.q8_0.gguf").write_bytes(b"GGUF" * 100)
    (partial / "Modelfile").write_text("FROM ./kitchen.q8_0.gguf\n")
    figures = {**SCORE, "same_answers": 39, "answers": 40}
    report = {
        "model": "kitchen",
        "reference": figures,
        "files": [{"type": "q8_0", "name": "kitchen.q8_0.gguf", "bytes": 400, "figures": figures}],
        "texts": 4,
        "equal_answers": 4,
        "compared_answers": 4,
        "ends": ["</s>"],
        "not_judged": None,
        "recommended": "kitchen.q8_0.gguf",
    }
    seal.write_json(partial / "export.json", report)
    seal.seal(partial, run.export, gguf=["q8_0"], ollama=True, model="")
