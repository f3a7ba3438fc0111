"""The name that llama.cpp gives to the way a tokenizer splits a text before its merges."""

from collections.abc import Mapping
from typing import Any

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPLITS = {
    r" ?[^(\s|.,!?…。，、।۔،)]+": "bloom",
    r" ?[^(\s|[.,!?…。，、।۔،])]+": "bloom",
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+": "qwen2",
    _CONTRACTIONS
    + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+": "llama-bpe",
}
"""The regular expressions of tokenizer.json, and llama.cpp's name for each."""


def name_of(tokenizer: Mapping[str, Any]) -> str | None:
    """Return llama.cpp's name for the pre-tokenizer of a tokenizer.json; None for one that it does not have.

    The converter knows published tokenizers by what they make of one text. A tokenizer trained at home splits as a
    published one does, with other tokens.
    """
    # llama.cpp leaves text as it is; composed letters, as keyboards write them, are the same after NFC.
    if tokenizer.get("normalizer") not in (None, {"type": "NFC"}):
        return None
    match _steps(tokenizer.get("pre_tokenizer")):
        case [{"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}]:
            return "gpt-2"
        case [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        ]:
            return "smollm"
        case [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
        ]:
            return _SPLITS.get(pattern)
    return None


def _steps(pre_tokenizer: Any) -> list[dict[str, Any]]:
    if not pre_tokenizer:
        return []
    return list(pre_tokenizer["pretokenizers"]) if pre_tokenizer["type"] == "Sequence" else [pre_tokenizer]
