"""Silences messages of libraries that would hide those of a run."""

import logging
import os
import warnings


def quiet() -> None:
    """Let transformers, TRL, bitsandbytes and DeepSpeed log errors only. Call it before they are imported."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # A filter, because DeepSpeed sets its logger's level on import, and accelerate always imports it.
    logging.getLogger("DeepSpeed").addFilter(_is_an_error)
    warnings.filterwarnings("ignore", category=FutureWarning)
    # That it saves embeddings which were resized, and merges into weights of fewer bits: both are wanted.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"peft\.")
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()


def _is_an_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR
