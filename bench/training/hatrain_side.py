"""hatrain on the rows of a folder: `python -m bench.training.hatrain_side FOLDER PACKING`."""

import sys
from pathlib import Path
from typing import Any

from bench.gpu.trainers import run_hatrain
from bench.training.turns import Turns, settings
from hatrain.contract.plan import Plan


def main(folder: Path, packing: str) -> None:
    what = settings(folder)
    plan = Plan.model_validate_json((folder / "plan.json").read_text())
    method = plan.job.method.model_copy(update={"packing": packing})
    plan = plan.model_copy(update={"job": plan.job.model_copy(update={"method": method})})
    turns = Turns(what["steps"])

    def watch(trainer: Any) -> None:
        trainer.add_callback(turns)
        trainer.args.logging_steps = trainer.state.logging_steps = 1

    run_hatrain(plan, watch)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
