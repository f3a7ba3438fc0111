"""`hatrain ask`: answers requests with a model, and shows what the answers would do to a home."""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hatrain.evaluate.asking import Question
    from hatrain.evaluate.chat import Chat
    from hatrain.home.calls.answer import Answer
    from hatrain.home.calls.prompt import PromptContents
    from hatrain.home.judge.effects import Understand
    from hatrain.model.weights import Source


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="RUN|MODEL", help="run name, model or adapter folder, GGUF file, or hub id")
    parser.add_argument(
        "request",
        metavar="REQUEST",
        nargs="?",
        help='for example "turn off the kitchen light"; without it, requests are read one after another',
    )
    parser.add_argument(
        "--home", type=Path, metavar="FILE", help="home file (default: the home of the run's first row)"
    )


def run(args: argparse.Namespace) -> int:
    from hatrain.model.weights import find_source

    # Before the imports that take seconds: a run without a model is said at once.
    source = find_source(args.model)
    from hatrain.errors import BadInput
    from hatrain.model.quiet import quiet
    from hatrain.runtime.waiting import waiting

    with waiting("loading torch and transformers"):
        quiet()
        from hatrain.data.template import TemplateRefusal
        from hatrain.evaluate import asking  # noqa: F401  for what it imports

        if not source.is_gguf:
            from hatrain.evaluate import sources  # noqa: F401

    try:
        return _chat(source, args.home) if args.request is None else _one(source, args.home, args.request)
    except TemplateRefusal as refusal:
        raise BadInput(f"{args.model}: its chat template refuses the request: {refusal}") from None


def _one(source: "Source", home: Path | None, request: str) -> int:
    from hatrain.evaluate.asking import build_question

    question = build_question(request, source, home)
    with _answers(source) as answer:
        answered = answer(question)
    print(f"home: {question.home}", file=sys.stderr)
    print("\n".join(answer_lines(answered, question.known, question.understand)))
    return 0


@contextlib.contextmanager
def _answers(source: "Source") -> Iterator[Callable[["Question"], "Answer"]]:
    """Load a model, once, and yield what answers questions with it."""
    if source.is_gguf:
        from hatrain.evaluate.gguf import ask_gguf
        from hatrain.llamacpp.model import GgufModel

        with GgufModel(Path(source.location)) as file:
            yield lambda question: ask_gguf(file, question, source.today)
        return
    from hatrain.evaluate.asking import ask
    from hatrain.evaluate.sources import load

    model, tokenizer = load(source)
    yield lambda question: ask(model, tokenizer, question, source.today)


# --- one request after another ------------------------------------------------------------------------------

COMMANDS = {
    ":home": "the devices and their states",
    ":reset": "put the home back into its first state",
    ":help": "this list",
    ":quit": "end, as Ctrl-D does",
}


def _chat(source: "Source", home: Path | None) -> int:
    from hatrain.evaluate.asking import build_question
    from hatrain.evaluate.chat import REQUEST, Chat

    question = build_question(REQUEST, source, home)
    with _answers(source) as answer:
        chat = Chat(question, answer)
        print(f"home: {question.home}; it keeps its state between requests", file=sys.stderr)
        print(f"commands: {', '.join(COMMANDS)}", file=sys.stderr)
        for line in _lines():
            if line == ":quit":
                break
            try:
                shown = command_lines(line, chat) if line.startswith(":") else reply_lines(line, chat)
            except KeyboardInterrupt:
                shown = ["interrupted; the home is as before"]
            print("\n".join([*shown, ""]), flush=True)
    return 0


def _lines() -> Iterator[str]:
    """Yield what the user types, without empty lines. Lines that do not come from a terminal are printed too."""
    if not sys.stdin.isatty():
        for line in map(str.strip, sys.stdin):
            if line:
                print(f"> {line}")
                yield line
        return
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  for input(): editing, and the lines before
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()
            continue
        if line:
            yield line


def command_lines(command: str, chat: "Chat") -> list[str]:
    """Carry out a command, and return what it prints."""
    from hatrain.errors import nearest
    from hatrain.home.judge.telling import described

    if command == ":home":
        return [described(entity) for entity in chat.home] or ["no device is known"]
    if command == ":reset":
        chat.reset()
        return ["the home is in its first state"]
    if command == ":help":
        return [f"{name:<8}{what}" for name, what in COMMANDS.items()]
    return [f"{command}: no such command; accepted: {', '.join(COMMANDS)}{nearest(command, COMMANDS)}"]


def reply_lines(request: str, chat: "Chat") -> list[str]:
    """Ask for something, and return the answers, what their calls do, and how the home changes."""
    reply = chat.ask(request)
    understand = chat.question.understand
    lines = []
    for number, one in enumerate(reply.rounds):
        lines += ["", "after the results of its calls:"] if number else []
        lines += answer_lines(one.answer, one.known, understand)
    lines += ["", *(f"home: {change}" for change in reply.changes)] if reply.changes else ["", "home: as before"]
    return lines


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
