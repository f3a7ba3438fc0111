"""The door: one verb a file, each imported only when it is called, so that a light verb stays light."""

import argparse
import importlib
import keyword
import os
import sys
from collections.abc import Sequence

from hatrain.errors import BadInput, nearest

VERBS = {
    "plan": "print every decision about a job, before anything runs",
    "render": "print a job as one file for its scheduler, or write its files",
    "submit": "plan, render and start a job, or a sweep of it",
    "diff": "show what submitting a job now would change",
    "runs": "list every run with its state",
    "status": "print the state of a run",
    "logs": "print the output of a run",
    "wait": "wait until a run has ended, and exit with its exit code",
    "stop": "ask a run to save a checkpoint and exit",
    "cancel": "remove a run from the queue, or end it",
    "compare": "compare two runs side by side",
    "clusters": "list the cluster files",
    "train": "train a job on this machine, with no launcher",
    "import": "turn a command of the training guide into a job file, or into the command that means the same",
    "fetch": "bring a job's model and tokenizer into the cache, where there is a network",
    "check": "validate a dataset against a model's tokenizer, without training",
    "data": "generate the Home Assistant dataset",
    "evaluate": "judge what a model would do to the home",
    "ask": "put one request to a model and show what it would do",
    "find-split": "find the prefix and suffix ids of a model's replies",
    "doctor": "say whether this machine can train, and what stands in the way",
    "tiny": "make a small base model and tokenizer, for demos and tests",
    "schema": "print the JSON Schema of a job",
}


def overview() -> str:
    """Return what `hatrain` alone prints: the verbs, a line each."""
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {help_line}" for verb, help_line in VERBS.items()]
    return "\n".join(["usage: hatrain VERB [options]", "", *lines, "", "hatrain VERB --help says more."])


def _module(verb: str) -> str:
    """Return the file of a verb, with the customary underscore behind a name that Python keeps for itself."""
    return f"{verb}_" if keyword.iskeyword(verb) else verb.replace("-", "_")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. Returns its exit code: 0, 1 failed, 2 bad input; a job's own code where it waits for one."""
    arguments = list(sys.argv[1:] if argv is None else argv)
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
        # train also speaks the training guide's language, which argparse would refuse.
        if (as_written := getattr(module, "run_as_written", None)) and (code := as_written(rest)) is not None:
            return int(code)
        return int(module.run(parser.parse_args(rest)))
    except BadInput as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader (head, less) left. Python would complain once more while closing stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
