"""A GGUF file in llama.cpp: tokens of a text, text of tokens, greedy answers."""

import ctypes
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from hatrain.errors import BadInput
from hatrain.llamacpp.library import Library, load
from hatrain.runtime import machine

_CONTROL, _USER_DEFINED = 1 << 3, 1 << 4
"""llama_token_attr"""


def threads() -> int:
    """The threads to use: `$OMP_NUM_THREADS`, else one for each core of this process."""
    return int(os.environ.get("OMP_NUM_THREADS") or machine.cores())


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a file."""

    tokens: tuple[str, ...]
    """By id, as the file writes them."""
    added: tuple[int, ...]
    """Control and user-defined tokens: one token wherever their text stands."""
    ends: tuple[int, ...]
    """Tokens at which llama.cpp ends an answer."""
    bos: int | None
    eos: int | None
    pad: int | None
    adds_bos: bool
    """Whether a server puts the bos token before a text that does not begin with it."""
    chat_template: str | None


class GgufModel:
    """A GGUF file, loaded onto the GPU where the library can use one. Close it, or use it in `with`."""

    def __init__(self, path: Path):
        self._library: Library = load()
        self._call: Any = self._library.functions
        self._context: Any = None
        self.size = 0
        """Tokens that the context holds."""
        self._held: list[int] = []
        """The tokens whose keys and values the context holds."""
        parameters = self._call.llama_model_default_params()
        self._library.log.clear()
        self._model = self._call.llama_model_load_from_file(str(path).encode(), parameters)
        if not self._model:
            raise BadInput(f"{path}: llama.cpp cannot load it: {self._library.failure()}")
        self.path = path
        self._vocabulary = self._call.llama_model_get_vocab(self._model)
        self.context_length: int = self._call.llama_model_n_ctx_train(self._model)

    def __enter__(self) -> "GgufModel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the context and the weights."""
        if self._context:
            self._call.llama_free(self._context)
        if self._model:
            self._call.llama_model_free(self._model)
        self._context = self._model = None

    def metadata(self, key: str) -> str | None:
        """Return the text of a metadata value of the file; None where it has none."""
        length = self._call.llama_model_meta_val_str(self._model, key.encode(), None, 0)
        if length < 0:
            return None
        buffer = ctypes.create_string_buffer(length + 1)
        self._call.llama_model_meta_val_str(self._model, key.encode(), buffer, length + 1)
        return buffer.value.decode("utf-8", "replace")

    @cached_property
    def vocabulary(self) -> Vocabulary:
        call, vocabulary = self._call, self._vocabulary
        ids = range(call.llama_vocab_n_tokens(vocabulary))
        marked = _CONTROL | _USER_DEFINED
        return Vocabulary(
            tokens=tuple(call.llama_vocab_get_text(vocabulary, token).decode("utf-8", "replace") for token in ids),
            added=tuple(token for token in ids if call.llama_vocab_get_attr(vocabulary, token) & marked),
            ends=tuple(token for token in ids if call.llama_vocab_is_eog(vocabulary, token)),
            bos=_known(call.llama_vocab_bos(vocabulary)),
            eos=_known(call.llama_vocab_eos(vocabulary)),
            pad=_known(call.llama_vocab_pad(vocabulary)),
            adds_bos=call.llama_vocab_get_add_bos(vocabulary),
            chat_template=self.metadata("tokenizer.chat_template"),
        )

    def tokenize(self, text: str) -> list[int]:
        """Return the ids of a rendered text, in which special tokens are written out. Nothing is added."""
        content = text.encode()
        room = len(content) + 16
        ids = (ctypes.c_int32 * room)()
        count = self._call.llama_tokenize(self._vocabulary, content, len(content), ids, room, False, True)
        if count < 0:
            raise BadInput(f"{self.path}: llama.cpp cannot tokenise {text[:40]!r}")
        return list(ids[:count])

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of ids, with special tokens written out."""
        return b"".join(map(self._piece, ids)).decode("utf-8", "replace")

    def _piece(self, token: int) -> bytes:
        room = 256
        buffer = ctypes.create_string_buffer(room)
        length = self._call.llama_token_to_piece(self._vocabulary, token, buffer, room, 0, True)
        if length < 0:
            buffer = ctypes.create_string_buffer(-length)
            length = self._call.llama_token_to_piece(self._vocabulary, token, buffer, -length, 0, True)
        return buffer.raw[:length]

    # --- answers ---

    def open(self, size: int) -> None:
        """Make a context of `size` tokens for the answers. Raises BadInput when there is no memory for it."""
        if self._context:
            self._call.llama_free(self._context)
        parameters = self._call.llama_context_default_params()
        parameters.n_ctx, parameters.n_seq_max = size, 1
        self._context = self._call.llama_init_from_model(self._model, parameters)
        if not self._context:
            raise BadInput(f"{self.path}: no context of {size} tokens: {self._library.failure()}")
        self._call.llama_set_n_threads(self._context, threads(), threads())
        self.size, self._held = size, []

    def answer(
        self, prompt: Sequence[int], limit: int, ended: Callable[[list[int]], bool], stops: Collection[int]
    ) -> Iterator[int]:
        """Yield the tokens of a greedy answer to a prompt: the last is the one of `stops`, or the one after which
        `ended(tokens so far)` is true, or the last that `limit` and the context allow."""
        tokens: list[int] = []
        logits = self._prefill(prompt)
        while len(tokens) < min(limit, self.size - len(prompt)):
            if tokens:
                logits = self._decode(tokens[-1:])
            tokens.append(int(logits.argmax()))
            yield tokens[-1]
            if tokens[-1] in stops or ended(tokens):
                return

    def _prefill(self, prompt: Sequence[int]) -> np.ndarray:
        """Return the logits after a prompt. What it has in common with the last one is not computed again."""
        pairs = zip(self._held, prompt[:-1], strict=False)
        kept = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        memory = self._call.llama_get_memory(self._context)
        # With sliding windows, what an earlier position attends to may be gone; recurrent models cannot go back.
        sliding = self._call.llama_model_n_swa(self._model) > 0
        if sliding or not self._call.llama_memory_seq_rm(memory, 0, kept, -1):
            self._call.llama_memory_clear(memory, True)
            kept = 0
        self._held = list(prompt[:kept])
        return self._decode(prompt[kept:])

    def _decode(self, ids: Sequence[int]) -> np.ndarray:
        """Return the logits after further tokens: `[vocabulary]`, valid until the next call."""
        chunk = 512
        for start in range(0, len(ids), chunk):
            part = ids[start : start + chunk]
            batch = self._call.llama_batch_init(len(part), 0, 1)
            try:
                batch.n_tokens = len(part)
                for index, token in enumerate(part):
                    batch.token[index], batch.pos[index] = token, len(self._held) + index
                    batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
                    batch.logits[index] = index == len(part) - 1
                if self._call.llama_decode(self._context, batch):
                    raise BadInput(f"{self.path}: llama.cpp cannot compute: {self._library.failure()}")
            finally:
                self._call.llama_batch_free(batch)
            self._held += part
        values = self._call.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(values, (self._call.llama_vocab_n_tokens(self._vocabulary),))


def _known(token: int) -> int | None:
    return None if token < 0 else token
