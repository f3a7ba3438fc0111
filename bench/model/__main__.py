"""`make bench-model [SIZE=full]`: SmolLM2-135M from its package to a judged GGUF file, and one table. What is done is
kept in the work folder and not repeated."""

import argparse
import sys
from pathlib import Path

from bench.model import report
from bench.model.base import NotThere, make
from bench.model.stages import Failed, Stages
from hatrain.contract.run import RunDirectory
from hatrain.model.quiet import quiet

ROOT = Path(__file__).parents[2]
SIZES = {
    "short": ((256,), 24),
    "full": ((400, 800), 120),
}
"""Rows to train on, one run for each number; and test rows whose requests are judged."""
OF_LANGUAGE, OF_INTENTS = 40, 24
"""Rows of the other test sets. The prompts of home-assistant/intents have about 2,000 tokens."""
OTHERS = ("german", "french", "spanish", "polish")
"""Languages that the model was not trained on, of the same house."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.model", description=__doc__)
    parser.add_argument("size", choices=SIZES, help="short: 5 to 7 minutes on 2 idle cores; full: an hour or less")
    parser.add_argument("--intents", type=Path, metavar="CLONE", help="a clone of home-assistant/intents, for full")
    parser.add_argument("--work", type=Path, default=ROOT / "data" / "bench-model", help="folder for all of it")
    arguments = parser.parse_args()
    if arguments.intents and not arguments.intents.is_dir():
        print(f"--intents: {arguments.intents}: no such folder", file=sys.stderr)
        return 2
    quiet()
    try:
        measure(arguments.size, arguments.work.absolute(), arguments.intents and arguments.intents.absolute())
    except (NotThere, Failed) as reason:
        print(f"bench.model: {reason}", file=sys.stderr)
        return 1
    return 0


def measure(size: str, work: Path, intents: Path | None) -> None:
    """Make every stage of a size, write results.json into its folder, and print the table."""
    counts, requests = SIZES[size]
    stages = Stages(work / size)
    base = make(work / "smollm2-135m")
    rows = stages.rows(work / "rows", "english")
    runs: list[RunDirectory] = []
    for count in counts:
        earlier = runs[0] if runs else None
        runs.append(stages.train(ROOT / "jobs" / "demo-smollm2.yaml", base, rows, count, requests, earlier))
    last = runs[-1]
    exported = stages.export(last, requests)
    sets: dict[str, tuple[Path, int]] = {}
    if size == "full":
        for language in OTHERS:
            sets[f"demo's house, {language}"] = stages.rows(work / "rows", language), OF_LANGUAGE
        if intents:
            sets["home-assistant/intents"] = stages.intents(work / "rows", intents), OF_INTENTS
    others = {
        name: {who: stages.evaluate(model, path, limit) for who, model in (("before", base), ("after", last))}
        for name, (path, limit) in sets.items()
    }
    trained = tuple(map(report.Trained.of, runs))
    facts = report.Facts(size, trained, exported, others, stages.merge_error(last, base), report.is_tied(last))
    report.write(facts, stages.folder / "results.json")
    print(report.table(facts, stages))


if __name__ == "__main__":
    sys.exit(main())
