"""What a model's card needs and only training has at hand: the rows, an example of the prompt, and what the base says
of itself. It is written to description.json at the end of training."""

import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from hatrain.contract import model_ref
from hatrain.contract.inputs import resolve
from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory
from hatrain.data.jsonfile import parsed_values
from hatrain.data.replies import ReplyFinder
from hatrain.data.rows import Message, read_rows
from hatrain.errors import BadInput
from hatrain.evaluate.requests import read_requests
from hatrain.evaluate.sources import run_of
from hatrain.home.clients import CLIENTS
from hatrain.home.generate.audit import Overlap, audit
from hatrain.home.generate.dataset import Recipe, rows_of
from hatrain.home.language.load import language_folders, read_file
from hatrain.model import revision
from hatrain.model.licence import stated_licence
from hatrain.runtime import seal

DRAWN = 24
"""Generated rows, of which the shortest is the example."""
QUESTION = "Turn on the light in the kitchen."


def describe(plan: Plan, run: RunDirectory, tokenizer: Any, files: Mapping[str, str]) -> None:
    """Write description.json. `files`: the SHA-256 of each file of rows, by its path in the job.

    What cannot be described is left out with the reason: a trained run stays trained without its card.
    """
    rows = _part(lambda: _rows(plan, files))
    client, language = (next(iter(rows.get(key) or {}), None) for key in ("clients", "languages"))
    seal.write_json(
        run.description,
        {
            "rows": rows,
            "audit": _part(lambda: _audit(plan)),
            "prompt": _part(lambda: _example(tokenizer, client, language or "english", run)),
            "base": _part(lambda: _base(plan, run)),
        },
    )


def _part(make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return make()
    except Exception as error:  # of a template, a tokenizer, the hub: none of them ends a run
        text = error.problems[0] if isinstance(error, BadInput) else f"{type(error).__name__}: {error}"
        return {"missing": (text.splitlines() or ["no message"])[0]}


def _rows(plan: Plan, files: Mapping[str, str]) -> dict[str, Any]:
    """Count the rows of each file, and how many name a language and a client."""
    data = plan.job.data
    paths = [("training", file.path, file.weight) for file in data.train]
    paths += [("test", data.test, 1.0)] if data.test else []
    named = {"language": Counter[str](), "client": Counter[str]()}
    described = []
    for part, path, weight in paths:
        number = 0
        for _, row in parsed_values(resolve(path, plan.paths.workdir)):
            number += 1
            for key in named.keys() & row.keys() if isinstance(row, dict) else ():
                named[key][str(row[key])] += 1
        facts = {"name": Path(path).name, "part": part, "rows": number, "sha256": files.get(path)}
        described.append({**facts, **({"weight": weight} if weight != 1.0 else {})})
    clients = {name: rows for name, rows in named["client"].most_common() if name in CLIENTS}
    return {"files": described, **_languages(named["language"]), "clients": clients}


def _languages(counts: Counter[str]) -> dict[str, Any]:
    """Rows by the language that they name, the codes of those languages, and their names by what rows call them."""
    known = {folder.name: read_file(folder / "grammar.yaml").data["code"] for folder in language_folders().values()}
    names = {code: name for name, code in known.items()} | {name: name for name in known}
    codes = dict.fromkeys(known.get(name, name) for name in counts)
    return {
        "languages": dict(counts.most_common()),
        "codes": [code for code in codes if re.fullmatch("[a-z]{2,3}", code)],
        "names": {name: names[name].capitalize() for name in counts if name in names},
    }


def _audit(plan: Plan) -> dict[str, Any]:
    """What the test rows share with a training file, word for word; of several files, the one that shares most. Only
    numbers: rows may be private."""
    data, workdir = plan.job.data, plan.paths.workdir
    if data.test is None:
        raise BadInput("there are no test rows")
    if plan.job.method.kind == "dpo":
        raise BadInput("preference pairs are not audited")
    most: dict[str, Overlap] = {}
    for file in data.train:
        for overlap in audit(resolve(file.path, workdir), resolve(data.test, workdir)).overlaps:
            most[overlap.kind] = max(most.get(overlap.kind, overlap), overlap, key=lambda each: each.share)
    return {
        kind: {"distinct": each.distinct, "shared": len(each.shared), "share": round(each.share, 6)}
        for kind, each in most.items()
    }


def _example(tokenizer: Any, client: str | None, language: str, run: RunDirectory) -> dict[str, Any]:
    """A prompt as the model was trained to read it. It is about a generated home: the rows may be about a private
    one. Rows that name no client have a system prompt of their own, which is not shown."""
    finder = ReplyFinder(tokenizer, run.today())
    if client is None:
        prompt = finder.template.render([Message("user", QUESTION)], prompt=True)
        return {"prompt": prompt, "reply": None, "client": None, "language": "english"}
    rows = [json.dumps(row) for row in islice(rows_of(Recipe(languages=(language,), client=client), "sample"), DRAWN)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("\n".join(sorted(rows, key=len)), encoding="utf-8")
        requests = [request for row in read_rows(path) for request in read_requests([row], finder)]
    called = [request for request in requests if request.expected.calls] or requests
    shortest = min(called, key=lambda request: len(request.prompt))
    return {"prompt": shortest.prompt, "reply": shortest.reply, "client": client, "language": language}


def _base(plan: Plan, run: RunDirectory) -> dict[str, Any]:
    """Name the base without its folder: the hub's repository and commit, of which an earlier run's model comes too."""
    model = revision.pinned(plan, run).job.model
    ref = model_ref.resolve(
        plan.job.model.base, plan.job.model.revision, workdir=Path(plan.paths.workdir), runs_root=run.root
    )
    if ref.repository:
        licence = stated_licence(ref.repository, model.revision)
        return {"name": ref.repository, "repository": ref.repository, "revision": model.revision, "licence": licence}
    assert ref.folder is not None
    parent = run_of(ref.folder)
    name = parent.name if parent else ref.folder.name
    earlier = _of_run(parent) if parent else {}
    return {
        "name": name,
        "run": parent.name if parent else None,
        "repository": earlier.get("repository"),
        "revision": earlier.get("revision"),
        "licence": earlier.get("licence") or stated_licence(ref.folder),
    }


def _of_run(run: RunDirectory) -> dict[str, Any]:
    """What an earlier run says of its own base."""
    base = seal.read_object(run.description).get("base")
    return base if isinstance(base, dict) else {}
