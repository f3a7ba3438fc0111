"""Recorded files: what is rendered is compared with what was reviewed. HATRAIN_RECORD=1 records anew."""

import os
from pathlib import Path


def matches(recorded: Path, text: str) -> None:
    """Assert that a text is the recorded one, or record it."""
    if os.environ.get("HATRAIN_RECORD"):
        recorded.parent.mkdir(parents=True, exist_ok=True)
        recorded.write_text(text, encoding="utf-8")
    assert recorded.exists(), f"{recorded}: not recorded yet; HATRAIN_RECORD=1 records it"
    assert text == recorded.read_text(encoding="utf-8")
