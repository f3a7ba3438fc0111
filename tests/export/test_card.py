"""The model card: everything that was recorded is in it, nothing else, and nothing private."""

import json

import pytest
import yaml

from hatrain.export import card
from hatrain.model.licence import front_matter, stated_licence
from hatrain.runtime import seal
from tests.export.finished import exported, finished


def text_of(run, kind="model"):
    card.write(run)
    return (run.folder / kind / "README.md").read_text()


@pytest.fixture
def run(tmp_path):
    return finished(tmp_path / "secret-folder")


def test_the_head_is_what_the_hub_reads(run):
    head = front_matter(text_of(run))
    assert head == {
        "base_model": "some/base",
        "license": "other",
        "license_name": "llama3",
        "license_link": "https://example.org/l",
        "language": ["en", "de"],
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["home-assistant", "hatrain", "sft"],
        "model-index": [
            {
                "name": "kitchen",
                "results": [
                    {
                        "task": {"type": "text-generation", "name": "requests to a home"},
                        "dataset": {"type": "home-assistant", "name": "test.jsonl"},
                        "metrics": [
                            {"type": "accuracy", "name": "right where a call is needed", "value": 0.8},
                            {"type": "accuracy", "name": "strict accuracy", "value": 0.85},
                        ],
                    }
                ],
            }
        ],
    }


@pytest.mark.parametrize(
    "line",
    [
        "A model that answers requests to Home Assistant in English and German: a fine-tuned "
        "[some/base](https://huggingface.co/some/base), made with hatrain.",
        "| all | 40 | 0.100 | 0.850 | 0.709 to 0.929 |",
        "| English | 40 | - | 0.850 | 0.709 to 0.929 |",
        "| German | 7 | - | - | 0.709 to 0.929 |",
        "Of the 30 requests that need a call, 80.0% are right (95 % interval over different requests: 62.0% to 91.0%); "
        "before training 0.0% were. A model that never calls has none of them, and a strict accuracy of at most 25.0%.",
        "Test loss: 3.0000 before training, 1.2500 after training.",
        "The checkpoint was chosen by 44 requests of the same test set, which are not among those counted here.",
        "| base | some/base, revision `c0ffee` |",
        "| length | 1 epoch planned, 50 of 100 steps trained, at most 2,048 tokens a row |",
        "| checkpoint | ended after step 50: 2 looks without gain; kept step 30: strict accuracy 0.850, the highest of "
        "5 looks |",
        "| time | 1.5 hours in 1 attempt, evaluation and export included; 3.0 process hours |",
        "| `train.jsonl` | training | 8 | `abababababababab…` |",
        "Languages: English (9 rows), German (3 rows).",
        "What the test rows share with the training rows, word for word: requests: 1 of 4 (25.0% of all).",
        "The base states llama3 (`other`), [text](https://example.org/l), in the card of some/base.",
        "The model was trained for the older interface of the integration *Local LLM*.",
        "````\n```homeassistant\n{}\n```\n````",
    ],
)
def test_the_card_says(run, line):
    assert line in text_of(run)


def test_a_card_has_no_folder_and_no_host_of_this_machine(run, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "c0ffee")  # too short to be hidden
    text = text_of(run)
    assert "secret-folder" not in text
    assert "secret-host" not in text
    assert str(tmp_path) not in text


def test_a_secret_of_the_environment_is_hidden(run, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "abababababababab")
    assert "abababababababab" not in text_of(run)


def test_what_is_not_recorded_is_said_to_be_unknown(run):
    run.description.unlink()
    run.evaluation.unlink()
    text = text_of(run)
    assert front_matter(text) == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["home-assistant", "hatrain", "sft"],
    }
    for line in (
        "Not evaluated: the run has no evaluation.",
        "Not known: it was not recorded. The chat template in the tokenizer has it.",
        "Not known: it was not recorded.",
        "No statement of the licence of `base` was at hand.",
        "The rows do not say which client the model is for.",
    ):
        assert line in text


def test_an_adapter_says_what_it_is_and_how_it_is_loaded(tmp_path):
    text = text_of(finished(tmp_path, method__lora={"rank": 4}), "adapter")
    head = front_matter(text)
    assert (head["library_name"], head["tags"][-1]) == ("peft", "lora")
    assert "AutoPeftModelForCausalLM.from_pretrained" in text
    assert "| method | SFT on the replies, LoRA rank 4, alpha 32, dropout 0.05 |" in text


def test_the_files_of_an_export_and_how_they_are_served_are_in_every_card(run):
    exported(run)
    for kind in ("model", "export"):
        text = text_of(run, kind)
        assert "| kitchen.q8_0.gguf | 0.0 MB | - | 0.709-0.929 | 0.850 of 40 | 39 of 40 |" in text
        assert "ollama create kitchen-home-3b-v3 -f Modelfile" in text
    assert front_matter(text_of(run, "export"))["library_name"] == "gguf"


def test_a_card_leaves_sealed_folders_whole(run):
    exported(run)
    card.write(run)
    assert seal.verify(run.model) is None
    assert seal.verify(run.export) is None


def test_later_evaluations_of_the_model_are_in_its_card(run):
    for name, model in (("mine", run.model), ("another", run.folder / "checkpoints/checkpoint-9")):
        figures = {"model": str(model), "requests": 9, "strict_accuracy": 0.5, "strict_interval": [0.2, 0.8]}
        seal.write_json(run.folder / "evaluations" / name / "evaluation.json", figures)
    text = text_of(run)
    assert "| mine | 9 | 0.500 | 0.200 to 0.800 |" in text
    assert "another" not in text


def test_a_run_without_a_result_gets_no_card(run):
    seal.remove(run.model)
    assert card.write(run) == []


# --- the licence of a base -----------------------------------------------------------------------------------


def test_the_licence_is_what_the_card_of_the_base_states(tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    assert stated_licence(base) is None
    (base / "README.md").write_text("# A model without a head")
    assert stated_licence(base) is None
    (base / "README.md").write_text("---\n" + yaml.safe_dump({"license": "gemma", "tags": ["a"]}) + "---\n# Base\n")
    assert stated_licence(base) == {"id": "gemma", "source": "the card of base"}


@pytest.mark.parametrize("head", ["license: [mit]", "license: ''", "license: {", "- license"])
def test_a_head_that_states_no_licence_gives_none(tmp_path, head):
    (tmp_path / "README.md").write_text(f"---\n{head}\n---\n")
    assert stated_licence(tmp_path) is None


def test_a_base_that_the_hub_does_not_have_states_no_licence(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert stated_licence("some/base-that-is-in-no-cache") is None


def test_cards_are_json_free_of_surprises(run):
    """What is in a card comes from files that people can edit: odd values must not end a run."""
    seal.write_json(run.description, {"rows": [], "base": None, "prompt": "text", "audit": 3})
    run.evaluation.write_text(json.dumps({"before": 1, "after": "x"}))
    assert "Not known" in text_of(run)
