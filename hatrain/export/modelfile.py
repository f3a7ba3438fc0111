"""The Modelfile, from which `ollama create` makes a model of a GGUF file."""

import json
from collections.abc import Sequence

from hatrain.data.replies import ReplyFinder
from hatrain.data.template import TemplateRefusal
from hatrain.errors import BadInput
from hatrain.export.go_template import go_template


def template_of(finder: ReplyFinder, bos: str | None = None) -> str:
    """Return Ollama's template. Raises BadInput when the chat template cannot be written as one."""
    try:
        return go_template(finder, bos)[0]
    except TemplateRefusal as refusal:
        raise BadInput(f"export.ollama: the chat template cannot be written as a Go template: {refusal}") from None


def write(file: str, finder: ReplyFinder, bos: str | None, ends: Sequence[str], context: int) -> str:
    """Return the Modelfile of a file beside it: template, stop tokens, temperature 0 as in the evaluation, context.

    `bos` is the token that Ollama adds by itself. Raises as `template_of` does.
    """
    stops = dict.fromkeys([*finder.markers.stops, *ends])
    lines = [
        f"FROM ./{file}",
        f'TEMPLATE """{template_of(finder, bos)}"""',
        *(f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in map(str.strip, stops) if stop),
        "PARAMETER temperature 0",
        f"PARAMETER num_ctx {context}",
    ]
    return "\n".join(lines) + "\n"
