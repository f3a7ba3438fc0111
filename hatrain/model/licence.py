"""The licence of a model, as far as its own card states one: a folder's README.md, or that of a hub repository."""

import re
from pathlib import Path
from typing import Any

import yaml

CARD = "README.md"
_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)


def front_matter(text: str) -> dict[str, Any]:
    """Return the YAML at the head of a card; empty where there is none that can be read."""
    found = _FRONT_MATTER.match(text)
    try:
        values = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError:
        return {}
    return values if isinstance(values, dict) else {}


def stated_licence(model: Path | str, revision: str | None = None) -> dict[str, str] | None:
    """Return the licence that the card of a folder or a hub repository states: `id` (the hub's name of it), with `name`
    and `link` where the card has them, and `source`. None where there is no card, or it states none."""
    if isinstance(model, Path):
        card, source = model / CARD, f"the card of {model.name}"
    else:
        found = _of_hub(model, revision)
        if found is None:
            return None
        card, source = found, f"the card of {model}"
    try:
        values = front_matter(card.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    licence = values.get("license")
    if not isinstance(licence, str) or not licence.strip():
        return None
    more = {key: values.get(f"license_{key}") for key in ("name", "link")}
    return {"id": licence.strip(), "source": source, **{key: str(value) for key, value in more.items() if value}}


def _of_hub(repository: str, revision: str | None) -> Path | None:
    """Return the card's file, from the cache or the hub; None where neither has it."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(hf_hub_download(repository, CARD, revision=revision))
    except (HfHubHTTPError, HFValidationError, OSError, ValueError):
        return None
