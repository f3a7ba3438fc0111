"""The model card: README.md of a run's model, adapter and export, from what the run recorded. Plain Markdown, with the
model hub's front matter."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from hatrain.contract.run import RunDirectory
from hatrain.export import client
from hatrain.export.card_facts import Facts, Figures, facts_of
from hatrain.export.card_training import training
from hatrain.runtime import credentials, seal
from hatrain.text import count

NAME = "README.md"
TAG = "hatrain"
"""By it a card of ours is known on the hub."""
Kind = Literal["model", "adapter", "export"]


def write(run: RunDirectory) -> list[Path]:
    """Write the card into each folder of results that the run has. Returns the files. Raises OSError, and BadInput when
    the run's plan cannot be read."""
    folders: dict[Kind, Path] = {"model": run.model, "adapter": run.adapter, "export": run.export}
    there = {kind: folder for kind, folder in folders.items() if (folder / seal.MANIFEST).is_file()}
    facts = facts_of(run) if there else None
    for kind, folder in there.items():
        assert facts is not None
        seal.write_text(folder / NAME, card(facts, kind))
    return [folder / NAME for folder in there.values()]


def card(facts: Facts, kind: Kind) -> str:
    """Return the card of a run for one of its folders."""
    head = yaml.safe_dump(front_matter(facts, kind), sort_keys=False, allow_unicode=True, width=110)
    sections = [f"# {facts.name}", _summary(facts), *_use(facts, kind), *_evaluation(facts), *_prompt(facts)]
    sections += [*training(facts), *_data(facts), *_licence(facts)]
    return credentials.hide(f"---\n{head}---\n\n" + "\n\n".join(sections) + "\n")


def front_matter(facts: Facts, kind: Kind) -> dict[str, Any]:
    """Return the metadata that the model hub reads. What is not known is left out."""
    method, licence = facts.plan.job.method, facts.base.get("licence") or {}
    parts: dict[str, Any] = {
        "base_model": facts.repository,
        "license": licence.get("id"),
        "license_name": licence.get("name"),
        "license_link": licence.get("link"),
        "language": list(facts.rows.get("codes") or []),
        "library_name": {"model": "transformers", "adapter": "peft", "export": "gguf"}[kind],
        "pipeline_tag": "text-generation",
        "tags": ["home-assistant", TAG, method.kind, *(["lora"] if method.lora else [])],
        "model-index": _model_index(facts),
    }
    return {key: value for key, value in parts.items() if value}


def _model_index(facts: Facts) -> list[dict[str, Any]] | None:
    after = facts.evaluation.get("after")
    if not isinstance(after, dict) or after.get("strict_accuracy") is None:
        return None
    name = next((file["name"] for file in facts.rows.get("files", ()) if file["part"] == "test"), "test rows")
    names = {"call_accuracy": "right where a call is needed", "strict_accuracy": "strict accuracy"}
    metrics = [
        {"type": "accuracy", "name": name, "value": round(after[key], 4)}
        for key, name in names.items()
        if after.get(key) is not None
    ]
    result = {
        "task": {"type": "text-generation", "name": "requests to a home"},
        "dataset": {"type": "home-assistant", "name": name},
        "metrics": metrics,
    }
    return [{"name": facts.name, "results": [result]}]


# --- sections -----------------------------------------------------------------------------------------------


def _summary(facts: Facts) -> str:
    languages = [facts.language(name) for name in facts.rows.get("languages") or {}]
    spoken = f" in {_listed(languages)}" if languages else ""
    base = base_name(facts)
    how = "an adapter (LoRA) on" if _is_adapter(facts) else "a fine-tuned"
    return f"A model that answers requests to Home Assistant{spoken}: {how} {base}, made with hatrain."


def _is_adapter(facts: Facts) -> bool:
    lora = facts.plan.job.method.lora
    return lora is not None and not lora.merge


def base_name(facts: Facts) -> str:
    """Return the base with a link, where it is on the hub; of a folder its name alone."""
    if repository := facts.repository:
        linked = f"[{repository}](https://huggingface.co/{repository})"
        return linked if not facts.base.get("run") else f"{linked} (through the run {facts.base['run']})"
    return f"`{facts.base.get('name') or Path(facts.plan.job.model.base).name}`"


def _use(facts: Facts, kind: Kind) -> Iterator[str]:
    context = facts.plan.job.method.ctx_size
    if facts.report is not None:
        yield "## Files for llama.cpp and Ollama"
        yield from client.serving(facts.name, facts.report, facts.client, context, facts.has_modelfile)
    yield "## In Home Assistant"
    yield client.in_home_assistant(facts.name, facts.client, context)
    if facts.report is None:
        yield "llama.cpp and Ollama need GGUF files, which `hatrain export` writes."
    if kind == "export":
        return
    yield "## With transformers"
    yield _fenced(_loading(facts, kind), "python")


def _loading(facts: Facts, kind: Kind) -> str:
    if kind == "model":
        lines = ["from transformers import AutoModelForCausalLM, AutoTokenizer", ""]
        return "\n".join(
            [
                *lines,
                'folder = "."  # this folder, or its name on the hub',
                "model = AutoModelForCausalLM.from_pretrained(folder)",
                "tokenizer = AutoTokenizer.from_pretrained(folder)",
            ]
        )
    return "\n".join(
        [
            "from peft import AutoPeftModelForCausalLM",
            "from transformers import AutoTokenizer",
            "",
            'folder = "."  # this folder, or its name on the hub',
            "model = AutoPeftModelForCausalLM.from_pretrained(folder)",
            "tokenizer = AutoTokenizer.from_pretrained(folder)",
        ]
    )


def _evaluation(facts: Facts) -> Iterator[str]:
    yield "## Evaluation"
    before, after = (_figures(facts.evaluation, when) for when in ("before", "after"))
    if not after:
        yield f"Not evaluated: {facts.evaluation.get('skipped') or 'the run has no evaluation'}."
        yield from _others(facts)
        return
    yield (
        "Strict accuracy is the share of requests after which the home is exactly as the user wanted: every call "
        "correct, none missing, none too many, and the words true. Answers are greedy. The interval is Wilson's."
    )
    rows = [("all", before, after)]
    rows += [
        (facts.language(language), before.get("by_language", {}).get(language, {}), figures)
        for language, figures in after.get("by_language", {}).items()
    ]
    yield _table(
        ["requests", "number", "before training", "after training", "95 %"],
        [[name, str(now.get("requests")), _rate(was), _rate(now), _interval(now)] for name, was, now in rows],
    )
    if after.get("call_requests"):
        yield _where_a_call_is_needed(before, after)
    losses = [(when, figures.get("loss")) for when, figures in (("before", before), ("after", after))]
    if told := ", ".join(f"{loss:.4f} {when} training" for when, loss in losses if isinstance(loss, float)):
        yield f"Test loss: {told}."
    if bias := _bias(facts.kept):
        yield bias
    yield from _others(facts)


def _where_a_call_is_needed(before: Figures, after: Figures) -> str:
    low, high = after["call_interval"]
    was = before.get("call_accuracy")
    earlier = "" if was is None else f"; before training {was:.1%} were"
    return (
        f"Of the {after['call_requests']:,} requests that need a call, {after['call_accuracy']:.1%} are right (95 % "
        f"interval over different requests: {low:.1%} to {high:.1%}){earlier}. A model that never calls has none of "
        f"them, and a strict accuracy of at most {after['no_call_share']:.1%}."
    )


def _bias(kept: Figures) -> str:
    """What choosing a checkpoint does to the figures."""
    if kept.get("keep") != "best":
        return ""
    if kept.get("metric") != "accuracy":
        return "The checkpoint was chosen by its loss on rows of the same test set."
    asked = count(kept.get("requests", 0), "request")
    if kept.get("apart"):
        return f"The checkpoint was chosen by {asked} of the same test set, which are not among those counted here."
    return f"The checkpoint was chosen by {asked} that are counted here too: on others it is a little worse."


def _others(facts: Facts) -> Iterator[str]:
    if facts.others:
        yield "On other datasets:"
        yield _table(
            ["dataset", "requests", "strict accuracy", "95 %"],
            [[name, str(each.get("requests")), _rate(each), _interval(each)] for name, each in facts.others.items()],
        )


def _prompt(facts: Facts) -> Iterator[str]:
    yield "## Prompt format"
    prompt = facts.prompt
    if "prompt" not in prompt:
        yield f"Not known: {prompt.get('missing')}. The chat template in the tokenizer has it."
        return
    if prompt.get("client"):
        yield (
            f"The chat template writes it. An example for the client `{prompt['client']}`, about a home that was "
            "generated for this card, and the expected answer:"
        )
        yield f"<details><summary>Prompt</summary>\n\n{_fenced(prompt['prompt'])}\n\n</details>"
        yield _fenced(prompt["reply"])
        return
    yield "The chat template writes it. Training rows have a system prompt of their own before the request."
    yield _fenced(prompt["prompt"])


def _data(facts: Facts) -> Iterator[str]:
    yield "## Data"
    if "files" not in facts.rows:
        yield f"Not known: {facts.rows.get('missing')}."
        return
    yield _table(
        ["file", "part", "rows", "SHA-256"],
        [
            [
                f"`{file['name']}`",
                file["part"] + (f", weight {file['weight']:g}" if "weight" in file else ""),
                f"{file['rows']:,}",
                f"`{str(file['sha256'])[:16]}…`" if file.get("sha256") else "-",
            ]
            for file in facts.rows["files"]
        ],
    )
    if languages := facts.rows.get("languages"):
        counts = [f"{facts.language(name)} ({rows:,} rows)" for name, rows in languages.items()]
        yield f"Languages: {', '.join(counts)}."
    yield _audit(facts.audit)


def _audit(audit: Figures) -> str:
    if "missing" in audit:
        return f"What test and training rows share was not measured: {audit['missing']}."
    shared = [
        f"{kind}: {found['shared']:,} of {found['distinct']:,} ({found['share']:.1%} of all)"
        for kind, found in audit.items()
    ]
    return "What the test rows share with the training rows, word for word: " + "; ".join(shared) + "."


def _licence(facts: Facts) -> Iterator[str]:
    yield "## Licence"
    licence = facts.base.get("licence")
    if not licence:
        yield (
            f"No statement of the licence of {base_name(facts)} was at hand. Its terms hold for this model too: look "
            "them up before you use or share it."
        )
        return
    name = f"{licence['name']} (`{licence['id']}`)" if licence.get("name") else f"`{licence['id']}`"
    link = f", [text]({licence['link']})" if licence.get("link") else ""
    yield (
        f"The base states {name}{link}, in {licence['source']}. Its terms hold for this model too: read them before "
        "you share it. The licence of the training data is not known to hatrain."
    )


# --- text ---------------------------------------------------------------------------------------------------


def _figures(evaluation: Figures, when: str) -> Figures:
    found = evaluation.get(when)
    return found if isinstance(found, dict) else {}


def _rate(figures: Figures) -> str:
    rate = figures.get("strict_accuracy")
    return f"{rate:.3f}" if isinstance(rate, float | int) else "-"


def _interval(figures: Figures) -> str:
    interval = figures.get("strict_interval")
    return f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else "-"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in lines)


def _fenced(text: str, language: str = "") -> str:
    """Return a text as code, whatever backticks it holds."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
