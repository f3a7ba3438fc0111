"""The folder that is converted: all weights, merged where they are an adapter, and the tokenizer's own file."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from hatrain.data.replies import ReplyFinder
from hatrain.data.rows import Message
from hatrain.errors import BadInput
from hatrain.evaluate.sources import Source, base_of, load_base, run_of
from hatrain.model import lora
from hatrain.model.base import load_model
from hatrain.model.portable import make_portable
from hatrain.model.revision import pinned

ADAPTER = "adapter_config.json"
SENTENCEPIECE = "tokenizer.model"


@contextmanager
def whole_folder(source: Source, place: Path, finder: ReplyFinder, tokenizer: Any) -> Iterator[Path]:
    """Yield a folder in `place` with the whole model; an adapter is merged into its full-precision base, in fp32.

    Files of a model are linked, not copied. Raises BadInput for a quantised model, and when a merged model does not
    compute what its adapter does.
    """
    folder = place / ".converting"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        if (Path(source.location) / ADAPTER).is_file():
            _merge(source, folder, finder, tokenizer)
        else:
            _link(source, folder)
        _add_sentencepiece(source, folder)
        _adapt_settings(folder, finder, tokenizer)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _merge(source: Source, folder: Path, finder: ReplyFinder, tokenizer: Any) -> None:
    base: Any = load_base(source, tokenizer, torch.float32)
    text = finder.template.render([Message("user", "Turn on the light in the kitchen.")], prompt=True)
    rows = tokenizer([text], add_special_tokens=False, return_tensors="pt")
    sample = {name: rows[name] for name in ("input_ids", "attention_mask")}
    merged = lora.merge(source.location, base, sample)
    merged.config.dtype = torch.float32
    merged.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    make_portable(folder)


def _link(source: Source, folder: Path) -> None:
    where = Path(source.location)
    if not where.is_dir():
        where = _of_hub(source)
    config = json.loads((where / "config.json").read_text(encoding="utf-8"))
    if kind := (config.get("quantization_config") or {}).get("quant_method"):
        raise BadInput(f"{source.location}: quantised with {kind}; accepted: full-precision weights")
    for path in where.iterdir():
        if path.is_file() and path.suffix in (".json", ".jinja", ".safetensors", ".bin", ".model", ".txt"):
            # The converter's settings are rewritten; weights are not.
            if path.suffix == ".json":
                shutil.copyfile(path, folder / path.name)
            else:
                (folder / path.name).symlink_to(path.resolve())


def _of_hub(source: Source) -> Path:
    """Return the folder of the hub's cache with a model, downloaded as transformers downloads it."""
    from huggingface_hub import snapshot_download

    load_model(source.location, trust_remote_code=source.trust_remote_code, dtype=torch.bfloat16)
    return Path(snapshot_download(source.location, local_files_only=True))


def _add_sentencepiece(source: Source, folder: Path) -> None:
    """Put the base's tokenizer.model beside tokenizer.json, where it has one: transformers 5 does not save it."""
    from transformers.utils import cached_file

    target = folder / SENTENCEPIECE
    for base, revision in () if target.exists() else _bases(source):
        found = cached_file(
            base,
            SENTENCEPIECE,
            revision=revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            _raise_exceptions_for_gated_repo=False,
        )
        if found:
            shutil.copyfile(found, target)
            break
    if target.exists():
        _check_vocabulary(target, json.loads((folder / "config.json").read_text(encoding="utf-8")), source.location)


def _check_vocabulary(file: Path, config: Mapping[str, Any], name: str) -> None:
    """Raise BadInput for a tokenizer.model that cannot be read, or has more tokens than the model has embeddings."""
    from sentencepiece import SentencePieceProcessor

    remedy = "put the file of the model's own base beside its tokenizer.json"
    try:
        tokens = SentencePieceProcessor(model_file=str(file)).vocab_size()
    except (OSError, RuntimeError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise BadInput(f"export: {name}: its tokenizer.model cannot be read ({reason}); {remedy}") from None
    rows = config.get("vocab_size") or (config.get("text_config") or {}).get("vocab_size") or tokens
    if tokens > rows:
        raise BadInput(
            f"export: {name}: its tokenizer.model has {tokens:,} tokens, and the model {rows:,}: it is of another "
            f"base; {remedy}"
        )


def _bases(source: Source) -> Iterator[tuple[str, str | None]]:
    """Yield (folder or hub id, revision) of what the weights come from: the model itself, then the base of its run, and
    of the run that this base comes from."""
    if source.run is None:
        is_adapter = (Path(source.location) / ADAPTER).is_file()
        yield base_of(source) if is_adapter else (source.location, None)
    run, seen = source.run, set()
    while run is not None and run.folder not in seen:
        seen.add(run.folder)
        model = pinned(run.plan(), run).job.model
        yield model.base, model.revision
        run = run_of(Path(model.base)) if Path(model.base).is_dir() else None


def _adapt_settings(folder: Path, finder: ReplyFinder, tokenizer: Any) -> None:
    """Keep a server from adding what training did not see: a bos token that the chat template does not write, and a
    space after each special token, which llama.cpp adds for a SentencePiece vocabulary unless it is told not to."""
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    text = finder.template.render([Message("user", "hello")], prompt=True)
    adds = bool(tokenizer.bos_token) and tokenizer("hello")["input_ids"][:1] == [tokenizer.bos_token_id]
    settings["add_bos_token"] = adds and text.startswith(tokenizer.bos_token)
    settings["add_eos_token"] = False
    if (folder / SENTENCEPIECE).exists() and tokenizer.eos_token:
        after_special = tokenizer(f"{tokenizer.eos_token}hello", add_special_tokens=False)["input_ids"][1]
        settings["add_prefix_space"] = tokenizer.convert_ids_to_tokens(after_special).startswith("▁")
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False), encoding="utf-8")
