"""Our own decoding gives the answers of transformers' generate(), and reads fewer tokens for them."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer

from hatrain.data.rows import read_rows
from hatrain.evaluate import decoding, evaluate_model, generation
from hatrain.evaluate import passes as passes_of_a_model
from hatrain.evaluate.generation import Generated, Stops, generate
from hatrain.evaluate.passes import Passes, Row
from hatrain.model.base import load_model
from hatrain.model.stored import replaced
from tests.evaluate.models import random_llama
from tests.evaluate.test_evaluate import ANSWERS, row
from tests.families import build_tokenizer
from tests.models import tiny_base

HOME = "You control the home. Devices: light.kitchen 'Kitchen' = on, fan.hall 'Hall' = off, lock.door 'Door' = locked. "
OTHER = "Services: light.turn_on(), fan.turn_off(). "
PROMPTS = [
    HOME + "Turn on the light",
    HOME + "Turn on the light, please",
    OTHER + "Is the door locked?",
    HOME + "Is the fan on?",
    HOME,
    "no",
    HOME + "Turn on the light",
    HOME + OTHER * 4 + "Open the garage",
    HOME + OTHER * 4 + "Close it",
]
REPLIES = [
    "Turning on the light.",
    "Sure.",
    "It is locked.",
    "",
    "Which one?",
    "Done.",
    "Sure.",
    "There is none.",
    "Ok.",
]
NEVER = Stops(())
LIMIT = 24


def answers(model: Any, tokenizer: Any, stops: Stops = NEVER, **options: Any) -> list[Generated]:
    given: dict[str, Any] = {"replies": REPLIES, "limit": LIMIT, **options}
    found = dict(generate(model, tokenizer, PROMPTS, stops=stops, **given))
    return [found[index] for index in range(len(PROMPTS))]


@pytest.fixture
def by_generate(monkeypatch):
    """Answers of transformers' generate()."""

    def run(*given: Any, **options: Any) -> list[Generated]:
        with monkeypatch.context() as patch:
            patch.setattr(generation, "why_not", lambda base, longest: "the test")
            return answers(*given, **options)

    return run


@pytest.fixture
def passes(monkeypatch) -> list[int]:
    """The tokens of each pass."""
    read: list[int] = []
    original = Passes.most_likely

    def counted(self: Passes, jobs: Sequence[Any]) -> Any:
        read.append(sum(len(job.tokens) for job in jobs))
        return original(self, jobs)

    monkeypatch.setattr(Passes, "most_likely", counted)
    return read


def ending(tokenizer: Any, found: Sequence[Generated]) -> Stops:
    """A token that ends some of the answers early, and others not."""
    texts = [tokenizer(answer.text, add_special_tokens=False)["input_ids"] for answer in found]
    counts = {token: sum(token in ids for ids in texts) for ids in texts for token in ids}
    return Stops((min(counts, key=lambda token: (abs(counts[token] - len(texts) // 2), token)),))


FAMILIES = ["tinyllama", "llama3-scaled", "qwen2", "phi", "phi3", "stablelm", "mistral", "gemma3"]


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_those_of_generate(family, tmp_path, by_generate, passes):
    folder = tiny_base(family, tmp_path, max_position_embeddings=2048)
    model, tokenizer = load_model(str(folder), dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(folder)
    endless = by_generate(model, tokenizer)
    assert answers(model, tokenizer) == endless
    stops = ending(tokenizer, endless)
    ended = by_generate(model, tokenizer, stops)
    assert answers(model, tokenizer, stops) == ended
    assert answers(model, tokenizer, stops, batch_size=2) == ended
    assert {answer.ended for answer in ended} == {True, False}
    assert len({answer.text for answer in endless}) > 3
    assert passes


def test_the_answers_of_an_adapter_are_those_of_generate(tokenizer, by_generate, passes):
    plain = random_llama(tokenizer)
    torch.manual_seed(1)
    adapted = get_peft_model(
        random_llama(tokenizer), LoraConfig(target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    )
    found = answers(adapted, tokenizer)
    assert found == by_generate(adapted, tokenizer)
    assert found != answers(plain, tokenizer)
    assert passes


@pytest.mark.parametrize("family", ["chatml", "zephyr", "llama3", "qwen2", "stablelm", "phi3"])
def test_an_evaluation_is_that_of_generate_with_any_kind_of_chat_template(family, tmp_path, monkeypatch, passes):
    tokenizer = build_tokenizer(family)
    model = random_llama(tokenizer).eval()
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row(request, kind="action")) + "\n" for request in ANSWERS))
    ours = evaluate_model(model, tokenizer, read_rows(path))
    assert passes
    monkeypatch.setattr(generation, "why_not", lambda base, longest: "the test")
    theirs = evaluate_model(model, tokenizer, read_rows(path))
    assert [(one.text, one.tokens) for one in ours.outcomes] == [(one.text, one.tokens) for one in theirs.outcomes]


def test_half_precision_is_decoded_by_us_too(tokenizer, passes):
    said: list[str] = []
    model = random_llama(tokenizer).to(torch.bfloat16).eval()
    assert all(answer.tokens == LIMIT for answer in answers(model, tokenizer, say=said.append))
    assert passes and said == []


def test_what_prompts_begin_with_is_computed_once(llama, tokenizer, passes):
    answers(llama, tokenizer, limit=1)
    lengths = [len(ids) for ids in tokenizer(sorted(set(PROMPTS)), add_special_tokens=False)["input_ids"]]
    shared = len(tokenizer(HOME, add_special_tokens=False)["input_ids"])
    assert sum(passes) < sum(lengths) - 4 * shared


def test_prompts_of_the_next_rows_use_what_those_before_have_stored(llama, tokenizer, passes):
    answers(llama, tokenizer, limit=1, batch_size=1)
    lengths = [len(ids) for ids in tokenizer(sorted(set(PROMPTS)), add_special_tokens=False)["input_ids"]]
    assert sum(passes) < 0.7 * sum(lengths)


def test_expected_answers_save_passes_and_change_nothing(llama, tokenizer, passes):
    prompts = tokenizer(sorted(set(PROMPTS)), add_special_tokens=False)["input_ids"]

    def run(replies: list[list[int]]) -> list[list[int]]:
        passes.clear()
        rows = [Row(number, prompt, replies[number], LIMIT) for number, prompt in enumerate(prompts)]
        with replaced(llama), torch.no_grad():
            decoder = decoding.Decoder(llama, lambda tokens: False)
            assert decoder.check() is None
            return [row.new for row in sorted(decoder.answers(rows), key=lambda row: row.number)]

    plain = run([[]] * len(prompts))
    without = len(passes)
    assert run(plain) == plain
    assert len(passes) < without / 2
    assert run([[5, 6, 7] * 9] * len(prompts)) == plain
    assert run([answer[::-1] for answer in plain]) == plain
    # What is expected of another row is a draft of this one too.
    assert run([*plain[1:], plain[0]]) == plain
    assert len(passes) < 0.8 * without


def test_answers_go_on_while_the_prompts_of_others_are_read(llama, tokenizer, monkeypatch):
    expected = answers(llama, tokenizer)
    monkeypatch.setattr(passes_of_a_model, "TOKENS", {"cpu": 48})
    monkeypatch.setattr(passes_of_a_model, "LOGITS", 16 * llama.config.vocab_size)
    both: list[bool] = []
    original = Passes.most_likely

    def counted(self: Passes, jobs: Sequence[Any]) -> Any:
        assert sum(job.kept for job in jobs) <= 16
        assert sum(sorted(len(job.tokens) for job in jobs)[:-1]) <= 48
        both.append(len({job.row is not None and len(job.row.new) > 0 for job in jobs}) == 2)
        return original(self, jobs)

    monkeypatch.setattr(Passes, "most_likely", counted)
    assert answers(llama, tokenizer) == expected
    assert sum(both) > 3


def test_a_long_answer_does_not_hold_the_others(llama, tokenizer, passes):
    endless = answers(llama, tokenizer, replies=None)
    stops = ending(tokenizer, endless)
    passes.clear()
    ended = answers(llama, tokenizer, stops, replies=None)
    needed = sum(answer.tokens for answer in ended)
    # Padded, each row is read in each pass until the last has ended.
    assert needed < 0.9 * LIMIT * len(PROMPTS)
    lengths = [len(ids) for ids in tokenizer(sorted(set(PROMPTS)), add_special_tokens=False)["input_ids"]]
    assert sum(passes) < sum(lengths) + needed


def test_an_end_that_is_text_ends_an_answer(llama, tokenizer, by_generate):
    endless = answers(llama, tokenizer)
    text = endless[0].text[len(endless[0].text) // 2 :][:6]
    (ours, *_), (theirs, *_) = (of(llama, tokenizer, Stops((), (text,))) for of in (answers, by_generate))
    assert (ours.text, ours.ended) == (theirs.text, True)
    assert ours.tokens < LIMIT


def test_rows_that_do_not_fit_into_the_memory_are_halved(llama, tokenizer, monkeypatch):
    expected, asked = answers(llama, tokenizer), []
    original = Passes.most_likely

    def small(self: Passes, jobs: Sequence[Any]) -> Any:
        asked.append(len(jobs))
        if len(jobs) > 2:
            raise torch.OutOfMemoryError("the test")
        return original(self, jobs)

    monkeypatch.setattr(Passes, "most_likely", small)
    assert answers(llama, tokenizer) == expected
    assert max(asked) > 2


def test_a_row_that_does_not_fit_alone_is_an_error(llama, tokenizer, monkeypatch):
    def full(self: Passes, jobs: Sequence[Any]) -> Any:
        raise torch.OutOfMemoryError("the test")

    monkeypatch.setattr(Passes, "most_likely", full)
    with pytest.raises(torch.OutOfMemoryError):
        answers(llama, tokenizer)


def test_few_rows_are_stored_where_memory_is_short(llama, tokenizer, monkeypatch):
    expected = answers(llama, tokenizer)
    monkeypatch.setattr(decoding, "_free", lambda device: 300_000)
    stored: list[int] = []
    original = decoding.Store

    def counted(rows: int, places: int) -> Any:
        stored.append(rows)
        return original(rows, places)

    monkeypatch.setattr(decoding, "Store", counted)
    assert answers(llama, tokenizer) == expected
    assert 1 <= max(stored) < len(PROMPTS) - 1


def test_an_evaluation_stops_between_two_passes(llama, tokenizer, passes):
    asked = iter([False] * 4 + [True] * 9)
    found = dict(
        generate(llama, tokenizer, PROMPTS, stops=NEVER, limit=LIMIT, should_stop=lambda: next(asked), batch_size=2)
    )
    assert len(passes) <= 4
    assert len(found) < len(PROMPTS)


def test_how_much_is_done_grows_from_pass_to_pass(llama, tokenizer):
    done: list[float] = []
    answers(llama, tokenizer, worked=done.append)
    assert done == sorted(done)
    assert 0 < done[0] < len(PROMPTS) - 1 <= done[-1]


def test_the_models_own_attention_is_restored(llama, tokenizer):
    own = llama.config._attn_implementation
    answers(llama, tokenizer)
    assert llama.config._attn_implementation == own


def test_a_model_that_is_not_decoded_by_us_is_named_in_one_line(tmp_path, by_generate, passes):
    folder = tiny_base("phi3-long", tmp_path)
    model, tokenizer = load_model(str(folder), dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(folder)
    said: list[str] = []
    found = answers(model, tokenizer, say=said.append)
    assert not passes
    assert len(said) == 1 and "rotary embeddings depend on the longest row" in said[0]
    assert found == by_generate(model, tokenizer)


def test_a_model_whose_rows_would_see_each_other_is_not_decoded_by_us(llama, tokenizer, monkeypatch, passes):
    said: list[str] = []
    expected = answers(llama, tokenizer)
    passes.clear()
    model = random_llama(tokenizer).eval()
    layer = model.model.layers[0].self_attn
    original = layer.forward

    def mixing(hidden_states: Any, *given: Any, **options: Any) -> Any:
        return original(hidden_states.cumsum(1), *given, **options)

    monkeypatch.setattr(layer, "forward", mixing)
    answers(model, tokenizer, say=said.append)
    assert not passes and "would see each other" in said[0]
    assert answers(llama, tokenizer) == expected


def test_quantised_weights_stay_with_generate(tokenizer, passes):
    model = random_llama(tokenizer).eval()
    model.is_quantized = True
    said: list[str] = []
    answers(model, tokenizer, say=said.append)
    assert not passes and "quantised" in said[0]
