"""hatrain's preparation of a file: `python hatrain_side.py FOLDER`, with what to do in FOLDER/settings.json."""

import json
import os
import sys
import time
from pathlib import Path

from transformers import AutoTokenizer

from hatrain.data.dataset import tokenize_dataset


def cpu_seconds() -> float:
    """Processor time of this process and of those that it started."""
    return sum(os.times()[:4])


settings = json.loads((Path(sys.argv[1]) / "settings.json").read_text())
tokenizer = AutoTokenizer.from_pretrained(settings["tokenizer"])
tokenizer.chat_template = settings["template"]
began, before = time.perf_counter(), cpu_seconds()
rows = tokenize_dataset(settings["rows"], tokenizer, ctx_size=10**6)
turn = {"seconds": time.perf_counter() - began, "cpu": cpu_seconds() - before, "rows": len(rows)}
print("turn " + json.dumps(turn | {"tokens": float(rows.lengths.sum())}))
