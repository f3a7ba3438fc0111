"""The command line: one file a verb, imported only when it is called, so that light verbs start fast."""

import argparse
import contextlib
import importlib
import keyword
import sys
from collections.abc import Sequence

from hatrain.errors import BadInput, nearest
from hatrain.runtime import credentials, streams

VERBS = {
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
    "memory": "report what runs were predicted to need of their GPUs, and what they needed",
    "clusters": "list the cluster files",
    "train": "train a job on this machine without a launcher",
    "import": "convert a command of the training guide to a job file or to a hatrain command",
    "fetch": "download a job's model and tokenizer into the cache",
    "check": "validate a dataset against a model's tokenizer, without training",
    "data": "generate the Home Assistant dataset",
    "evaluate": "measure how often a model does what the user asked",
    "export": "write a model as GGUF files for llama.cpp and Ollama",
    "publish": "upload a finished run's model, GGUF files and card to the model hub",
    "ask": "send requests to a model and show what it would do",
    "find-split": "find the token ids before and after a model's replies",
    "doctor": "check whether this machine, or a cluster behind ssh, can train",
    "tiny": "create a small base model and tokenizer for demos and tests",
    "schema": "print the JSON Schema of a job",
}

_LONGEST_PATH = 200


def overview() -> str:
    """Return what `hatrain` without arguments prints."""
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {help_line}" for verb, help_line in VERBS.items()]
    return "\n".join(["usage: hatrain VERB [options]", "", *lines, "", "Run hatrain VERB --help for its options."])


def _module(verb: str) -> str:
    """Return the module of a verb: `import_` for the Python keyword."""
    return f"{verb}_" if keyword.iskeyword(verb) else verb.replace("-", "_")


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
    verb, *rest = arguments
    if verb not in VERBS:
        accepted = ", ".join(VERBS)
        print(f"hatrain {verb}: no such verb (accepted: {accepted}){nearest(verb, VERBS)}", file=sys.stderr)
        return 2
    module = importlib.import_module(f"hatrain.cli.{_module(verb)}")
    parser = argparse.ArgumentParser(prog=f"hatrain {verb}", description=VERBS[verb], allow_abbrev=False)
    module.add_arguments(parser)
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
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
