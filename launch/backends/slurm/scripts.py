"""The static scripts of this folder."""

from pathlib import Path


def read(name: str) -> str:
    """A script of this folder. The shellcheck directive at the top of one that is only a part is left out."""
    text = (Path(__file__).parent / name).read_text(encoding="utf-8")
    return text.partition("\n")[2] if text.startswith("# shellcheck") else text
