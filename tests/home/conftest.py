"""Rows that several tests read, generated once per session."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from hatrain.home.generate.dataset import CHUNK, Chunks, Part, Recipe
from hatrain.home.language.load import language_folders

LANGUAGES = list(language_folders())


@pytest.fixture(params=LANGUAGES)
def language_name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def make_rows() -> Callable[..., list[dict[str, Any]]]:
    """Return the first rows of a file, parsed: `make_rows(recipe, part, homes=512)`."""

    @cache
    def make(recipe: Recipe, part: Part, homes: int = 512) -> list[dict[str, Any]]:
        import json

        chunks = Chunks(recipe, part)
        texts = [chunks.chunk(start)[0] for start in range(0, min(homes, chunks.homes), CHUNK)]
        return [json.loads(line) for text in texts for line in text.splitlines()]

    return make
