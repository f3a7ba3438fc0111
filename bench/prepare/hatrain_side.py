"""hatrain's preparation of a file: `python hatrain_side.py FOLDER`, with what to do in FOLDER/settings.json."""

import json
import sys
import time
from pathlib import Path

from transformers import AutoTokenizer

from hatrain.data.dataset import tokenize_dataset

settings = json.loads((Path(sys.argv[1]) / "settings.json").read_text())
tokenizer = AutoTokenizer.from_pretrained(settings["tokenizer"])
tokenizer.chat_template = settings["template"]
began = time.perf_counter()
rows = tokenize_dataset(settings["rows"], tokenizer, ctx_size=10**6)
seconds = time.perf_counter() - began
print("turn " + json.dumps({"seconds": seconds, "rows": len(rows), "tokens": float(rows.lengths.sum())}))
