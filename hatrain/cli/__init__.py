"""The command line: one file a verb, imported only when it is called, so that light verbs start fast."""

import argparse
import contextlib
import importlib
import sys
from collections.abc import Sequence

import hatrain
from hatrain.cli.examples import EXAMPLES
from hatrain.cli.parsing import Parser, ending
from hatrain.contract import extras
from hatrain.errors import BadInput, nearest
from hatrain.runtime import credentials, streams

VERBS = {
    "init": "write a first job and a home to change",
    "jobs": "list the jobs that can be given by name, or print one",
    "plan": "print every decision about a job, before anything runs",
    "render": "print a job as one file for its scheduler, or write its files",
    "submit": "plan, render and submit a job, or a sweep of it",
    "diff": "show what submitting a job now would change",
    "runs": "list all runs and their states",
    "status": "print the state of a run",
    "logs": "print the output of a run",
    "wait": "wait until a run ends, and exit with its exit code",
    "stop": "make a run save a checkpoint and exit",
    "pull": "bring the results of a run from a cluster behind ssh",
    "cancel": "remove a run from the queue, or end it",
    "compare": "compare two runs side by side",
    "report": "write an HTML page about a run, or about several side by side",
    "memory": "set predicted GPU memory beside what runs needed",
    "clusters": "list the cluster files",
    "train": "train a job on this machine without a launcher",
    "import": "convert a command of the training guide to a job",
    "fetch": "download a job's model and tokenizer into the cache",
    "check": "validate a dataset with a model's tokenizer, without training",
    "data": "generate the Home Assistant dataset",
    "evaluate": "measure how often a model does what the user asked",
    "export": "write a model as GGUF files for llama.cpp and Ollama",
    "publish": "upload a finished run, with GGUF files and card, to the model hub",
    "ask": "send requests to a model and show what it would do",
    "find-split": "find the token ids before and after a model's replies",
    "doctor": "check whether this machine, or a cluster behind ssh, can train",
    "tiny": "create a small base model and tokenizer for demos and tests",
    "schema": "print the JSON Schema of a job",
    "help": "show all verbs, or the options and examples of one",
    "completion": "print completion for a shell: bash, zsh or fish",
}

GROUPS = {
    "First steps": ("init", "jobs", "data", "plan", "submit", "ask", "doctor"),
    "Runs": ("runs", "status", "logs", "wait", "stop", "cancel", "pull", "compare", "report", "memory"),
    "Models": ("evaluate", "export", "publish"),
    "Jobs and clusters": ("clusters", "render", "diff", "train", "fetch", "import", "schema"),
    "Data": ("check", "find-split", "tiny"),
    "This command": ("help", "completion"),
}
"""The verbs as `hatrain help` shows them: what a newcomer needs comes first."""

_LONGEST_PATH = 200


def overview() -> str:
    """Return what `hatrain` without arguments prints."""
    width = max(map(len, VERBS))
    groups = [
        "\n".join([f"{title}:", *(f"  {verb:<{width}}  {VERBS[verb]}" for verb in verbs)])
        for title, verbs in GROUPS.items()
    ]
    usage = "usage: hatrain VERB [options]\n       hatrain --version"
    return "\n\n".join([usage, *groups, "hatrain help VERB shows a verb's options, with examples."])


_MODULES = {"import": "import_", "jobs": "job_list"}


def _module(verb: str) -> str:
    """Return the module of a verb: not `import`, a Python keyword, and not `jobs`, which verbs of runs share."""
    return _MODULES.get(verb, verb.replace("-", "_"))


def parser_of(verb: str) -> Parser:
    """Return the parser of a verb."""
    parser = Parser(
        prog=f"hatrain {verb}",
        description=f"{VERBS[verb][0].upper()}{VERBS[verb][1:]}.",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    importlib.import_module(f"hatrain.cli.{_module(verb)}").add_arguments(parser)
    parser.epilog = ending(parser.epilog, EXAMPLES[verb])
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. Returns 0, 1 for a failure, 2 for bad input, or the exit code of the run that it waits for."""
    streams.prepare()
    try:
        return _main(list(sys.argv[1:] if argv is None else argv))
    except BrokenPipeError:
        return 141  # the reader (head, less) has closed the pipe
    except OSError as error:
        # Errors of the network are among them, and name proxies with their passwords.
        where = f"{_short(str(error.filename))}: " if error.filename else ""
        reason = credentials.hide(str(error.strerror or error) or type(error).__name__).splitlines()[0]
        with contextlib.suppress(OSError):
            print(f"hatrain: {where}{reason}", file=sys.stderr)
        return 1
    finally:
        streams.discard_unwritable()


def _short(path: str) -> str:
    return path if len(path) <= _LONGEST_PATH else f"{path[:_LONGEST_PATH]}…"


def _main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return 0
    if arguments == ["--version"]:
        print(f"hatrain {hatrain.__version__}")
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        print(
            f"hatrain {verb}: no such verb{nearest(verb, [*VERBS, '--version'])}; `hatrain help` lists all",
            file=sys.stderr,
        )
        return 2
    module = importlib.import_module(f"hatrain.cli.{_module(verb)}")
    parser = parser_of(verb)
    try:
        # `train` also takes the training guide's flags, which argparse would refuse.
        if (as_written := getattr(module, "run_as_written", None)) and (code := as_written(rest)) is not None:
            return int(code)
        code = int(module.run(parser.parse_args(rest)))
        sys.stdout.flush()
        return code
    except BadInput as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if not (line := extras.without(error.name or "hatrain", f"hatrain {verb}")):
            raise
        print(line, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
