"""Does a model do what the user asked? Rows become requests, a model answers them, and each answer is judged by what
it would do to the home. Reading results: `requests`, `generation`, `results`; the judge: `hatrain.home.calls`."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from hatrain.data.replies import ReplyFinder
from hatrain.data.rows import Row
from hatrain.evaluate.generation import find_stops, generate, room_for
from hatrain.evaluate.requests import read_requests
from hatrain.evaluate.results import Evaluation, Outcome
from hatrain.home.calls.judge import judge
from hatrain.home.calls.parse import read_answer

__all__ = ["Evaluation", "evaluate_model"]


def evaluate_model(
    model: Any,
    tokenizer: Any,
    rows: Iterable[Row],
    *,
    batch_size: int = 32,
    should_stop: Callable[[], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Ask a model each request of the rows, greedily, and judge its answers.

    `model` is any causal language model of transformers, or one with a PEFT adapter, on the device it should run
    on; it is left as it was, training mode included. `should_stop` is asked before each batch: a stopped
    evaluation is not `complete`. `progress` hears (requests answered, requests). Raises BadInput for rows that
    cannot be judged, and for a tokenizer without a chat template.
    """
    finder = ReplyFinder(tokenizer)
    stops = find_stops(model, tokenizer, finder.markers.ends)
    requests = read_requests(rows, finder)
    room = room_for(tokenizer, [request.reply for request in requests])
    prompts = [request.prompt for request in requests]
    outcomes: dict[int, Outcome] = {}
    began = time.perf_counter()
    for index, said in generate(
        model, tokenizer, prompts, stops=stops, room=room, batch_size=batch_size, should_stop=should_stop
    ):
        request = requests[index]
        answer = read_answer(said.text, ended=said.ended)
        verdict = judge(request.expected, answer, request.known)
        outcomes[index] = Outcome(request, said.text, answer, said.tokens, verdict)
        if progress is not None:
            progress(len(outcomes), len(requests))
    ordered = tuple(outcomes[index] for index in sorted(outcomes))
    return Evaluation(ordered, len(requests), time.perf_counter() - began)
