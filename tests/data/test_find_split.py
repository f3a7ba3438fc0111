import pytest
from transformers import PreTrainedTokenizerBase

from hatrain.cli import main
from hatrain.data.find_split import IN_PLACE, LEADING, find_split
from hatrain.data.labels import Labeller
from hatrain.data.rows import Message, Row
from hatrain.errors import BadInput
from tests.data.published import PUBLISHED, ROUNDS, published
from tests.data.test_published_ids import real
from tests.families import CHAT_FAMILIES, build_tokenizer


def trained_on(tokenizer: PreTrainedTokenizerBase, prefix: tuple[int, ...], suffix: tuple[int, ...]) -> list[str]:
    """The supervised text of a conversation other than the sample."""
    messages = (
        Message("user", "One?"),
        Message("assistant", "First.", True),
        Message("user", "Two?"),
        Message("assistant", "Second.", True),
    )
    (example,) = Labeller(tokenizer, prefix, suffix).label([Row(__file__, 0, 1, messages)])
    return [tokenizer.decode(example.input_ids[start : end - 1]).strip() for start, end in example.replies]


@pytest.mark.parametrize("family", CHAT_FAMILIES)
def test_the_ids_to_use_find_every_reply_of_any_family(family):
    tokenizer = build_tokenizer(family)

    split = find_split(tokenizer)

    assert trained_on(tokenizer, split.prefix_ids, split.suffix_ids) == ["First.", "Second."]


@pytest.mark.parametrize(
    ("name", "prefix", "suffix"),
    [
        ("tinyllama", (29966, 29989, 465, 22137, 29989, 29958, 13), 2),
        ("qwen2", (151644, 77091, 198), 151645),
    ],
)
def test_the_ids_are_those_that_the_guide_publishes(name, prefix, suffix):
    split = find_split(real(name))

    assert split.prefix_ids == prefix
    assert split.suffix_ids[0] == suffix


@pytest.mark.parametrize("thinking", [False, True])
def test_ids_are_found_for_qwen_3_which_writes_an_empty_thought_into_replies(thinking):
    tokenizer = published("qwen3", thinking)
    split = find_split(tokenizer)
    assert split.sample is not None and split.is_needless
    row = Row(__file__, 0, 1, ROUNDS)
    labellers = (Labeller(tokenizer, split.prefix_ids, split.suffix_ids), Labeller(tokenizer))
    by_ids, by_template = (supervised(labeller.label([row])[0]) for labeller in labellers)
    assert by_ids == by_template and len(by_ids) == 2


def supervised(example) -> list[list[int]]:
    return [list(part.input_ids[start:end]) for part in example.sequences for start, end in part.replies]


@pytest.mark.parametrize("name", PUBLISHED)
def test_where_no_ids_are_found_for_a_published_template_none_are_needed(name):
    split = find_split(published(name))
    assert split.sample is not None or split.is_needless


def test_each_way_of_tokenizing_is_tried():
    split = find_split(build_tokenizer("zephyr"))

    assert [candidate.how for candidate in split.prefixes] == list(LEADING)
    assert [candidate.finds_all for candidate in split.prefixes] == [False, True, True]
    assert all(candidate.finds_all for candidate in split.suffixes)


def test_ids_are_taken_from_the_sample_where_no_tokenizing_of_the_prefix_fits():
    tokenizer = build_tokenizer("llama3")
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['role'] + ')' + message['content'] + '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant)' }}{% endif %}"
    )

    split = find_split(tokenizer)

    assert split.sample is not None
    assert trained_on(tokenizer, split.prefix_ids, split.suffix_ids) == ["First.", "Second."]


def test_a_template_with_nothing_before_a_reply_is_refused():
    tokenizer = build_tokenizer("chatml")
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"

    with pytest.raises(BadInput, match="nothing before a reply"):
        find_split(tokenizer)


@pytest.fixture
def saved(tmp_path):
    def save(family: str) -> str:
        build_tokenizer(family).save_pretrained(tmp_path / family)
        return str(tmp_path / family)

    return save


def test_the_report_shows_candidates_ids_and_the_sample(saved, capsys):
    folder = saved("chatml")

    assert main(["find-split", folder]) == 0

    output = capsys.readouterr().out
    ids = build_tokenizer("chatml")
    prefix = ",".join(map(str, ids("<|im_start|>assistant\n")["input_ids"]))
    assert output.startswith("Most models do not need these ids")
    assert "prefix: '<|im_start|>assistant\\n'" in output
    assert "suffix: '<|im_end|>'" in output
    assert all(how in output for how in LEADING)
    assert IN_PLACE not in output
    assert f"use: --prefix-ids {prefix} --suffix-ids {ids.eos_token_id}" in output
    assert "<|im_start|>assistant\n⟦Yes, it is on.<|im_end|>⟧" in output
    assert "You are Al" in output


@pytest.mark.parametrize("family", ["gemma", "mistral"])
def test_a_template_that_refuses_a_system_role_gets_a_sample_without(family, saved, capsys):
    assert main(["find-split", saved(family)]) == 0

    output = capsys.readouterr().out
    assert "You are Al" not in output
    assert "Yes, it is on." in output.split("⟦")[-1]


def test_a_base_without_a_chat_template_is_refused_with_the_remedy(saved, capsys):
    folder = saved("phi")

    assert main(["find-split", folder]) == 2
    assert "--add-chatml-tokens" in capsys.readouterr().err

    assert main(["find-split", folder, "--add-chatml-tokens"]) == 0
