"""Small tokenizers of common model families, built here: each with its family's special tokens, treatment of spaces and
chat template."""

import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

CORPUS = (
    "You are Al, a helpful assistant that controls the devices in a house. Today is Monday, 3 March 2025.",
    "Services: light.turn_on(), light.turn_off(), fan.toggle(), lock.lock(), climate.set_temperature()",
    "Devices: light.kitchen 'Kitchen Light' = on;80% fan.bedroom 'Bedroom Fan' = off lock.front_door = locked",
    "Turn on the kitchen light, please. Is the front door locked? Set the thermostat to 21 degrees.",
    "Turning on the light in the kitchen for you. The front door is locked. Sorry, there is no such device.",
    '```homeassistant\n{"service": "light.turn_on", "target_device": "light.kitchen", "brightness": 0.8}\n```',
    "system user assistant human tool model answer question hello thanks yes no one two three",
    *["assistant\n\nassistant\n"] * 4,
)
SIZE = 640
"""Entries of a vocabulary before its special tokens; fewer where the corpus yields fewer."""


# --- vocabularies -------------------------------------------------------------------------------------------

LINE_AWARE = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""How Llama 3 and Qwen split text: consecutive line breaks stay together."""


def gpt2_vocabulary(*, line_aware: bool = False, trim_offsets: bool = True) -> Tokenizer:
    """Bytes are letters, and a space belongs to the word after it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = (
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(LINE_AWARE), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        if line_aware
        else pre_tokenizers.ByteLevel(add_prefix_space=False)
    )
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim_offsets)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=SIZE, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def sentencepiece_vocabulary(prepend: str = "always") -> Tokenizer:
    """A space is the letter ▁, unknown letters are bytes. ▁ is added before each text between special tokens
    (`always`), only before the first (`first`), or nowhere (`never`)."""
    first = ["<unk>", "<s>", "</s>"] if prepend != "never" else ["<pad>", "<eos>", "<bos>", "<unk>"]
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Split("▁", "merged_with_next")]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        special_tokens=[*first, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    trained.train_from_iterator(CORPUS, trainer)
    state = json.loads(trained.to_str())
    state["model"] |= {"byte_fallback": True, "fuse_unk": True}
    state["pre_tokenizer"] = None
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in first]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    strip = [decoders.Strip(" ", 1, 0)] if prepend != "never" else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    if prepend == "first":
        tokenizer.normalizer = normalizers.Sequence([])
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    elif prepend == "always":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return tokenizer


def finished(
    tokenizer: Tokenizer,
    chat_template: str | None,
    added: Iterable[str | AddedToken] = (),
    **names: str,
) -> PreTrainedTokenizerFast:
    """Return a tokenizer of transformers with added tokens, named special ones (`eos_token`, …) and a chat template."""
    tokens = [
        token if isinstance(token, AddedToken) else AddedToken(token, normalized=False, special=True) for token in added
    ]
    tokenizer.add_tokens(tokens)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.chat_template = chat_template
    return fast


def renumbered(fast: PreTrainedTokenizerFast, ids: Mapping[str, int]) -> PreTrainedTokenizerFast:
    """Return the tokenizer with some tokens at given ids, far beyond its size."""
    state = json.loads(fast.backend_tokenizer.to_str())
    vocabulary = state["model"]["vocab"] | {token["content"]: token["id"] for token in state["added_tokens"]}
    taken = set(ids.values())
    free = (number for number in range(2 * len(vocabulary) + len(taken)) if number not in taken)
    state["model"]["vocab"] = {token: ids.get(token) or next(free) for token in vocabulary}
    for token in state["added_tokens"]:
        token["id"] = state["model"]["vocab"][token["content"]]
    renamed = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)), **fast.special_tokens_map)
    renamed.chat_template = fast.chat_template
    return renamed


# --- chat formats -------------------------------------------------------------------------------------------

ZEPHYR = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QWEN = (
    "{% if messages[0]['role'] == 'system' %}{% set opening = messages[0]['content'] %}"
    "{% else %}{% set opening = 'You are a helpful assistant.' %}{% endif %}"
    "{{ '<|im_start|>system\n' + opening }}"
    "{% if tools %}{{ '\n\n# Tools\n<tools>' }}"
    "{% for tool in tools %}{{ '\n' + tool | tojson }}{% endfor %}{{ '\n</tools>' }}{% endif %}"
    "{{ '<|im_end|>\n' }}"
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{{ '<|im_start|>assistant\n' + message['content'] }}"
    "{% for call in message['tool_calls'] or [] %}"
    "{% if message['content'] or not loop.first %}{{ '\n' }}{% endif %}"
    "{{ '<tool_call>\n{\"name\": \"' + call['function']['name'] + '\", \"arguments\": ' }}"
    "{{ call['function']['arguments'] | tojson + '}\n</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' }}"
    "{% elif message['role'] == 'tool' %}"
    "{{ '<|im_start|>user\n<tool_response>\n' + message['content'] + '\n</tool_response><|im_end|>\n' }}"
    "{% elif message['role'] == 'user' %}{{ '<|im_start|>user\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}"
    "{% set role = 'ipython' if message['role'] == 'tool' else message['role'] %}"
    "{{ '<|start_header_id|>' + role + '<|end_header_id|>\n\n' }}"
    "{% if message['tool_calls'] %}{% set call = message['tool_calls'][0]['function'] %}"
    "{{ '{\"name\": \"' + call['name'] + '\", \"parameters\": ' + (call['arguments'] | tojson) + '}' }}"
    "{% else %}{{ message['content'] | trim }}{% endif %}{{ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set turns = messages[1:] %}"
    "{% set opening = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}"
    "{% else %}{% set turns = messages %}{% set opening = '' %}{% endif %}"
    "{% for message in turns %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate user/assistant/user/assistant') }}{% endif %}"
    "{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + (opening if loop.first else '') + (message['content'] | trim) + ' [/INST]' }}"
    "{% else %}{{ ' ' + (message['content'] | trim) + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL = (
    "{% set asked = namespace(last=0) %}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{% set asked.last = loop.index0 %}{% endif %}{% endfor %}"
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{% if tools and loop.index0 == asked.last %}"
    "{{ '[AVAILABLE_TOOLS] ' + (tools | tojson) + '[/AVAILABLE_TOOLS]' }}{% endif %}"
    "{{ '[INST] ' + message['content'] + '[/INST]' }}"
    "{% elif message['tool_calls'] %}{{ '[TOOL_CALLS] [' }}{% for call in message['tool_calls'] %}"
    "{{ call['function'] | tojson }}{% if not loop.last %}{{ ', ' }}{% endif %}{% endfor %}{{ ']' + eos_token }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + (message['content'] | trim) + eos_token }}"
    "{% elif message['role'] == 'tool' %}{{ '[TOOL_RESULTS] ' + message['content'] + '[/TOOL_RESULTS]' }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
PHI3 = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + (message['content'] | trim) + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\n' + 'You are a small model for tests.' + '<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SMOLLM3 = (
    "{% if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}"
    "{% set thought = '' if enable_thinking else '<think>\n\n</think>\n' %}"
    "{% if messages[0]['role'] == 'system' %}{% set opening = messages[0]['content'] %}"
    "{% else %}{% set opening = 'You are a small model for tests.' %}{% endif %}"
    "{{ '<|im_start|>system\n## Metadata\n\nToday Date: ' + strftime_now('%d %B %Y') + '\n' }}"
    "{{ 'Reasoning Mode: ' + ('/think' if enable_thinking else '/no_think') + '\n\n## Custom Instructions\n\n' }}"
    "{{ opening + '\n\n' }}{% if xml_tools or tools %}{{ '### Tools\n\n<tools>\n' }}"
    "{% for tool in xml_tools or tools %}{{ (tool | string) + '\n' }}{% endfor %}{{ '</tools>\n\n' }}{% endif %}"
    "{{ '<|im_end|>\n' }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '<|im_start|>user\n' + message['content'] + '<|im_end|>\n' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ '<|im_start|>assistant\n' + thought + message['content'].lstrip('\n') + '<|im_end|>\n' }}"
    "{% elif message['role'] == 'tool' %}{{ '<|im_start|>user\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' + thought }}{% endif %}"
)
# FunctionGemma writes calls and results in one turn of the model, in a notation of its own.
FUNCTION_GEMMA = (
    "{% macro written(value) %}{% if value is string %}{{ '<escape>' + value + '<escape>' }}"
    "{% elif value is mapping %}{{ '{' }}{% for key in value | sort %}{{ key + ':' + written(value[key]) }}"
    "{% if not loop.last %}{{ ',' }}{% endif %}{% endfor %}{{ '}' }}"
    "{% elif value is boolean %}{{ 'true' if value else 'false' }}"
    "{% elif value is sequence %}{{ '[' }}{% for item in value %}{{ written(item) }}"
    "{% if not loop.last %}{{ ',' }}{% endif %}{% endfor %}{{ ']' }}{% else %}{{ value }}{% endif %}{% endmacro %}"
    "{{ bos_token }}{% set ns = namespace(turns=messages, open=false) %}"
    "{% if messages[0]['role'] in ('system', 'developer') %}{% set ns.turns = messages[1:] %}{% endif %}"
    "{% if tools or messages[0]['role'] in ('system', 'developer') %}{{ '<start_of_turn>developer\n' }}"
    "{% if messages[0]['role'] in ('system', 'developer') %}{{ messages[0]['content'] | trim }}{% endif %}"
    "{% for tool in tools or [] %}{{ '<start_function_declaration>declaration:' + tool['function']['name'] }}"
    "{{ written({'description': tool['function']['description'], 'parameters': tool['function']['parameters']}) }}"
    "{{ '<end_function_declaration>' }}{% endfor %}{{ '<end_of_turn>\n' }}{% endif %}"
    "{% for message in ns.turns %}{% if message['role'] == 'tool' %}"
    "{{ '<start_function_response>response:' + message['name'] + written({'value': message['content']}) }}"
    "{{ '<end_function_response>' }}{% else %}"
    "{% if not ns.open %}{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) }}"
    "{{ '\n' }}{% endif %}{{ (message['content'] or '') | trim }}"
    "{% for call in message['tool_calls'] or [] %}"
    "{{ '<start_function_call>call:' + call['function']['name'] + written(call['function']['arguments']) }}"
    "{{ '<end_function_call>' }}{% endfor %}"
    "{% set ns.open = message['tool_calls'] and not loop.last %}"
    "{% if message['tool_calls'] %}{% if loop.last %}{{ '<start_function_response>' }}{% endif %}"
    "{% else %}{{ '<end_of_turn>\n' }}{% endif %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt and not ns.open %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


# --- families -----------------------------------------------------------------------------------------------


def _space_runs() -> list[AddedToken]:
    """Tokens of several spaces, not special, which Phi-2 and StableLM add for code."""
    return [AddedToken(" " * length, normalized=True, special=False) for length in range(8, 1, -1)]


def _not_special(*tokens: str) -> list[AddedToken]:
    return [AddedToken(token, normalized=False, special=False) for token in tokens]


def _phi3() -> PreTrainedTokenizerFast:
    roles = [
        AddedToken(token, rstrip=True, normalized=False, special=True)
        for token in ("<|assistant|>", "<|end|>", "<|system|>", "<|user|>")
    ]
    return finished(
        sentencepiece_vocabulary(),
        PHI3,
        ["<|endoftext|>", *roles],
        bos_token="<s>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
    )


def _llama3() -> PreTrainedTokenizerFast:
    return finished(
        gpt2_vocabulary(line_aware=True),
        LLAMA3,
        ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
    )


def _qwen() -> PreTrainedTokenizerFast:
    return finished(
        gpt2_vocabulary(line_aware=True, trim_offsets=False),
        QWEN,
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *_not_special("<tool_call>", "</tool_call>")],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )


def _mistral() -> PreTrainedTokenizerFast:
    names = ("INST", "TOOL_RESULTS", "AVAILABLE_TOOLS")
    brackets = [f"[{slash}{name}]" for name in names for slash in ("", "/")]
    return finished(
        sentencepiece_vocabulary("first"),
        MISTRAL,
        [*brackets, "[TOOL_CALLS]"],
        bos_token="<s>",
        eos_token="</s>",
    )


FAMILIES: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "zephyr": lambda: finished(sentencepiece_vocabulary(), ZEPHYR, bos_token="<s>", eos_token="</s>", pad_token="</s>"),
    "stablelm": lambda: finished(
        gpt2_vocabulary(),
        ZEPHYR,
        [*_space_runs(), "<|endoftext|>"],
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
    ),
    "chatml": lambda: finished(
        gpt2_vocabulary(),
        CHATML,
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    ),
    "qwen2": _qwen,
    "llama3": _llama3,
    "llama2": lambda: finished(sentencepiece_vocabulary(), LLAMA2, bos_token="<s>", eos_token="</s>"),
    "mistral": _mistral,
    "phi3": _phi3,
    "polka": lambda: finished(
        sentencepiece_vocabulary(),
        CHATML,
        ["<|im_end|>", "<|im_start|>"],
        bos_token="<s>",
        eos_token="<|im_end|>",
        pad_token="<unk>",
    ),
    "gemma": lambda: finished(
        sentencepiece_vocabulary("never"),
        GEMMA,
        ["<start_of_turn>", "<end_of_turn>"],
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
    ),
    "smollm2": lambda: finished(
        gpt2_vocabulary(),
        SMOLLM2,
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
    ),
    "smollm3": lambda: finished(
        gpt2_vocabulary(line_aware=True),
        SMOLLM3,
        ["<|begin_of_text|>", "<|im_start|>", "<|im_end|>", *_not_special("<think>", "</think>")],
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
    ),
    "functiongemma": lambda: finished(
        sentencepiece_vocabulary("never"),
        FUNCTION_GEMMA,
        [
            *("<start_of_turn>", "<end_of_turn>", "<escape>"),
            *(f"<{end}_function_{part}>" for part in ("declaration", "call", "response") for end in ("start", "end")),
        ],
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
    ),
    "phi": lambda: finished(
        gpt2_vocabulary(),
        None,
        [*_space_runs(), "<|endoftext|>"],
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
    ),
}
"""Every family by name. `phi` is a base model without a chat template."""

CHAT_FAMILIES = tuple(name for name in FAMILIES if name != "phi")


@cache
def _state(family: str) -> tuple[str, dict[str, str], str | None]:
    fast = FAMILIES[family]()
    return fast.backend_tokenizer.to_str(), dict(fast.special_tokens_map), fast.chat_template


def build_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Return a new tokenizer of a family, with about 600 entries."""
    state, names, chat_template = _state(family)
    fast = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(state), **names)
    fast.chat_template = chat_template
    return fast
