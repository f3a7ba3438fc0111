"""LLaMA-Factory on the rows of a folder: `python llamafactory_side.py FOLDER ROWS`, so many rows in a micro-batch."""

import json
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path

# It imports torchaudio, whose wheels need CUDA's libraries. Rows of text have no sound.
sys.modules["torchaudio"] = types.ModuleType("torchaudio")
sys.modules["torchaudio"].__spec__ = ModuleSpec("torchaudio", None)

from datasets import Dataset, DatasetDict  # noqa: E402
from llamafactory.train.tuner import run_exp  # noqa: E402
from turns import Turns, settings  # noqa: E402


def main(folder: Path, micro: int) -> None:
    what = settings(folder)
    rows = json.loads((folder / "rows.json").read_text())
    tokenized = folder / f"llamafactory-{micro}"
    data = Dataset.from_list([{**row, "attention_mask": [1] * len(row["input_ids"])} for row in rows])
    DatasetDict({"train": data}).save_to_disk(tokenized / "rows")
    arguments = {
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full",
        "model_name_or_path": what["base"],
        # It wants a name also where the rows are tokenized.
        "dataset": "rows",
        "tokenized_path": str(tokenized / "rows"),
        "template": "empty",
        "output_dir": str(tokenized / "out"),
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": what["rows_per_step"] // micro,
        "learning_rate": what["learning_rate"],
        "lr_scheduler_type": "constant",
        "weight_decay": 0.1,
        "num_train_epochs": 100,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_shuffling": True,
        "disable_gradient_checkpointing": True,
        "flash_attn": "sdpa",
        "use_cpu": True,
    }
    run_exp(arguments, callbacks=[Turns(what["steps"])])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
