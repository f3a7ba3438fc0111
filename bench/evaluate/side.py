"""One side's process: `python side.py MODEL ROWS`, with PYTHONPATH at the revision. It loads the model, then evaluates
the rows each time that it gets a line on stdin, and answers with a line of JSON on stdout."""

import json
import sys
import time
from pathlib import Path

import torch

import hatrain
from hatrain.data.rows import read_rows
from hatrain.evaluate import evaluate_model
from hatrain.evaluate.sources import find_source, load


def main(name: str, path: Path) -> None:
    # One thread, and seconds of the processor: other work on the machine is not a side's own.
    torch.set_num_threads(1)
    model, tokenizer = load(find_source(name))
    rows = list(read_rows(path))
    evaluate_model(model, tokenizer, rows[:1])
    say({"revision": str(Path(hatrain.__file__).parents[1])})
    for _ in sys.stdin:
        started, wall = time.process_time(), time.perf_counter()
        evaluation = evaluate_model(model, tokenizer, rows)
        say(
            {
                "seconds": time.process_time() - started,
                "wall": time.perf_counter() - wall,
                "answers": [[outcome.text, outcome.tokens, outcome.answer.ended] for outcome in evaluation.outcomes],
            }
        )


def say(answer: dict[str, object]) -> None:
    print("turn " + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
