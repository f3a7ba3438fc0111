"""Texts that are cut have the tokens that they have as a whole, under every kind of tokenizer."""

from bisect import bisect_left, bisect_right
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from hatrain.data.encoder import Encoder, Inexact, _has_tokens_over_breaks
from tests.families import FAMILIES, build_tokenizer

REAL = Path(__file__).parents[3] / "shared" / "tokenizers"
LINES = (
    "light.kitchen 'Kitchen Light' = on;80%",
    "fan.bedroom_2 'Bedroom Fan 2' = off",
    "",
    " areas: Kitchen",
    "It's on.  ",
    "'s what they're called",
    "/var/log (a path)",
    "łóżko 🙂",
    "\u0301 begins with an accent",
    '{"service": "light.turn_on"}',
    "\t- names: Ünder",
    "12:49 AM",
    "<|im_end|>",
    "<|im_start|>assistant",
    "</s>",
    "```homeassistant",
    "\r",
    "▁x",
)


def tokenizers() -> list:
    real = [pytest.param(path, id=path.name) for path in sorted(REAL.glob("*/")) if (path / "tokenizer.json").exists()]
    return [*FAMILIES, *real]


def tokenizer_named(name: str | Path) -> PreTrainedTokenizerBase:
    return build_tokenizer(name) if isinstance(name, str) else AutoTokenizer.from_pretrained(name)


def texts(count: int, seed: int = 1) -> list[str]:
    draw = Random(seed)
    return ["\n".join(draw.choices(LINES, k=draw.randint(1, 14))) for _ in range(count)]


def check(encoder: Encoder, tokenizer: PreTrainedTokenizerBase, batch: list[str]) -> None:
    backend = tokenizer.backend_tokenizer
    for text, encoded in zip(batch, encoder.encode(batch), strict=True):
        whole = backend.encode(text, add_special_tokens=False)
        assert encoded.ids.tolist() == whole.ids, text
        starts, ends = [start for start, _ in whole.offsets], [end for _, end in whole.offsets]
        for position in {0, len(text), len(text) // 2, text.find("\n") + 1, text.rfind("\n") + 1}:
            assert encoded.starting_before(position) == bisect_left(starts, position)
            assert encoded.ending_by(position) == bisect_right(ends, position)
            own = backend.encode(text[:position], add_special_tokens=False).ids
            assert encoded.before(position) == (len(own) if whole.ids[: len(own)] == own else None), text[:position]
        for token in range(0, len(whole.ids), 7):
            assert encoded.start_of(token) == starts[token]


@pytest.mark.parametrize("name", tokenizers())
def test_texts_of_lines_that_come_again_have_the_tokens_of_whole_texts(name):
    tokenizer = tokenizer_named(name)
    encoder = Encoder(tokenizer)
    batch = texts(120)
    for start in range(0, len(batch), 20):
        check(encoder, tokenizer, batch[start : start + 20])


@pytest.mark.parametrize("name", ["qwen2", "zephyr", "gemma"])
def test_cuts_are_used_where_lines_come_again(name):
    tokenizer = tokenizer_named(name)
    encoder = Encoder(tokenizer)
    lines = [f"light.room_{number} 'Room {number}' = on" for number in range(20)]
    draw = Random(1)
    batches = [["\n".join(draw.sample(lines, 12)) for _ in range(16)] for _ in range(8)]
    for batch in batches:
        encoder.encode(batch)
    backend = tokenizer.backend_tokenizer
    encoded = encoder.encode(batches[0])
    assert max(len(each._parts) for each in encoded) == 12
    assert [each.ids.tolist() for each in encoded] == [
        backend.encode(text, add_special_tokens=False).ids for text in batches[0]
    ]


@given(st.lists(st.text(st.sampled_from("ab'1/)}é▁ \t\r\n\n\n"), max_size=24), min_size=1, max_size=12))
def test_any_text_has_its_tokens(batch):
    for name in ("qwen2", "smollm2", "llama2"):
        tokenizer = build_tokenizer(name)
        check(Encoder(tokenizer), tokenizer, batch)


def byte_level(*tokens: str, split: str = "") -> PreTrainedTokenizerFast:
    """A vocabulary of bytes and of these pairs of them, which are merged within what the pattern `split` finds."""
    alphabet = {token: number for number, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocabulary = alphabet | {token: len(alphabet) + number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[(token[0], token[1]) for token in tokens]))
    steps: list = [pre_tokenizers.Split(Regex(split), "isolated")] if split else []
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")


def test_a_vocabulary_whose_tokens_go_on_after_a_line_break_is_never_cut():
    tokenizer = byte_level("Ċl")
    assert _has_tokens_over_breaks(tokenizer)
    assert not _has_tokens_over_breaks(byte_level("ĊĊ"))
    check(Encoder(tokenizer), tokenizer, ["a\nlight\nlamp", "b\nlight\nfan"] * 40)


def test_a_break_that_holds_both_sides_together_is_found_out_and_not_cut():
    # As o200k's pattern does: punctuation takes line breaks and slashes after it, so "/v" is no unit after ")".
    tokenizer = byte_level("/v", split=r"[^\s\p{L}]+[\r\n/]+|[^\s\p{L}]?\p{L}+|\s+")
    encoder = Encoder(tokenizer)
    for _ in range(4):
        check(encoder, tokenizer, ["see (here)\n/var\nlight", "light\nfan (there)\n/var"])
    assert ")\n/" in encoder._bad
    assert "a\na" in encoder._good


@pytest.mark.parametrize("name", FAMILIES)
def test_a_cut_beside_an_added_token_says_nothing_of_the_same_character_elsewhere(name):
    """Phi-3's added tokens take the line break after them."""
    tokenizer = build_tokenizer(name)
    for token in Encoder(tokenizer)._added:
        other = f"<|nobody's|{token[-1]}"
        lines = [f"light{other}", f"{other}light", other, f"light{token}", f"{token}light", token]
        for order in (lines, lines[::-1]):  # what is seen first decides what is learnt of a character
            encoder = Encoder(tokenizer)
            for before in order:
                for after in order:
                    check(encoder, tokenizer, [f"{before}\n{after}", f"on\n{before}\n{after}\noff"])


def test_a_cut_that_turns_out_wrong_ends_the_cutting():
    tokenizer = build_tokenizer("qwen2")
    encoder = Encoder(tokenizer)
    batch = ["light\nfan\nlock"] * 64
    encoder.encode(batch)
    encoder._pieces[True]["fan\n"] = encoder._pieces[True]["lock"]
    with pytest.raises(Inexact):
        encoder.encode(batch)  # one in 64 is compared with its whole
    encoder.encode_whole()
    check(encoder, tokenizer, batch[:1])


def test_texts_are_cut_whatever_share_of_their_lines_comes_again(monkeypatch):
    tokenizer = build_tokenizer("qwen2")
    encoder = Encoder(tokenizer)
    draw = Random(1)
    texts = ["\n".join([*(f"{draw.random()} is a number" for _ in range(6)), "which"]) for _ in range(600)]
    for first in range(0, 600, 64):
        encoder.encode(texts[first : first + 64])
    whole: list[str] = []
    original = Encoder._whole
    monkeypatch.setattr(Encoder, "_whole", lambda self, texts: (whole.extend(texts), original(self, texts))[1])
    assert encoder.encode(texts[:1])[0].ids.tolist() == encoder.ids_of(texts[0])
    assert len(encoder.encode(texts[1:64])) == 63
    assert len(whole) <= 1
