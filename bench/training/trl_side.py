"""TRL's trainers on the rows of a folder: `python trl_side.py FOLDER SETTING`."""

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
from turns import Turns, settings

# Rows of a micro-batch, and what differs from TRL's defaults. bf16, TRL's default, is off: it is another computation,
# and on most processors slower.
SETTINGS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "no checkpointing, 1 row": {"micro": 1, "activation_checkpointing": False},
    "no checkpointing, 2 rows": {"micro": 2, "activation_checkpointing": False},
    "no checkpointing, 4 rows by length": {
        "micro": 4,
        "activation_checkpointing": False,
        "train_sampling_strategy": "group_by_length",
    },
    "packed (bfd)": {"micro": 1, "activation_checkpointing": False, "packing": True, "max_length": 2048},
    "no checkpointing, 1 pair, reference first": {
        "micro": 1,
        "activation_checkpointing": False,
        "precompute_ref_log_probs": True,
    },
    "no checkpointing, 2 pairs, reference first": {
        "micro": 2,
        "activation_checkpointing": False,
        "precompute_ref_log_probs": True,
    },
}


class Counting(SFTTrainer):
    """Counts the supervised tokens that it trains."""

    turns: Turns

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        self.turns.supervised += int((inputs["labels"] != -100).sum())
        return super().training_step(model, inputs, *args, **kwargs)


class WithoutPreparation(DPOTrainer):
    """Takes pairs that are tokenized already."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset


def main(folder: Path, name: str, load: Callable[[str], Any] = AutoModelForCausalLM.from_pretrained) -> None:
    what = settings(folder)
    chosen = dict(SETTINGS[name])
    is_dpo = what["kind"] == "dpo"
    config: Any = DPOConfig if is_dpo else SFTConfig
    fields = {field.name: field.default for field in dataclasses.fields(config)}
    rows_per_step = what["rows_per_step"]
    micro = chosen.pop("micro", min(fields["per_device_train_batch_size"], rows_per_step))
    if "activation_checkpointing" not in fields and "activation_checkpointing" in chosen:
        chosen["gradient_checkpointing"] = chosen.pop("activation_checkpointing")  # its name until transformers 5.17
    is_packed = chosen.get("packing", False)
    # A pack holds about so many rows: as many packs make a step as hold its rows.
    accumulation = max(1, round(rows_per_step * what["tokens_per_row"] / 2048)) if is_packed else rows_per_step // micro
    arguments = config(
        **{
            "output_dir": str(folder / "trl"),
            "per_device_train_batch_size": micro,
            "gradient_accumulation_steps": accumulation,
            "learning_rate": what["learning_rate"],
            "lr_scheduler_type": "constant",
            "weight_decay": 0.1,
            "max_grad_norm": 1.0,
            "num_train_epochs": 100,
            "max_length": None,
            "train_sampling_strategy": "sequential",
            "bf16": False,
            "use_cpu": True,
            "save_strategy": "no",
            "report_to": "none",
            "logging_steps": 1,
            "disable_tqdm": True,
            "dataset_num_proc": None,
            **({"beta": what["beta"]} if is_dpo else {}),
            **chosen,
        }
    )
    turns = Turns(what["steps"])
    trainer: Any = (WithoutPreparation if is_dpo else Counting)(
        model=load(what["base"]),
        args=arguments,
        train_dataset=Dataset.from_list(json.loads((folder / "rows.json").read_text())),
        processing_class=AutoTokenizer.from_pretrained(what["base"]),
        callbacks=[turns],
    )
    trainer.turns = turns
    trainer.train()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
