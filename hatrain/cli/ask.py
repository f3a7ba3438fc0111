"""`hatrain ask`: puts one request to a model and shows the answer and what it would do."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hatrain.home.calls.judge import Answer, PromptContents


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    parser.add_argument(
        "model", metavar="RUN|MODEL", help="a run's name, a model or adapter folder, a hub id"
    )
    parser.add_argument(
        "request", metavar="REQUEST", help='what is said, such as "turn off the kitchen light"'
    )
    parser.add_argument(
        "--home", type=Path, metavar="FILE", help="the house it is said in (default: the run's first)"
    )


def run(args: argparse.Namespace) -> int:
    """Ask, and print the answer in words."""
    from hatrain.model.quiet import quiet

    quiet()
    from hatrain.evaluate.asking import ask, put_question
    from hatrain.evaluate.sources import find_source, load

    source = find_source(args.model)
    question = put_question(args.request, source, args.home)
    model, tokenizer = load(source)
    print(f"home: {question.home}", file=sys.stderr)
    print("\n".join(told(ask(model, tokenizer, question), question.known)))
    return 0


def told(answer: "Answer", known: "PromptContents") -> list[str]:
    """Return an answer and what it would do, in lines."""
    from hatrain.home.calls.judge import execution_problems, in_words

    lines = [answer.text or "(says nothing)", ""]
    for call in answer.calls:
        problems = execution_problems(call, known)
        lines.append(f"would {in_words(call, known)}" if not problems else f"cannot {in_words(call, known)}")
        lines += [f"  {problem}" for problem in problems]
    lines += [f"no call in valid JSON: {line}" for line in answer.bad_lines]
    if not answer.calls:
        lines.append("would do nothing")
    if answer.unclosed:
        lines.append("leaves its block of calls open")
    if not answer.ended:
        lines.append("does not end; cut off here")
    return lines
