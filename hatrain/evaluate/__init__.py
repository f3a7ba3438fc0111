"""Does a model do what the user asked? Rows become requests, the model answers them, and each answer is judged
by what it would do to the home and by what it says. The judge is `hatrain.home.judge`."""

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from typing import Any

from hatrain.data.replies import ReplyFinder
from hatrain.data.rows import Row
from hatrain.evaluate.generation import Generated, find_stops, generate, limit_for
from hatrain.evaluate.requests import Request, read_requests
from hatrain.evaluate.results import Evaluation, Outcome
from hatrain.home.calls.answer import read_answer
from hatrain.home.judge.judge import judge

__all__ = ["Evaluation", "evaluate_model", "judge_answers"]


def evaluate_model(
    model: Any,
    tokenizer: Any,
    rows: Iterable[Row],
    *,
    batch_size: int | None = None,
    should_stop: Callable[[], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
    today: date | None = None,
) -> Evaluation:
    """Answer each request of the rows greedily, and judge the answers.

    `model` is a causal language model of transformers, with or without a PEFT adapter, on the device to use. Its mode
    and configuration are restored. `should_stop` is called before each batch; a stopped evaluation is not `complete`.
    `progress` is called with (requests answered, requests). `today` is the date for chat templates that ask
    for it. Raises BadInput for rows that cannot be judged, and for a
    tokenizer without a chat template.
    """
    finder = ReplyFinder(tokenizer, today)
    requests = read_requests(rows, finder)
    answers = generate(
        model,
        tokenizer,
        [request.prompt for request in requests],
        stops=find_stops(model, tokenizer, finder.markers.stops),
        limit=limit_for(tokenizer, [request.reply for request in requests]),
        replies=[request.reply for request in requests],
        batch_size=batch_size,
        should_stop=should_stop,
    )
    return judge_answers(requests, answers, progress)


def judge_answers(
    requests: Sequence[Request],
    answers: Iterable[tuple[int, Generated]],
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Judge (index of the request, answer) as they come. `progress` is called with (requests answered, requests)."""
    outcomes: dict[int, Outcome] = {}
    started = time.perf_counter()
    for index, generated in answers:
        request = requests[index]
        answer = read_answer(generated.text, ended=generated.ended, forms=request.forms)
        verdict = judge(request.case, answer)
        outcomes[index] = Outcome(request, generated.text, answer, generated.tokens, verdict)
        if progress is not None:
            progress(len(outcomes), len(requests))
    ordered = tuple(outcomes[index] for index in sorted(outcomes))
    return Evaluation(ordered, len(requests), time.perf_counter() - started)
