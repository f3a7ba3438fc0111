"""`hatrain ask`: answers one request with a model, and shows what the answer would do."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hatrain.evaluate.asking import Question
    from hatrain.evaluate.sources import Source
    from hatrain.home.calls.answer import Answer
    from hatrain.home.calls.prompt import PromptContents
    from hatrain.home.judge.effects import Understand


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="RUN|MODEL", help="run name, model or adapter folder, GGUF file, or hub id")
    parser.add_argument("request", metavar="REQUEST", help='for example "turn off the kitchen light"')
    parser.add_argument(
        "--home", type=Path, metavar="FILE", help="home file (default: the home of the run's first row)"
    )


def run(args: argparse.Namespace) -> int:
    from hatrain.model.quiet import quiet

    quiet()
    from hatrain.evaluate.asking import build_question
    from hatrain.evaluate.sources import find_source

    source = find_source(args.model)
    question = build_question(args.request, source, args.home)
    answer = _answer(source, question)
    print(f"home: {question.home}", file=sys.stderr)
    print("\n".join(answer_lines(answer, question.known, question.understand)))
    return 0


def _answer(source: "Source", question: "Question") -> "Answer":
    if source.is_gguf:
        from hatrain.evaluate.gguf import ask_gguf
        from hatrain.llamacpp.model import GgufModel

        with GgufModel(Path(source.location)) as file:
            return ask_gguf(file, question, source.today)
    from hatrain.evaluate.asking import ask
    from hatrain.evaluate.sources import load

    model, tokenizer = load(source)
    return ask(model, tokenizer, question, source.today)


def answer_lines(answer: "Answer", known: "PromptContents", understand: "Understand") -> list[str]:
    from hatrain.home.judge.telling import execution_problems, in_words

    lines = [answer.text or "(no text)", ""]
    for call in answer.calls:
        problems = execution_problems(call, known, understand)
        lines.append(f"would {in_words(call, known)}" if not problems else f"cannot {in_words(call, known)}")
        lines += [f"  {problem}" for problem in problems]
    lines += [f"not a call in valid JSON: {line}" for line in answer.bad_lines]
    lines += [f"a call in a form that the client does not read: {call}" for call in answer.foreign]
    if not answer.calls:
        lines.append("would do nothing")
    if answer.unclosed:
        lines.append("the block of calls is not closed")
    if not answer.ended:
        lines.append("cut off at the limit of tokens")
    return lines
