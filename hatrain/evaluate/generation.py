"""Greedy answers to prompts. Each ends at the model's end of turn."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig

from hatrain.evaluate.decoding import Decoder
from hatrain.evaluate.passes import Row
from hatrain.model.replaceable import why_not
from hatrain.model.stored import replaced

BATCH = 32
"""Prompts of a batch of generate()."""


@dataclass(frozen=True)
class Generated:
    """An answer, with its special tokens, without its end of turn."""

    text: str
    ended: bool
    """False if the limit of tokens was reached before the end of turn."""
    tokens: int
    """Tokens generated, including the end of turn."""


@dataclass(frozen=True)
class Stops:
    """What ends a turn: token ids, and texts where the template's end of turn is not a token."""

    ids: tuple[int, ...]
    texts: tuple[str, ...] = ()


def find_stops(model: Any, tokenizer: Any, ends: Sequence[str]) -> Stops:
    """Return the template's ends of turn and the eos ids of the configuration.

    A configured id counts only if it is a special or added token: an unset configuration's default can be an ordinary
    token.
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


def limit_for(tokenizer: Any, replies: Sequence[str]) -> int:
    """Return the maximum tokens of an answer: 1.25 times the longest expected one, plus 16."""
    return max(map(len, _ids(tokenizer, replies)), default=0) * 5 // 4 + 16


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    stops: Stops,
    limit: int,
    replies: Sequence[str] | None = None,
    batch_size: int | None = None,
    should_stop: Callable[[], bool] | None = None,
    worked: Callable[[float], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Iterator[tuple[int, Generated]]:
    """Yield (index of the prompt, answer) as answers end, the longest prompts first, about.

    `limit` is the maximum of new tokens. A prompt that fills the model's context gets an empty answer. `replies` are
    the expected answers: one that the model gives too takes fewer passes, and no answer is changed by them. At most
    `batch_size` prompts are answered at a time, by default as many as are fast and fit into the memory. `should_stop`
    is called before each pass; once it returns true, generation ends. `worked` is called with how much is done, in
    prompts. `say` is told why a model is run by transformers' generate(), which is slower. Raises
    torch.OutOfMemoryError where one prompt alone does not fit.
    """
    context = getattr(model.config, "max_position_embeddings", None) or 2**31
    ids, expected = _ids(tokenizer, prompts), _ids(tokenizer, replies or [""] * len(prompts))
    same: dict[tuple[int, ...], list[int]] = {}
    for index, prompt in enumerate(ids):
        if 0 < len(prompt) < context:
            same.setdefault(tuple(prompt), []).append(index)
        else:
            yield index, Generated("", ended=True, tokens=0)
    rows = [
        Row(indices[0], prompt, expected[indices[0]], min(limit, context - len(prompt)))
        for prompt, indices in same.items()
    ]
    with (
        _inference_mode(model) as generator,
        _answers(generator, tokenizer, rows, stops, batch_size, should_stop, worked, say or _silent) as answers,
    ):
        for row in answers:
            answer = _cut(tokenizer, row.new, stops)
            for index in same[tuple(row.prompt)]:
                yield index, answer


@contextmanager
def _answers(
    generator: Any,
    tokenizer: Any,
    rows: list[Row],
    stops: Stops,
    batch_size: int | None,
    should_stop: Callable[[], bool] | None,
    worked: Callable[[float], None] | None,
    say: Callable[[str], None],
) -> Iterator[Iterator[Row]]:
    """Yield the rows as they end, from our own decoding where that is right for the model."""
    longest = max((len(row.prompt) + row.limit for row in rows), default=0)

    def has_ended(tokens: list[int]) -> bool:
        return tokens[-1] in stops.ids or any(text in _text(tokenizer, tokens) for text in stops.texts)

    reason = "its weights are quantised" if getattr(generator, "is_quantized", False) else why_not(generator, longest)
    if reason is None:
        with replaced(generator) as taken:
            decoder = Decoder(generator, has_ended, rows=batch_size, should_stop=should_stop, worked=worked)
            reason = decoder.check() if taken else "its attention cannot be replaced"
            if reason is None:
                yield decoder.answers(rows)
                return
    say(f"requests are answered by transformers' generate(), which is slower: {reason}")
    yield _generated(generator, tokenizer, rows, stops, batch_size or BATCH, should_stop, worked)


def _generated(
    generator: Any,
    tokenizer: Any,
    rows: list[Row],
    stops: Stops,
    batch_size: int,
    should_stop: Callable[[], bool] | None,
    worked: Callable[[float], None] | None,
) -> Iterator[Row]:
    """Yield rows in batches of similar length. One that does not fit into the memory is halved."""
    waiting = sorted(rows, key=lambda row: -len(row.prompt))
    while waiting:
        if should_stop is not None and should_stop():
            return
        batch = waiting[:batch_size]
        config = _greedy(tokenizer, stops, max(row.limit for row in batch))
        try:
            answers = _generate_batch(generator, tokenizer, [row.prompt for row in batch], config)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
            batch_size = len(batch) // 2
            continue
        waiting = waiting[len(batch) :]
        for row, new in zip(batch, answers, strict=True):
            row.new = new[: row.limit]
            yield row
        if worked is not None:
            worked(float(len(rows) - len(waiting)))


def _silent(line: str) -> None:
    """Say nothing."""


def _ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    # No special tokens: the template has written them.
    return tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []


def _greedy(tokenizer: Any, stops: Stops, limit: int) -> GenerationConfig:
    pad = tokenizer.pad_token_id
    if pad is None:
        pad = stops.ids[0] if stops.ids else 0
    return GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=limit,
        eos_token_id=list(stops.ids) or None,
        pad_token_id=pad,
        stop_strings=list(stops.texts) or None,
        use_cache=True,
    )


@contextmanager
def _inference_mode(model: Any) -> Iterator[Any]:
    """Switch to inference mode, and replace the model's generation configuration, whose sampling and penalties would
    fill in what ours leaves unset. Both are restored."""
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
    """Return the new tokens of each row. Rows are padded on the left; the mask comes from their lengths."""
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
    """Cut an answer at its first end of turn; what follows is padding."""
    end = next((position for position, token in enumerate(tokens) if token in stops.ids), None)
    text = _text(tokenizer, tokens[:end])
    positions = [position for position in map(text.find, stops.texts) if position >= 0]
    ended = end is not None or bool(positions)
    answer = text[: min(positions)] if positions else text
    return Generated(answer.strip(), ended, len(tokens) if end is None else end + 1)


def _text(tokenizer: Any, tokens: Sequence[int]) -> str:
    text: str = tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text
