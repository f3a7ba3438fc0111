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

__all__ = ["Evaluation", "Progress", "evaluate_model", "judge_answers"]

Progress = Callable[[int, int, float], None]
"""Is called with the requests that are answered, all requests, and how much is done, counted in requests: at the start,
and after each answer and each pass of the model."""


def evaluate_model(
    model: Any,
    tokenizer: Any,
    rows: Iterable[Row],
    *,
    batch_size: int | None = None,
    should_stop: Callable[[], bool] | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
    today: date | None = None,
) -> Evaluation:
    """Answer each request of the rows greedily, and judge the answers.

    `model` is a causal language model of transformers, with or without a PEFT adapter, on the device to use. Its mode
    and configuration are restored. At most `batch_size` requests are answered at a time; None leaves it to the memory.
    `should_stop` is called before each pass of the model; a stopped evaluation is not `complete`. `say` is told why a
    model is run by transformers' generate(). `today` is the date for chat templates that ask for it. Raises BadInput
    for rows that cannot be judged, and for a tokenizer without a chat template; torch.OutOfMemoryError where one
    request alone does not fit.
    """
    finder = ReplyFinder(tokenizer, today)
    requests = read_requests(rows, finder)
    counted = _Counted(len(requests), progress)
    answers = generate(
        model,
        tokenizer,
        [request.prompt for request in requests],
        stops=find_stops(model, tokenizer, finder.markers.stops),
        limit=limit_for(tokenizer, [request.reply for request in requests]),
        replies=[request.reply for request in requests],
        batch_size=batch_size,
        should_stop=should_stop,
        worked=counted.worked,
        say=say,
    )
    return _judged(requests, answers, counted)


def judge_answers(
    requests: Sequence[Request], answers: Iterable[tuple[int, Generated]], progress: Progress | None = None
) -> Evaluation:
    """Judge (index of the request, answer) as they come."""
    return _judged(requests, answers, _Counted(len(requests), progress))


class _Counted:
    """How many requests are answered, and how much of the others is done."""

    def __init__(self, total: int, progress: Progress | None):
        self.total, self.progress = total, progress
        self.answered = 0
        self.worked(0.0)

    def one_more(self) -> None:
        self.answered += 1
        self.worked(self.work)

    def worked(self, work: float) -> None:
        self.work = max(work, float(self.answered))
        if self.progress is not None:
            self.progress(self.answered, self.total, self.work)


def _judged(requests: Sequence[Request], answers: Iterable[tuple[int, Generated]], counted: _Counted) -> Evaluation:
    outcomes: dict[int, Outcome] = {}
    started = time.perf_counter()
    for index, generated in answers:
        request = requests[index]
        answer = read_answer(generated.text, ended=generated.ended, forms=request.forms)
        verdict = judge(request.case, answer)
        outcomes[index] = Outcome(request, generated.text, answer, generated.tokens, verdict)
        counted.one_more()
    ordered = tuple(outcomes[index] for index in sorted(outcomes))
    return Evaluation(ordered, len(requests), time.perf_counter() - started)
