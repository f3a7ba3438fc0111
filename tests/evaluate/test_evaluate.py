"""Evaluation end to end: models, adapters, checkpoints and runs, also through `hatrain evaluate` and `hatrain ask`."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from hatrain.cli import main
from hatrain.contract.run import RunDirectory
from hatrain.data.replies import ReplyFinder
from hatrain.data.rows import read_rows
from hatrain.errors import BadInput
from hatrain.evaluate import evaluate_model
from hatrain.evaluate.requests import read_requests
from hatrain.evaluate.sources import find_checkpoints, find_source, load
from hatrain.model.base import load_model
from hatrain.runtime import seal
from tests.evaluate.models import Scripted, random_llama
from tests.families import build_tokenizer
from tests.plans import a_plan

SYSTEM = "Services: light.turn_off(), light.turn_on()\nDevices:\nlight.kitchen 'Kitchen' = on\nfan.hall 'Hall' = on"


def fence(service: str, target: str) -> str:
    return f'```homeassistant\n{{"service": "{service}", "target_device": "{target}"}}\n```'


ANSWERS = {
    "Turn on the light.": f"Sure.\n{fence('light.turn_on', 'light.kitchen')}",
    "No light, please!": f"Done.\n{fence('light.turn_off', 'light.kitchen')}",
    "Is the hall fan on?": "It is.",
    "Open the garage": "There is no such device.",
}


def row(request: str, **meta: str) -> dict:
    turns = [("system", SYSTEM), ("user", request), ("assistant", ANSWERS[request])]
    return {
        "conversations": [{"from": role, "value": text} for role, text in turns],
        "language": "english",
        **meta,
    }


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "test.jsonl"
    kinds = ["action", "action", "status", "refusal"]
    rows = [row(request, kind=kind) for request, kind in zip(ANSWERS, kinds, strict=True)]
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


def teach(model, tokenizer, dataset: Path, *, steps: int, learning_rate: float) -> None:
    """Overfit the rows until greedy answers are right."""
    requests = read_requests(read_rows(dataset), ReplyFinder(tokenizer))
    end = "<|im_end|>"
    prompts = [tokenizer(each.prompt)["input_ids"] for each in requests]
    replies = [tokenizer(each.reply + end)["input_ids"] for each in requests]
    width = max(len(one) + len(other) for one, other in zip(prompts, replies, strict=True))
    ids, labels = torch.zeros(len(prompts), width, dtype=torch.long), torch.full((len(prompts), width), -100)
    for index, (before, reply) in enumerate(zip(prompts, replies, strict=True)):
        ids[index, : len(before) + len(reply)] = torch.tensor(before + reply)
        labels[index, len(before) : len(before) + len(reply)] = torch.tensor(reply)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate)
    model.train()
    for _ in range(steps):
        loss = model(input_ids=ids, labels=labels).loss
        if loss.item() < 0.01:
            break
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


@pytest.fixture(scope="session")
def parrot(tmp_path_factory, dataset) -> Path:
    """A folder with a tiny Llama that was overfitted to the answers."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer("chatml")
    model = random_llama(tokenizer)
    model.init_weights()
    teach(model, tokenizer, dataset, steps=400, learning_rate=1e-2)
    folder = tmp_path_factory.mktemp("parrot") / "model"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_model_that_knows_the_answers_gets_every_point(parrot, dataset):
    model, tokenizer = load(find_source(str(parrot)))
    reported: list[tuple[int, int, float]] = []
    evaluation = evaluate_model(
        model, tokenizer, read_rows(dataset), batch_size=3, progress=lambda *counts: reported.append(counts)
    )
    assert evaluation.failures() == []
    figures = evaluation.to_dict()
    assert figures["strict_accuracy"] == figures["compatible_accuracy"] == 1
    assert figures["refusal_accuracy"] == figures["known_entity_rate"] == figures["valid_json_rate"] == 1
    assert set(figures["by_kind"]) == {"action", "status", "refusal"}
    assert [outcome.request.user_text for outcome in evaluation.outcomes] == list(ANSWERS)
    assert reported[0] == (0, 4, 0.0)
    assert sorted({done for done, _, _ in reported}) == [0, 1, 2, 3, 4]
    assert [work for _, _, work in reported] == sorted(work for _, _, work in reported)
    assert reported[-1] == (4, 4, 4.0)


@pytest.mark.parametrize("text", ["", "```homeassistant", "```homeassistant\n```", "on and on and on"])
def test_empty_answers_bare_fences_and_endless_text_score_zero(text, dataset):
    tokenizer = build_tokenizer("chatml")
    ids = tokenizer(text)["input_ids"] + ([] if "and" in text else [tokenizer.eos_token_id])
    evaluation = evaluate_model(Scripted(tokenizer, lambda prompt: ids), tokenizer, read_rows(dataset))
    figures = evaluation.to_dict()
    assert figures["strict_accuracy"] == figures["compatible_accuracy"] == figures["refusal_accuracy"] == 0
    assert figures["cut_answers"] == (4 if "and" in text else 0)
    assert len(evaluation.failures()) == 4


def test_a_stopped_evaluation_is_not_complete(parrot, dataset):
    model, tokenizer = load(find_source(str(parrot)))
    evaluation = evaluate_model(model, tokenizer, read_rows(dataset), should_stop=lambda: True)
    assert (evaluation.complete, evaluation.outcomes) == (False, ())


def test_a_model_without_a_chat_format_is_refused(dataset):
    tokenizer = build_tokenizer("phi")
    with pytest.raises(BadInput, match="chat template"):
        evaluate_model(random_llama(tokenizer), tokenizer, read_rows(dataset))


# --- adapters -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def blank(tmp_path_factory) -> Path:
    """An untrained base model."""
    torch.manual_seed(1)
    tokenizer = build_tokenizer("chatml")
    model = random_llama(tokenizer)
    model.init_weights()
    folder = tmp_path_factory.mktemp("blank") / "base"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def adapt(blank: Path, folder: Path, dataset: Path, *, added: str | None = None) -> None:
    """Write an adapter for the blank base to a folder, with the tokenizer it was trained with."""
    torch.manual_seed(2)
    tokenizer = build_tokenizer("chatml")
    model = load_model(str(blank))
    if added:
        tokenizer.add_special_tokens({"additional_special_tokens": [added]})
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    whole = ["embed_tokens", "lm_head"]
    config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", modules_to_save=whole)
    adapted = get_peft_model(model, config)
    teach(adapted, tokenizer, dataset, steps=300, learning_rate=1e-2)
    adapted.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize("added", [None, "<|home|>"])
def test_an_adapter_is_evaluated_on_its_base_with_its_own_tokenizer(added, blank, dataset, tmp_path):
    adapt(blank, tmp_path / "adapter", dataset, added=added)
    model, tokenizer = load(find_source(str(tmp_path / "adapter")))
    assert (added is None) or added in tokenizer.get_vocab()
    assert evaluate_model(model, tokenizer, read_rows(dataset)).strict_accuracy == 1
    base, tokenizer = load(find_source(str(blank)))
    assert evaluate_model(base, tokenizer, read_rows(dataset)).strict_accuracy == 0


def test_an_adapter_without_a_tokenizer_uses_that_of_its_base(blank, dataset, tmp_path):
    torch.manual_seed(3)
    get_peft_model(load_model(str(blank)), LoraConfig(target_modules=["q_proj"])).save_pretrained(tmp_path)
    model, tokenizer = load(find_source(str(tmp_path)))
    assert tokenizer.chat_template is not None
    assert evaluate_model(model, tokenizer, read_rows(dataset)).complete


# --- runs ---------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path, monkeypatch, parrot, blank, dataset) -> RunDirectory:
    """A finished run with three checkpoints: untrained, damaged, and overfitted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HATRAIN_RUNS", raising=False)
    run = RunDirectory(tmp_path / "runs" / "kitchen")
    run.adopt(a_plan(tmp_path), {})
    shutil.copy(dataset, tmp_path / "train.jsonl")
    for name, weights in {"checkpoint-2": blank, "checkpoint-10": parrot, "checkpoint-7": parrot}.items():
        shutil.copytree(weights, run.folder / "aside")
        facts = {"step": int(name.partition("-")[2]), "identity": run.plan().identity}
        seal.seal(run.folder / "aside", run.checkpoints / name, **facts)
    with (run.checkpoints / "checkpoint-7" / "model.safetensors").open("ab") as weights:
        weights.write(b"torn")
    shutil.copytree(parrot, run.folder / "aside")
    seal.seal(run.folder / "aside", run.model)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "kitchen").symlink_to(run.model)
    return run


def test_a_run_stands_for_its_model_then_its_adapter_then_its_newest_whole_checkpoint(run):
    for name in ("kitchen", "runs/kitchen", "models/kitchen", str(run.model)):
        assert Path(find_source(name).location).resolve() == run.model
        assert find_source(name).run.folder == run.folder
    shutil.rmtree(run.model)
    (run.adapter).mkdir()
    (run.adapter / "adapter_config.json").write_text("{}")
    assert find_source("kitchen").location == str(run.adapter)
    shutil.rmtree(run.adapter)
    assert find_source("kitchen").location == str(run.checkpoints / "checkpoint-10")
    shutil.rmtree(run.checkpoints)
    with pytest.raises(BadInput, match="no model and no whole checkpoint yet"):
        find_source("kitchen")


def test_checkpoints_come_by_step_and_the_damaged_one_is_named(run):
    sources, skipped = find_checkpoints("kitchen")
    assert [source.name for source in sources] == ["checkpoint-2", "checkpoint-10", "model"]
    assert [line.partition(":")[0] for line in skipped] == ["skipped checkpoint-7"]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("kitchn", "did you mean kitchen"),
        ("./kitchen", "no such folder"),
        ("data", "holds no config.json"),
    ],
)
def test_a_name_that_stands_for_nothing_is_refused(name, problem, run):
    Path("data").mkdir()
    with pytest.raises(BadInput, match=problem):
        find_source(name)


def test_evaluate_writes_figures_and_failures_and_prints_a_table(blank, dataset, tmp_path, capsys):
    assert main(["evaluate", str(blank), "--dataset", str(dataset), "--out", str(tmp_path / "out")]) == 0
    figures = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert (figures["requests"], figures["strict_accuracy"]) == (4, 0)
    assert (figures["model"], figures["dataset"]) == (str(blank), str(dataset))
    failures = [json.loads(line) for line in (tmp_path / "out" / "failures.jsonl").read_text().splitlines()]
    assert [failure["request"] for failure in failures] == list(ANSWERS)
    output = capsys.readouterr()
    low, high = figures["call_interval"]
    assert "by kind of request" in output.out and f"{low:.3f}-{high:.3f}" in output.out
    assert f"{blank.name}: 4 requests" in output.err


def test_evaluate_prints_all_figures_as_json(blank, dataset, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["evaluate", str(blank), "--dataset", str(dataset), "--out", str(out), "--json"]) == 0
    (figures,) = json.loads(capsys.readouterr().out).values()
    assert figures.items() <= json.loads((out / "evaluation.json").read_text()).items()
    assert figures["requests"] == 4


def test_evaluate_covers_every_whole_checkpoint_of_a_run(run, dataset, capsys):
    assert main(["evaluate", "kitchen", "--dataset", str(dataset), "--all-checkpoints", "--batch-size", "2"]) == 0
    out = run.folder / "evaluations" / "test"
    figures = json.loads((out / "evaluation.json").read_text())
    assert {name: each["strict_accuracy"] for name, each in figures.items()} == {
        "checkpoint-2": 0,
        "checkpoint-10": 1,
        "model": 1,
    }
    assert len((out / "checkpoint-2" / "failures.jsonl").read_text().splitlines()) == 4
    assert (out / "model" / "failures.jsonl").read_text() == ""
    assert "skipped checkpoint-7" in capsys.readouterr().err


def test_evaluate_covers_as_many_rows_as_the_limit(run, dataset):
    assert main(["evaluate", "kitchen", "--dataset", str(dataset), "--limit", "3", "--seed", "5"]) == 0
    figures = json.loads((run.folder / "evaluations" / "test" / "evaluation.json").read_text())
    assert figures["requests"] == 3


@pytest.mark.parametrize("options", [["--limit", "0"], ["--batch-size", "-1"], ["--batch-size", "x"], []])
def test_evaluate_refuses_invalid_options(options, run, dataset):
    given = ["--dataset", str(dataset)] if options else []
    with pytest.raises(SystemExit) as left:
        main(["evaluate", "kitchen", *given, *options])
    assert left.value.code == 2


def test_evaluate_names_a_missing_dataset(run, capsys):
    assert main(["evaluate", "kitchen", "--dataset", "nowhere.jsonl"]) == 2
    assert "nowhere.jsonl" in capsys.readouterr().err


def test_a_request_that_does_not_fit_the_gpu_is_refused_with_the_remedy(run, dataset, monkeypatch, capsys):
    def full(*given: object, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("hatrain.evaluate.evaluate_model", full)
    assert main(["evaluate", "kitchen", "--dataset", str(dataset)]) == 2
    assert "does not fit into the GPU's memory" in capsys.readouterr().err


def test_the_adapter_of_a_run_finds_its_base_from_anywhere(run, blank, dataset, tmp_path, monkeypatch):
    shutil.copytree(blank, tmp_path / "bases" / "small")
    plan = run.plan()
    spec = plan.job.model.model_copy(update={"base": "bases/small"})
    job = plan.job.model_copy(update={"model": spec})
    run.plan_file.write_text(plan.model_copy(update={"job": job}).model_dump_json())
    torch.manual_seed(3)
    adapted = get_peft_model(load_model(str(blank)), LoraConfig(target_modules=["q_proj"]))
    adapted.peft_config["default"].base_model_name_or_path = "/another/machine/small"
    adapted.save_pretrained(run.adapter)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    model, tokenizer = load(find_source(str(run.adapter)))
    assert evaluate_model(model, tokenizer, read_rows(dataset)).complete


def test_ask_shows_the_answer_and_what_it_would_do(run, capsys):
    assert main(["ask", "kitchen", "Turn on the light."]) == 0
    assert capsys.readouterr().out == "Sure.\n\nwould turn on Kitchen (light.kitchen)\n"
    assert main(["ask", "kitchen", "Is the hall fan on?"]) == 0
    assert capsys.readouterr().out == "It is.\n\nwould do nothing\n"
