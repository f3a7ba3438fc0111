"""`make bench-prepare`: rows per second from a file to labelled tokens, hatrain and TRL in turns on the same cores,
written to bench/RESULTS-prepare.md."""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import trl

from bench.machine import processor
from hatrain.home.generate.dataset import Recipe, generate
from hatrain.model.tiny import build_tokenizer, texts_of

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
REAL = ROOT.parent / "shared" / "tokenizers" / "qwen2"
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TOOLS_TEMPLATE = Path(trl.__file__).parent / "chat_templates" / "qwen2_5.jinja"


@dataclass
class Side:
    """One way to prepare a file, in a process of its own for each turn."""

    name: str
    command: list[str]
    folder: Path
    keeps_cache: bool = False
    path: Path = ROOT
    """The checkout whose code runs."""
    turns: list[dict[str, Any]] = field(default_factory=list)

    def turn(self, cores: set[int]) -> None:
        cache = self.folder / f"cache {self.name}"
        if not self.keeps_cache:
            shutil.rmtree(cache, ignore_errors=True)
        done = subprocess.run(
            [*self.command[:1], "-P", *self.command[1:]],
            env={**os.environ, "PYTHONPATH": str(self.path), "HATRAIN_CACHE": str(cache), "OMP_NUM_THREADS": "1"},
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
            capture_output=True,
            text=True,
        )
        found = [line for line in done.stdout.splitlines() if line.startswith("turn ")]
        if not found:
            raise SystemExit(f"{self.name}: {done.stderr.strip()[-2000:]}")
        self.turns.append(json.loads(found[-1][5:]))

    @property
    def seconds(self) -> list[float]:
        return [turn["seconds"] for turn in self.turns]


def ours(name: str, folder: Path, **settings: Any) -> Side:
    return Side(name, [sys.executable, str(HERE / "hatrain_side.py"), str(folder)], folder, **settings)


def theirs(name: str, folder: Path, processes: int) -> Side:
    python = ROOT / ".venv-peers" / "bin" / "python"
    return Side(name, [str(python), str(HERE / "trl_side.py"), str(folder), str(processes)], folder)


def rows(folder: Path, recipe: Recipe, wanted: int) -> Path:
    """Write so many rows of our generator."""
    path = folder / "rows.jsonl"
    with generate(recipe, ["train"], folder)["train"].open(encoding="utf-8") as stream:
        path.write_text("".join(islice(stream, wanted)), encoding="utf-8")
    return path


def prepared(folder: Path, recipe: Recipe, wanted: int, tokenizer: Path | None, template: str) -> Path:
    """Write the rows and the settings of a comparison to a folder."""
    folder.mkdir()
    path = rows(folder, recipe, wanted)
    if tokenizer is None:
        tokenizer = folder / "tokenizer"
        build_tokenizer(texts_of(path), 16_384).save_pretrained(tokenizer)
    settings = {"rows": str(path), "tokenizer": str(tokenizer), "template": template}
    (folder / "settings.json").write_text(json.dumps(settings))
    return folder


def measured(title: str, sides: list[Side], turns: int, cores: set[int]) -> list[Side]:
    for number in range(1, turns + 1):
        for side in sides:
            side.turn(cores)
        done = ", ".join(f"{side.name} {side.seconds[-1]:.1f} s" for side in sides)
        print(f"{title}: turn {number} of {turns}: {done}", file=sys.stderr, flush=True)
    return sides


def table(title: str, sides: list[Side]) -> Iterator[str]:
    """The medians, and how many times as fast the first side is, turn by turn. Processor time, of all processes of a
    side, is what a busy machine changes least."""
    first, turn = sides[0], sides[0].turns[0]
    yield f"## {title}"
    yield ""
    yield f"{turn['rows']:,} rows of {turn['tokens'] / turn['rows']:,.0f} tokens."
    yield ""
    yield f"| | seconds, median (least to most) | processor seconds | rows per second | {first.name} is |"
    yield "|---|---|---|---|---|"
    for side in sides:
        median = statistics.median(side.seconds)
        ratio = statistics.median(b / a for a, b in zip(first.seconds, side.seconds, strict=True))
        spread = f"{min(side.seconds):.2f} to {max(side.seconds):.2f}"
        cpu = statistics.median(turn["cpu"] for turn in side.turns)
        rate = side.turns[0]["rows"] / median
        yield f"| {side.name} | {median:.2f} ({spread}) | {cpu:.1f} | {rate:,.0f} | {ratio:.1f}× |"
    yield ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.prepare", description=__doc__)
    parser.add_argument("--turns", type=int, default=3, help="turns of each side (default: 3)")
    parser.add_argument("--rows", type=int, default=20_000, help="rows beside TRL (default: 20,000)")
    parser.add_argument("--cores", type=int, default=2, help="cores of each side (default: 2)")
    parser.add_argument(
        "--tokenizer", type=Path, help="folder of a tokenizer (default: Qwen2's, else one trained here)"
    )
    parser.add_argument("--before", type=Path, help="another checkout of hatrain, to compare long tool rows with")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "RESULTS-prepare.md")
    arguments = parser.parse_args()
    tokenizer = arguments.tokenizer or (REAL if REAL.is_dir() else None)
    cores = set(sorted(os.sched_getaffinity(0))[: arguments.cores])
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        folder = prepared(work / "rows", Recipe(("english",), "guide"), arguments.rows, tokenizer, CHATML)
        sides = [
            ours("hatrain", folder),
            theirs("TRL", folder, 0),
            theirs("TRL, dataset_num_proc=2", folder, 2),
            ours("hatrain again, from its cache", folder, keeps_cache=True),
        ]
        sides[-1].turn(cores)
        sides[-1].turns.clear()
        lines = list(table("Rows of a home", measured("rows", sides, arguments.turns, cores)))
        recipe = Recipe(("english",), "guide", format="messages")
        folder = prepared(work / "tools", recipe, 6_000, tokenizer, TOOLS_TEMPLATE.read_text(encoding="utf-8"))
        sides = [ours("hatrain", folder)]
        sides += [ours("hatrain before", folder, path=arguments.before.resolve())] if arguments.before else []
        lines += table("Long rows with tools", measured("tools", sides, arguments.turns, cores))
    given = [Path(each).name if Path(each).is_absolute() else each for each in sys.argv[1:]]
    command = f"python -m bench.prepare {' '.join(given)}".strip()
    versions = ", ".join(f"{name} {version(name)}" for name in ("tokenizers", "transformers", "trl"))
    of = "Qwen2" if tokenizer == REAL else tokenizer or "the rows themselves"
    machine = f"{processor()}, {len(cores)} cores, Python {platform.python_version()}"
    head = [
        "# Preparation: from a file to labelled tokens",
        "",
        f"`{command}`: {versions}; {machine}; tokenizer of {of}. Each side had the same cores, in turns. hatrain's "
        "seconds include reading the file and finding the replies. TRL's are those of its trainer's `_prepare_dataset` "
        "alone, after the file was read, and by default it finds no replies.",
        "",
    ]
    text = "\n".join([*head, *lines]).rstrip() + "\n"
    arguments.out.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
