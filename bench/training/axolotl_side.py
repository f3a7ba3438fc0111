"""axolotl on the rows of a folder: `python axolotl_side.py FOLDER SETTING`, which is "1 row" or "packed"."""

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["AXOLOTL_DO_NOT_TRACK"] = "1"

from axolotl.cli.args import TrainerCliArgs
from axolotl.cli.config import load_cfg
from axolotl.cli.train import do_train
from axolotl.common.datasets import TrainDatasetMeta
from axolotl.integrations.base import BasePlugin
from datasets import Dataset
from transformers import Trainer
from turns import Turns, settings

PACKED = 2048
"""Tokens of a pack."""


class Rows(BasePlugin):
    """Hands axolotl rows that are tokenized already, and the callback that takes turns."""

    def load_datasets(self, cfg: Any, preprocess: bool = False) -> TrainDatasetMeta:
        from axolotl.utils.trainer import process_datasets_for_packing

        rows = json.loads((Path(cfg.output_dir).parent / "rows.json").read_text())
        data = Dataset.from_list([{**row, "attention_mask": [1] * len(row["input_ids"])} for row in rows])
        if cfg.sample_packing:
            data, _ = process_datasets_for_packing(cfg, data, None)
        return TrainDatasetMeta(data, None, cfg.max_steps)

    def add_callbacks_post_trainer(self, cfg: Any, trainer: Trainer) -> list[Any]:
        turns = Turns(int(settings(Path(cfg.output_dir).parent)["steps"]))
        training_step = trainer.training_step

        def counting(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            turns.supervised += int((inputs["labels"] != -100).sum())
            return training_step(model, inputs, *args, **kwargs)

        trainer.training_step = counting  # type: ignore[method-assign]
        return [turns]


def main(folder: Path, name: str) -> None:
    what = settings(folder)
    is_packed = name == "packed"
    packs = max(1, round(what["rows_per_step"] * what["tokens_per_row"] / PACKED))
    config = {
        "base_model": what["base"],
        "plugins": ["axolotl_side.Rows"],
        "datasets": [{"path": str(folder / "rows.json"), "ds_type": "json", "type": None}],
        "output_dir": str(folder / "axolotl"),
        "sequence_len": PACKED,
        "sample_packing": is_packed,
        "pad_to_sequence_len": False,
        "micro_batch_size": 1,
        "gradient_accumulation_steps": packs if is_packed else what["rows_per_step"],
        "gradient_checkpointing": False,
        "attn_implementation": "sdpa",
        "optimizer": "adamw_torch_fused",
        "learning_rate": what["learning_rate"],
        "lr_scheduler": "constant",
        "weight_decay": 0.1,
        "max_grad_norm": 1.0,
        "max_steps": 10_000,
        "num_epochs": 100,
        "shuffle_before_merging_datasets": False,
        "curriculum_sampling": True,  # rows in their order
        "bf16": False,
        "fp16": False,
        "tf32": False,
        "device": "cpu",
        "logging_steps": 1,
        "save_strategy": "no",
        "val_set_size": 0,
        "seed": 42,
    }
    path = folder / "axolotl.yml"
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    do_train(load_cfg(str(path)), TrainerCliArgs())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
