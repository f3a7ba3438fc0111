"""The base model's tokenizer with a job's additions: a chat template, ChatML tokens, a pad token. `prepare` adapts the
model to it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from hatrain.contract.spec import ModelSpec
from hatrain.cpu_time import cpu_seconds
from hatrain.errors import BadInput
from hatrain.model.base import hub_errors
from hatrain.model.switches import set_switches

TEMPLATE_SECONDS = 2.0
"""CPU time for one short message; templates take milliseconds."""
PAD_TOKEN = "<|pad|>"
CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")
"""The start and the end of a turn; the end becomes the eos token."""


def load_tokenizer(
    base: str,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    chat_template: str | Path | None = None,
    add_pad_token: bool = False,
    add_chatml_tokens: bool = False,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a hub id or a folder, with a chat template and a pad token.

    `chat_template` is a file that replaces the tokenizer's template and ChatML's; `chat_template_kwargs` are values of
    its switches (`set_switches`). A tokenizer without a pad token pads
    with its eos token, which is safe because masks come from lengths, never from ids.

    Raises BadInput when the tokenizer or the template cannot be read, and without any chat template.
    """
    with hub_errors("tokenizer", base, revision):
        tokenizer = AutoTokenizer.from_pretrained(base, revision=revision, trust_remote_code=trust_remote_code)
        is_empty = not tokenizer("turn on the light", add_special_tokens=False)["input_ids"]
    if is_empty:
        raise BadInput(f"{base}: its tokenizer turns text into no tokens: its vocabulary is empty")
    if add_chatml_tokens:
        _add_chatml_tokens(tokenizer)
    if chat_template is not None:
        tokenizer.chat_template = _read_template(Path(chat_template))
    if tokenizer.chat_template is None:
        raise BadInput(
            f"{base}: its tokenizer has no chat template; "
            "set add_chatml_tokens: true (--add-chatml-tokens), or chat_template to a file (--chat-template)"
        )
    set_switches(tokenizer, chat_template_kwargs or {})
    _check_template(tokenizer, base if chat_template is None else str(chat_template))
    if add_pad_token and tokenizer.pad_token in (None, tokenizer.eos_token):
        _add_special(tokenizer, PAD_TOKEN)
        tokenizer.pad_token = PAD_TOKEN
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def tokenizer_of(spec: ModelSpec) -> PreTrainedTokenizerBase:
    """The tokenizer of a job's model, with the job's additions. Raises as `load_tokenizer` does."""
    return load_tokenizer(
        spec.base,
        revision=spec.revision,
        trust_remote_code=spec.trust_remote_code,
        chat_template=spec.chat_template,
        add_pad_token=spec.add_pad_token,
        add_chatml_tokens=spec.add_chatml_tokens,
        chat_template_kwargs=spec.chat_template_kwargs,
    )


def _add_chatml_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    """Add ChatML's tokens and template. A reply then ends with the eos token; bos does not change."""
    for token in CHATML_TOKENS:
        _add_special(tokenizer, token)
    tokenizer.eos_token = CHATML_TOKENS[1]
    tokenizer.chat_template = Path(__file__).with_name("chatml.jinja").read_text()


def _add_special(tokenizer: PreTrainedTokenizerBase, token: str) -> None:
    """Add a token that is never split and never part of a word. An existing one keeps its id."""
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False)], special_tokens=True)


def _check_template(tokenizer: PreTrainedTokenizerBase, source: str) -> None:
    """Raise BadInput when the chat template never ends, or fails in its arithmetic, on one short message. What it
    refuses by itself is reported with the rows."""
    try:
        with cpu_seconds(TEMPLATE_SECONDS):
            tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    except TimeoutError:
        raise BadInput(
            f"{source}: its chat template has not rendered one short message after {TEMPLATE_SECONDS:g} s: it loops"
        ) from None
    except (ArithmeticError, RecursionError, MemoryError) as error:
        raise BadInput(f"{source}: its chat template fails: {type(error).__name__}: {error}") from None
    except Exception:
        return


def _read_template(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"chat_template: {path}: cannot be read: {error}") from None
