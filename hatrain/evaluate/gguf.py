"""Evaluates a GGUF file as a server runs it: llama.cpp tokenises and answers, with the chat template in the file."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from typing import Any

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from hatrain.data.replies import ReplyFinder
from hatrain.data.rows import Row
from hatrain.errors import BadInput
from hatrain.evaluate import Progress, judge_answers
from hatrain.evaluate.asking import LIMIT, Question, as_answer
from hatrain.evaluate.generation import Generated, Stops
from hatrain.evaluate.requests import Request, read_requests
from hatrain.evaluate.results import Evaluation
from hatrain.home.calls.answer import Answer
from hatrain.llamacpp.model import GgufModel


def evaluate_gguf(
    model: GgufModel,
    rows: Iterable[Row],
    *,
    should_stop: Callable[[], bool] | None = None,
    progress: Progress | None = None,
    today: date | None = None,
) -> Evaluation:
    """Answer each request of the rows greedily, one after the other, and judge the answers, as `evaluate_model` does.

    Raises BadInput for rows that cannot be judged, and for a file without a chat template.
    """
    finder = ReplyFinder(template_tokenizer(model), today)
    requests = read_requests(rows, finder)
    limit = max((len(model.tokenize(request.reply)) for request in requests), default=0) * 5 // 4 + 16
    return judge_answers(requests, _answers(model, requests, find_stops(model, finder), limit, should_stop), progress)


def template_tokenizer(model: GgufModel) -> Any:
    """Return a tokenizer of transformers with the file's tokens and chat template. It renders conversations and knows
    special tokens; it does not split text, which is llama.cpp's work."""
    vocabulary = model.vocabulary
    if vocabulary.chat_template is None:
        raise BadInput(f"{model.path}: has no chat template; export the model again from one that has")
    tokens = vocabulary.tokens
    core = Tokenizer(WordLevel({token: index for index, token in enumerate(tokens)}))
    names = {"bos_token": vocabulary.bos, "eos_token": vocabulary.eos, "pad_token": vocabulary.pad}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, **{name: tokens[token] for name, token in names.items() if token is not None}
    )
    added = [AddedToken(tokens[token], special=True, normalized=False) for token in vocabulary.added]
    tokenizer.add_tokens(added, special_tokens=True)
    tokenizer.chat_template = vocabulary.chat_template
    return tokenizer


def find_stops(model: GgufModel, finder: ReplyFinder) -> Stops:
    """Return the tokens at which llama.cpp ends an answer, and the template's ends of turn."""
    added = set(model.vocabulary.added)
    ids, texts = set(model.vocabulary.ends), []
    for end in finder.markers.stops:
        closing = [token for token in model.tokenize(end) if token in added]
        ids.update(closing[:1])
        if not closing:
            texts.append(end.strip())
    return Stops(tuple(sorted(ids)), tuple(texts))


def ask_gguf(model: GgufModel, question: Question, today: date | None = None) -> Answer:
    """Answer a question with a file, asked as its chat template writes it."""
    finder = ReplyFinder(template_tokenizer(model), today)
    prompt = model.tokenize(finder.template.render(question.messages, question.tools, prompt=True))
    model.open(min(len(prompt) + LIMIT, model.context_length))
    return as_answer(answer_to(model, prompt, find_stops(model, finder), LIMIT), question)


def _answers(
    model: GgufModel,
    requests: Sequence[Request],
    stops: Stops,
    limit: int,
    should_stop: Callable[[], bool] | None,
) -> Iterator[tuple[int, Generated]]:
    """Yield (index, answer), in the order of the prompts' texts: what two begin with is computed once."""
    prompts = [model.tokenize(request.prompt) for request in requests]
    longest = max(map(len, prompts), default=0) + limit
    model.open(min(longest, model.context_length))
    for index in sorted(range(len(prompts)), key=lambda index: prompts[index]):
        if should_stop is not None and should_stop():
            return
        yield index, answer_to(model, prompts[index], stops, limit)


def answer_to(model: GgufModel, prompt: Sequence[int], stops: Stops, limit: int) -> Generated:
    """Return the answer to a prompt. One that fills the model's context gets an empty answer."""
    if len(prompt) >= model.size:
        return Generated("", ended=True, tokens=0)

    def has_ended(tokens: list[int]) -> bool:
        return bool(stops.texts) and any(stop in model.text(tokens) for stop in stops.texts)

    tokens = list(model.answer(prompt, limit, has_ended, stops.ids))
    by_token = bool(tokens) and tokens[-1] in stops.ids
    text = model.text(tokens[:-1] if by_token else tokens)
    cuts = [position for position in map(text.find, stops.texts) if position >= 0]
    return Generated((text[: min(cuts)] if cuts else text).strip(), by_token or bool(cuts), len(tokens))
