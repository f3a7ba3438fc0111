"""The model that most tests of answers ask."""

import pytest

from tests.evaluate.models import random_llama
from tests.families import build_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer("chatml")


@pytest.fixture(scope="module")
def llama(tokenizer):
    return random_llama(tokenizer).eval()
