"""Keeps the libraries' chatter out of a run's log, where it would hide what a person needs to see."""

import logging
import os
import warnings


def quiet() -> None:
    """Let transformers, TRL, bitsandbytes and DeepSpeed speak of errors alone. Call it before they are imported."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # A filter, for DeepSpeed sets its logger's level when it is imported, which accelerate does whatever runs.
    logging.getLogger("DeepSpeed").addFilter(_is_an_error)
    warnings.filterwarnings("ignore", category=FutureWarning)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()


def _is_an_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR
