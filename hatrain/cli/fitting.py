"""Fits generated rows to a model: a form that its chat template can render, and a home that its context can hold."""

import math
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from hatrain.errors import BadInput
from hatrain.home.generate.dataset import Recipe, generate
from hatrain.home.homes.home_file import HomeFile, read_home
from hatrain.home.homes.known_home import KnownHome
from hatrain.home.language.load import find_language, load_language
from hatrain.text import count

_LETTERS_OF_A_TOKEN = 3
"""At least, in a prompt of device lines."""
_USUAL_CONTEXT = 1536
"""Tokens of a prompt that leave room for a request in the default `method.ctx_size`, 2048."""


def fitting(recipe: Recipe, model: str, ctx_size: int | None) -> Recipe:
    """Return the recipe in the form that a model's chat template can render: as it is, else with single calls.

    Raises BadInput with the first problems when it can render neither, and when the longest row of a sample does not
    fit into `ctx_size`.
    """
    from hatrain.model.quiet import quiet

    quiet()
    from hatrain.contract.model_ref import resolve
    from hatrain.contract.run import runs_root
    from hatrain.data.labels import Example, Labeller
    from hatrain.data.rows import BadRow, grouped, read_rows
    from hatrain.model.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(resolve(model, workdir=Path.cwd(), runs_root=runs_root()).source)
    labeller = Labeller(tokenizer)
    problems: list[str] = []
    for single in dict.fromkeys([recipe.single_calls, recipe.format == "messages"]):
        tried = replace(recipe, single_calls=single)
        with tempfile.TemporaryDirectory() as folder:
            rows = list(read_rows(generate(tried, ["sample"], Path(folder))["sample"]))
        labelled = labeller.label(rows)
        problems = [problem for row in labelled if isinstance(row, BadRow) for problem in row.problems]
        if not problems:
            if single and not recipe.single_calls:
                note = f"note: one call in a turn and no words beside it, for the chat template of {model}"
                print(note, file=sys.stderr)
            longest = max(row.length for row in labelled if isinstance(row, Example))
            print(f"the longest of {count(len(rows), 'row')} has {count(longest, 'token')}", file=sys.stderr)
            if ctx_size and longest > ctx_size:
                raise BadInput(_too_long(tried, longest, ctx_size, lambda text: len(tokenizer(text)["input_ids"])))
            return tried
    raise BadInput(
        [
            f"--model: the chat template of {model} cannot render the rows of --client {recipe.client}; accepted: "
            "--client home-llm-legacy or guide, whose calls are text, or model.chat_template:",
            *(problem.replace(f"{folder}/", "") for problem in grouped(problems)),
        ]
    )


def _too_long(recipe: Recipe, longest: int, ctx_size: int, tokens: Callable[[str], int]) -> Iterator[str]:
    """Say by how much a row is too long, and of a home file how many devices would have to go."""
    yield f"--ctx-size: found {ctx_size:,}, and the longest row of a sample has {count(longest, 'token')}"
    if recipe.home is None:
        return
    home = read_home(recipe.home)
    by_domain = Counter(device.domain for device in home.devices)
    whole = tokens(_prompt(recipe, home))
    costs = {
        domain: whole - tokens(_prompt(recipe, replace(home, devices=rest)))
        for domain in by_domain
        if (rest := tuple(device for device in home.devices if device.domain != domain))
    }
    total = sum(costs.values())
    if not total:
        return
    shown = ", ".join(
        f"{domain} ({by_domain[domain]} with {count(cost, 'token')})"
        for domain, cost in sorted(costs.items(), key=lambda item: -item[1])
    )
    # A tenth more, because devices differ in length.
    hidden = min(math.ceil(1.1 * (longest - ctx_size) * len(home.devices) / total), len(home.devices))
    yield (
        f"{recipe.home}: hide about {count(hidden, 'device')} of {len(home.devices)} from conversation clients, or "
        f"give a larger context; they are {shown}"
    )


def _prompt(recipe: Recipe, home: HomeFile) -> str:
    language = load_language(find_language(recipe.languages[0]))
    return KnownHome(language, home, recipe.writes_for).draw(random.Random(0).random).prompt


def size_note(recipe: Recipe, home: HomeFile) -> str | None:
    """Estimate whether a home could be too large for the usual context; None if it is not."""
    tokens = len(_prompt(recipe, home)) // _LETTERS_OF_A_TOKEN
    if tokens < _USUAL_CONTEXT:
        return None
    return (
        f"{recipe.home}: its prompt has about {count(tokens, 'token')}; --model MODEL --ctx-size N counts them, and "
        "says what to hide"
    )
