"""The chat templates that TRL ships, on a small tokenizer with their special tokens, and the table of docs/templates.md
that says what of each is trained on."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import trl
from transformers import PreTrainedTokenizerBase

from hatrain.data.labels import Example, Labeller
from hatrain.data.rows import Message, Row
from hatrain.model.switches import set_switches
from tests.families import build_tokenizer

TEMPLATES = Path(trl.__file__).parent / "chat_templates"
_TOKEN = re.compile(r"<[|｜][^<>\n'\"]{1,40}?>|<(?:start|end)_of_\w+>|<turn\|>|<\w+\|>|</?s>")
PUBLISHED = [
    "cohere",
    "cohere2",
    "deepseek_r1_distill",
    "deepseekv3",
    "gemma",
    "gemma3",
    "gemma4",
    "gemma4_v2",
    "gemma4_v5",
    "glm4moe",
    "gptoss",
    "lfm2_v2",
    "llama3",
    "llama3_1",
    "llama3_2",
    "muse_glimmer",
    "nemotron_3_nano",
    "phi3",
    "qwen2_5",
    "qwen3",
    "qwen3_5_think",
    "qwen3_instruct_2507",
    "smolvlm",
]
CONSTRUCTED = ("zephyr", "chatml", "llama2", "mistral", "smollm2", "smollm3", "functiongemma")

CALL = {"type": "function", "id": "abcdefghi", "function": {"name": "light_on", "arguments": {"id": "light.k"}}}
TOOL = {
    "type": "function",
    "function": {
        "name": "light_on",
        "description": "on",
        "parameters": {"type": "object", "properties": {"id": {"type": "string"}}},
    },
}
_RESULT = Message("tool", "TOOLRES", extra={"name": "light_on", "tool_call_id": "abcdefghi"})
ROUNDS = (
    Message("user", "One?"),
    Message("assistant", "First.", train=True),
    Message("user", "Two?"),
    Message("assistant", "Second.", train=True),
)


def calling(words: str) -> tuple[Message, ...]:
    call = Message("assistant", words, train=True, tool_calls=(CALL,))
    return (Message("user", "On!"), call, _RESULT, Message("assistant", "Done.", train=True))


@cache
def published(name: str, thinking: bool = False) -> PreTrainedTokenizerBase:
    """A tokenizer with a template that TRL ships, loaded as a job's."""
    tokenizer = build_tokenizer("qwen2")
    tokenizer.chat_template = (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")
    tokens = sorted(set(_TOKEN.findall(tokenizer.chat_template)))
    tokenizer.add_special_tokens({"additional_special_tokens": tokens, "bos_token": "<|endoftext|>"})
    set_switches(tokenizer, {"enable_thinking": True} if thinking else {})
    return tokenizer


def sequences(tokenizer: Any, messages: tuple[Message, ...], tools: tuple[Any, ...] = ()) -> list[Example] | str:
    """The labelled sequences of a conversation, or why it is refused."""
    (labelled,) = Labeller(tokenizer).label([Row(Path("rows.jsonl"), 0, 1, messages, tools)])
    return list(labelled.sequences) if isinstance(labelled, Example) else labelled.problems[0]


def trained(tokenizer: Any, messages: tuple[Message, ...], tools: tuple[Any, ...] = ()) -> list[str]:
    found = sequences(tokenizer, messages, tools)
    assert not isinstance(found, str), found
    return [tokenizer.decode(part.input_ids[start:end]) for part in found for start, end in part.replies]


def table() -> str:
    """The table of docs/templates.md."""
    lines = [
        "| template | a reply is asked for with | and ends with | a row of several replies is | calls | words beside a "
        "call |",
        "|---|---|---|---|---|---|",
    ]
    for name in (*PUBLISHED, *CONSTRUCTED):
        tokenizer = published(name) if name in PUBLISHED else build_tokenizer(name)
        set_switches(tokenizer, {})
        labeller = Labeller(tokenizer)
        markers = labeller.finder.markers
        found = sequences(tokenizer, ROUNDS)
        layout = "one sequence" if len(found) == 1 else "one sequence for each reply"
        cells = [
            f"{name}" if name in PUBLISHED else f"{name} (constructed)",
            _code(markers.prompt) if markers.prompt else "nothing",
            " or ".join(map(_code, markers.stops or (tokenizer.eos_token,))),
            layout,
            *(
                "refused" if isinstance(sequences(tokenizer, calling(words), (TOOL,)), str) else "trained on"
                for words in ("", "Let me see.")
            ),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    return "`" + text.replace("\n", "\\n").replace("|", "\\|") + "`"
