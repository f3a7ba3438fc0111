"""The prefix and suffix ids that the training guide publishes, on the vocabularies they were published for."""

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from hatrain.data.labels import Example, Labeller
from hatrain.data.rows import read_rows
from tests.families import build_tokenizer, renumbered

REAL = Path(__file__).parents[3] / "shared" / "tokenizers"

SINGLE = [
    {"role": "system", "content": "You are Al.\nDevices:\nlight.kitchen 'Kitchen Light' = on;80%"},
    {"role": "user", "content": "turn off the kitchen light"},
    {
        "role": "assistant",
        "content": 'Off.\n```homeassistant\n{"service": "light.turn_off", "target_device": "light.kitchen"}\n```',
    },
]
MULTI = [
    *SINGLE,
    {"role": "user", "content": "and the bedroom too?"},
    {"role": "assistant", "content": "Die Lampe im Schlafzimmer gibt es nicht. 🙂"},
]
UNTRAINED = [SINGLE[0], SINGLE[1], SINGLE[2] | {"train_on_turn": False}, *MULTI[3:]]


def real(name: str) -> PreTrainedTokenizerBase:
    if not (REAL / name).is_dir():
        pytest.skip(f"the real vocabularies are not here: {REAL / name}")
    return AutoTokenizer.from_pretrained(REAL / name)


def llama3() -> PreTrainedTokenizerBase:
    ids = {
        "assistant": 78191,
        "ĊĊ": 271,
        "<|begin_of_text|>": 128000,
        "<|end_of_text|>": 128001,
        "<|start_header_id|>": 128006,
        "<|end_header_id|>": 128007,
        "<|eot_id|>": 128009,
    }
    return renumbered(build_tokenizer("llama3"), ids)


def polka() -> PreTrainedTokenizerBase:
    ids = {
        "<s>": 1,
        "</s>": 2,
        "\n": 13,
        "▁assistant": 20255,
        "▁": 29871,
        "<|im_end|>": 43882,
        "<|im_start|>": 43883,
    }
    return renumbered(build_tokenizer("polka"), ids)


PUBLISHED = {
    "tinyllama": (lambda: real("tinyllama"), [29966, 29989, 465, 22137, 29989, 29958, 13], [2]),
    "qwen2": (lambda: real("qwen2"), [151644, 77091, 198], [151645, 198]),
    "polka": (polka, [43883, 20255, 13], [43882, 29871, 13]),
    "llama3": (llama3, [128006, 78191, 128007, 271], [128009, 128006, 78191, 128007, 271]),
}


@pytest.fixture(params=PUBLISHED, scope="module")
def family(request):
    make, prefix, suffix = PUBLISHED[request.param]
    return make(), prefix, suffix


def labelled(labeller: Labeller, folder: Path, messages: list[dict[str, object]]) -> Example:
    path = folder / "rows.jsonl"
    path.write_text(json.dumps({"messages": messages}))
    (example,) = labeller.label(list(read_rows(path)))
    assert isinstance(example, Example), example.problems
    return example


@pytest.mark.parametrize("messages", [SINGLE, MULTI, UNTRAINED], ids=["single", "multi", "one turn untrained"])
def test_the_published_ids_label_exactly_the_reply_and_its_end(family, messages, tmp_path):
    tokenizer, prefix, suffix = family

    example = labelled(Labeller(tokenizer, prefix, suffix), tmp_path, messages)

    trained = [turn for turn in messages if turn["role"] == "assistant" and turn.get("train_on_turn", True)]
    assert len(example.replies) == len(trained)
    for (start, end), turn in zip(example.replies, trained, strict=True):
        assert example.input_ids[start - len(prefix) : start].tolist() == prefix
        assert example.input_ids[end - 1] == suffix[0]
        assert suffix[0] not in example.input_ids[start : end - 1]
        assert tokenizer.decode(example.input_ids[start : end - 1]) == turn["content"]


@pytest.mark.parametrize("messages", [SINGLE, MULTI, UNTRAINED], ids=["single", "multi", "one turn untrained"])
def test_without_ids_the_same_tokens_are_found(family, messages, tmp_path):
    tokenizer, prefix, suffix = family

    by_ids = labelled(Labeller(tokenizer, prefix, suffix), tmp_path, messages)
    by_template = labelled(Labeller(tokenizer), tmp_path, messages)

    assert by_template.labels.tolist() == by_ids.labels.tolist()


def test_the_tokens_are_those_of_the_rendered_conversation(family, tmp_path):
    tokenizer, *_ = family

    example = labelled(Labeller(tokenizer), tmp_path, MULTI)

    assert example.input_ids.tolist() == tokenizer.apply_chat_template(MULTI)["input_ids"]
