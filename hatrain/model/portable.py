"""Makes saved folders read the same in transformers 4.57 and 5, and in tools that lean on 4 (vLLM, mlx-lm, converters).

transformers 5 keeps all of a model's rotary settings in `rope_parameters` and names its tokenizers' class
`TokenizersBackend`. 4.57 silently falls back to a base of 10000 for the one and refuses the other.
"""

import json
from pathlib import Path
from typing import Any

from hatrain.runtime import seal


def make_portable(folder: Path) -> None:
    """Add what transformers 4.57 reads to the config.json and tokenizer_config.json of a folder that transformers 5
    saved. Version 5 ignores it or reads the same from it."""
    for name, rewrite in (("config.json", with_rope), ("tokenizer_config.json", with_known_class)):
        path = folder / name
        if path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            if (after := rewrite(before)) != before:
                seal.write_json(path, after)


def with_rope(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with `rope_theta`, `rope_scaling` and `partial_rotary_factor` beside `rope_parameters`,
    also in the configurations inside it."""
    config = {key: with_rope(value) if isinstance(value, dict) else value for key, value in config.items()}
    rope = config.get("rope_parameters")
    if not isinstance(rope, dict):
        return config
    if "full_attention" in rope:  # one for each type of layer, as in Gemma 3
        if theta := (rope.get("sliding_attention") or {}).get("rope_theta"):
            config["rope_local_base_freq"] = theta
        rope = rope["full_attention"]
    for key in ("rope_theta", "partial_rotary_factor"):
        if rope.get(key) is not None:
            config[key] = rope[key]
    config["rope_scaling"] = _scaling(rope)
    return config


def _scaling(rope: dict[str, Any]) -> dict[str, Any] | None:
    kind = rope.get("rope_type", "default")
    if kind == "default":
        return None
    if kind == "longrope":  # Phi-3 accepts these three keys alone
        return {"type": kind, "short_factor": rope["short_factor"], "long_factor": rope["long_factor"]}
    return {key: value for key, value in rope.items() if key not in ("rope_theta", "partial_rotary_factor")}


def with_known_class(config: dict[str, Any]) -> dict[str, Any]:
    """Return a tokenizer's configuration with names that both versions know."""
    config = dict(config)
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    return config
