"""Answers are greedy, the same in any batch, and end where the model's family ends a turn."""

import pytest
import torch
from transformers import GenerationConfig

from hatrain.data.replies import ReplyFinder
from hatrain.evaluate.generation import Generated, Stops, find_stops, generate, limit_for
from tests.evaluate.models import Scripted
from tests.families import CHAT_FAMILIES, CHATML, build_tokenizer

PROMPTS = [
    "Turn on the light",
    "Is the front door locked?",
    "no",
    "Set the thermostat to 21 degrees. " * 3,
    "yes",
]


NEVER = Stops(())


def answers(model, tokenizer, prompts, *, stops=NEVER, limit=12, batch_size=8, **options) -> list[Generated]:
    by_index = dict(generate(model, tokenizer, prompts, stops=stops, limit=limit, batch_size=batch_size, **options))
    return [by_index[index] for index in sorted(by_index)]


def ids_of(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_an_answer_does_not_depend_on_what_else_is_in_its_batch(batch_size, llama, tokenizer):
    alone = [answers(llama, tokenizer, [prompt])[0] for prompt in PROMPTS]
    assert answers(llama, tokenizer, PROMPTS, batch_size=batch_size) == alone
    assert len({answer.text for answer in alone}) > 1


def test_an_answer_is_the_most_likely_token_at_each_step(llama, tokenizer):
    ids = ids_of(tokenizer, PROMPTS[0])
    expected = []
    for _ in range(6):
        with torch.no_grad():
            expected.append(int(llama(input_ids=torch.tensor([ids + expected])).logits[0, -1].argmax()))
    (answer,) = answers(llama, tokenizer, PROMPTS[:1], limit=6)
    assert answer == Generated(tokenizer.decode(expected).strip(), ended=False, tokens=6)


def test_sampling_and_penalties_of_the_models_configuration_are_ignored_and_restored(llama, tokenizer):
    greedy = answers(llama, tokenizer, PROMPTS)
    own = GenerationConfig(
        do_sample=True, temperature=5.0, repetition_penalty=9.0, max_length=9, min_new_tokens=30, num_beams=2
    )
    before, llama.generation_config = llama.generation_config, own
    try:
        assert answers(llama, tokenizer, PROMPTS) == greedy
        assert llama.generation_config is own
    finally:
        llama.generation_config = before


@pytest.mark.parametrize("training", [True, False])
def test_a_model_is_left_in_the_mode_it_was_in(training, llama, tokenizer):
    llama.train(training)
    try:
        answers(llama, tokenizer, PROMPTS[:1])
        assert llama.training is training
        assert llama.generation_config.max_new_tokens is None
    finally:
        llama.eval()


def test_prompts_of_similar_length_share_a_batch_and_the_longest_come_first(tokenizer):
    model = Scripted(tokenizer, lambda prompt: [5, tokenizer.eos_token_id])
    answers(model, tokenizer, PROMPTS, stops=Stops((tokenizer.eos_token_id,)), batch_size=2)
    lengths = [len(prompt) for batch in model.batches for prompt in batch]
    assert [len(batch) for batch in model.batches] == [2, 2, 1]
    assert lengths == sorted(lengths, reverse=True)


def test_no_batch_starts_after_a_stop(tokenizer):
    model = Scripted(tokenizer, lambda prompt: [tokenizer.eos_token_id])
    stop_requested = iter([False, False, True])
    answered = answers(model, tokenizer, PROMPTS, batch_size=2, should_stop=lambda: next(stop_requested))
    assert len(answered) == 4
    assert len(model.batches) == 2


@pytest.mark.parametrize("family", CHAT_FAMILIES)
def test_each_familys_own_end_of_turn_ends_an_answer(family):
    tokenizer = build_tokenizer(family)
    finder = ReplyFinder(tokenizer)
    (end,) = {mark.strip() for mark in finder.markers.ends}
    reply = 'Sure.\n```homeassistant\n{"service": "light.turn_on"}\n```'
    model = Scripted(tokenizer, lambda prompt: [*ids_of(tokenizer, reply), *ids_of(tokenizer, end), 9])
    stops = find_stops(model, tokenizer, finder.markers.ends)
    assert stops.texts == ()
    (answer,) = answers(model, tokenizer, PROMPTS[:1], stops=stops, limit=200)
    assert (answer.text, answer.ended) == (reply, True)


def test_an_end_that_is_not_a_token_is_found_as_text():
    tokenizer = build_tokenizer("stablelm")
    tokenizer.chat_template = CHATML
    stops = find_stops(Scripted(tokenizer, lambda prompt: [9]), tokenizer, ["<|im_end|>"])
    assert stops.texts == ("<|im_end|>",)
    model = Scripted(tokenizer, lambda prompt: ids_of(tokenizer, "Sure.<|im_end|>\nand on and on"))
    (answer,) = answers(model, tokenizer, PROMPTS[:1], stops=stops, limit=60)
    assert (answer.text, answer.ended) == ("Sure.", True)
    assert answer.tokens < 60


def test_an_ordinary_token_is_no_end_even_if_configured(tokenizer):
    model = Scripted(tokenizer, lambda prompt: [9])
    ordinary = ids_of(tokenizer, "light")[0]
    model.config.eos_token_id = ordinary
    model.generation_config.eos_token_id = [ordinary, tokenizer.convert_tokens_to_ids("<|endoftext|>")]
    stops = find_stops(model, tokenizer, ())
    assert set(stops.ids) == {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|endoftext|>")}


def test_endless_text_stops_at_the_limit(tokenizer):
    model = Scripted(tokenizer, lambda prompt: ids_of(tokenizer, " on"))
    (answer,) = answers(model, tokenizer, PROMPTS[:1], stops=Stops((tokenizer.eos_token_id,)), limit=20)
    assert (answer.ended, answer.tokens) == (False, 20)
    assert answer.text.startswith("on")


def test_an_empty_answer_is_an_answer(tokenizer):
    model = Scripted(tokenizer, lambda prompt: [tokenizer.eos_token_id])
    (answer,) = answers(model, tokenizer, PROMPTS[:1], stops=Stops((tokenizer.eos_token_id,)))
    assert answer == Generated("", ended=True, tokens=1)


def test_a_tokenizer_that_pads_with_eos_gives_the_same_answers():
    tokenizer = build_tokenizer("zephyr")
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    reversed_prompts = {len(ids_of(tokenizer, prompt)): ids_of(tokenizer, prompt)[::-1] for prompt in PROMPTS}
    model = Scripted(tokenizer, lambda prompt: [*reversed_prompts[len(prompt)], tokenizer.eos_token_id])
    stops = Stops((tokenizer.eos_token_id,))
    for prompt, answer in zip(PROMPTS, answers(model, tokenizer, PROMPTS, stops=stops, limit=99), strict=True):
        assert answer.tokens == len(ids_of(tokenizer, prompt)) + 1


def test_a_prompt_beyond_the_context_gets_an_empty_answer_and_others_the_space_left(tokenizer):
    long, short = PROMPTS[3] * 2, PROMPTS[1]
    context = len(ids_of(tokenizer, short)) + 3
    model = Scripted(tokenizer, lambda prompt: [9], context=context)
    beyond, within = answers(model, tokenizer, [long, short], limit=50)
    assert beyond == Generated("", ended=True, tokens=0)
    assert within.tokens == 3


def test_the_limit_covers_the_longest_expected_answer_and_a_margin(tokenizer):
    longest = len(ids_of(tokenizer, PROMPTS[3]))
    assert longest + 16 < limit_for(tokenizer, PROMPTS) < 2 * longest + 17
    assert limit_for(tokenizer, []) > 0
