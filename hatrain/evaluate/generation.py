"""Lets a model answer: greedily, in batches of like length, each answer cut where the model's family ends its turn.
It judges nothing and changes nothing about the model."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig


@dataclass(frozen=True)
class Generated:
    """What a model said, special tokens and all, without the end of its turn."""

    text: str
    ended: bool
    """Whether it closed its turn; false where its room was used up first."""
    tokens: int
    """Tokens generated, the end of the turn among them."""


@dataclass(frozen=True)
class Stops:
    """What ends a turn: ids, and texts where the template's end is no token of the vocabulary."""

    ids: tuple[int, ...]
    texts: tuple[str, ...] = ()


def find_stops(model: Any, tokenizer: Any, ends: Sequence[str]) -> Stops:
    """Return what ends a turn of this model: the ends its template puts, and those it is configured with.

    An id from the model's configuration counts only if the tokenizer holds it for a special token: the default
    of a configuration that nobody set can be an ordinary word.
    """
    added = set(tokenizer.all_special_ids) | tokenizer.added_tokens_decoder.keys()
    configured = [tokenizer.eos_token_id]
    for config in (getattr(model, "generation_config", None), model.config):
        eos = getattr(config, "eos_token_id", None)
        configured += eos if isinstance(eos, list) else [eos]
    ids = {token for token in configured if token in added}
    texts = []
    for end in ends:
        closing = [token for token in _ids(tokenizer, [end])[0] if token in added]
        ids.update(closing[:1])
        if not closing:
            texts.append(end.strip())
    return Stops(tuple(sorted(ids)), tuple(texts))


def room_for(tokenizer: Any, replies: Sequence[str]) -> int:
    """Return how many tokens an answer may have: the longest expected one, a quarter more, and sixteen."""
    return max(map(len, _ids(tokenizer, replies)), default=0) * 5 // 4 + 16


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    stops: Stops,
    room: int,
    batch_size: int,
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[tuple[int, Generated]]:
    """Yield (index of the prompt, answer) as batches are done, the longest prompts first.

    `room` is the most tokens of an answer. A prompt that leaves no room in the model's context is answered with
    nothing. `should_stop` is asked before each batch; once it says yes, no more are yielded.
    """
    context = getattr(model.config, "max_position_embeddings", None) or 2**31
    ids = _ids(tokenizer, prompts)
    fitting = [index for index in range(len(ids)) if len(ids[index]) < context]
    for index in set(range(len(ids))) - set(fitting):
        yield index, Generated("", ended=True, tokens=0)
    fitting.sort(key=lambda index: -len(ids[index]))
    with _ready_to_generate(model) as generator:
        for start in range(0, len(fitting), batch_size):
            if should_stop is not None and should_stop():
                return
            batch = fitting[start : start + batch_size]
            longest = len(ids[batch[0]])
            config = _greedy(tokenizer, stops, min(room, context - longest))
            generated = _generate_batch(generator, tokenizer, [ids[index] for index in batch], config)
            for index, tokens in zip(batch, generated, strict=True):
                yield index, _cut(tokenizer, tokens, stops)


def _ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids of each text, without the special tokens that a template has written already."""
    return tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []


def _greedy(tokenizer: Any, stops: Stops, room: int) -> GenerationConfig:
    pad = tokenizer.pad_token_id
    if pad is None:
        pad = stops.ids[0] if stops.ids else 0
    return GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=room,
        eos_token_id=list(stops.ids) or None,
        pad_token_id=pad,
        stop_strings=list(stops.texts) or None,
        use_cache=True,
    )


@contextmanager
def _ready_to_generate(model: Any) -> Iterator[Any]:
    """Put a model into inference, without the sampling and penalties that its own configuration asks for.

    Whatever a generation configuration leaves open is filled in from the model's: so that one is set aside.
    """
    generator = model.get_base_model() if hasattr(model, "get_base_model") else model
    own, training = generator.generation_config, model.training
    generator.generation_config = GenerationConfig()
    model.eval()
    try:
        with torch.no_grad():
            yield generator
    finally:
        generator.generation_config = own
        model.train(training)


def _generate_batch(
    generator: Any, tokenizer: Any, rows: Sequence[Sequence[int]], config: GenerationConfig
) -> list[list[int]]:
    """Return the new tokens of each row. Rows are padded on the left, and masked there by length."""
    longest = max(map(len, rows))
    padded = [[config.pad_token_id] * (longest - len(row)) + list(row) for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    output = generator.generate(
        input_ids=torch.tensor(padded, device=generator.device),
        attention_mask=torch.tensor(mask, device=generator.device),
        generation_config=config,
        **({"tokenizer": tokenizer} if config.stop_strings else {}),
    )
    return [new.tolist() for new in output[:, longest:]]


def _cut(tokenizer: Any, tokens: list[int], stops: Stops) -> Generated:
    """Cut an answer at the first end of a turn in it; what follows is padding."""
    end = next((place for place, token in enumerate(tokens) if token in stops.ids), None)
    text = tokenizer.decode(tokens[:end], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    places = [place for place in map(text.find, stops.texts) if place >= 0]
    ended = end is not None or bool(places)
    said = text[: min(places)] if places else text
    return Generated(said.strip(), ended, len(tokens) if end is None else end + 1)
