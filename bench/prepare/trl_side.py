"""TRL's own preparation of a file: `python trl_side.py FOLDER PROCESSES`; 0 processes is TRL as it comes.

Only the preparation is timed, without reading the file. It tokenizes whole rows, TRL's default, and finds no replies.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

folder, processes = Path(sys.argv[1]), int(sys.argv[2])
caches = tempfile.mkdtemp(dir=folder)
os.environ["HF_DATASETS_CACHE"] = caches  # nothing is found from an earlier turn

from datasets import load_dataset  # noqa: E402
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM  # noqa: E402
from trl import SFTConfig, SFTTrainer  # noqa: E402


class Timed(SFTTrainer):
    seconds: float
    cpu: float

    def _prepare_dataset(self, *args: Any, **kwargs: Any) -> Any:
        began, before = time.perf_counter(), os.times()
        prepared = super()._prepare_dataset(*args, **kwargs)
        Timed.seconds, Timed.cpu = time.perf_counter() - began, sum(os.times()[:4]) - sum(before[:4])
        return prepared


settings = json.loads((folder / "settings.json").read_text())
tokenizer = AutoTokenizer.from_pretrained(settings["tokenizer"])
tokenizer.chat_template = settings["template"]
shape: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=1, **shape))
rows = load_dataset("json", data_files=settings["rows"], split="train").select_columns(["conversations"])
arguments = SFTConfig(
    output_dir=caches,
    max_length=None,
    bf16=False,
    use_cpu=True,
    report_to="none",
    disable_tqdm=True,
    dataset_num_proc=processes or None,
)
trainer = Timed(model=model, args=arguments, train_dataset=rows, processing_class=tokenizer)
prepared: Any = trainer.train_dataset
tokens = sum(map(len, prepared.with_format(None)["input_ids"]))
turn = {"seconds": Timed.seconds, "cpu": Timed.cpu, "rows": len(prepared), "tokens": tokens}
print("turn " + json.dumps(turn))
