"""Keeps the libraries' chatter out of a run's log, where it would hide what a person needs to see."""

import logging
import os
import warnings


def quiet() -> None:
    """Let transformers, TRL and bitsandbytes speak of errors alone. Call it before they are imported."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
