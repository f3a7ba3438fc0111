"""Looks at the test rows during training: when one is due, what it finds, which checkpoint is the best, and whether
training ends."""

from pathlib import Path
from typing import Any

from transformers import TrainerControl
from transformers.integrations.deepspeed import deepspeed_load_checkpoint

from hatrain.errors import BadInput
from hatrain.runtime import checkpoints
from hatrain.text import count
from hatrain.train import choosing
from hatrain.train.choosing import Look
from hatrain.train.collectives import from_rank_zero


class Looks:
    """The looks of one trainer. What was found is in the trainer's log, and so in every checkpoint."""

    def __init__(self, trainer: Any):
        self.trainer = trainer
        self.settings = trainer.context.plan.job.evaluation
        self.asker: Any = None
        self.kept: int | None = None
        """The step whose weights were kept, once that is decided; None for the last."""

    def prepare(self) -> None:
        """Read the requests, where the job asks some. Raises BadInput for rows that cannot be judged."""
        if self.settings.asks and self.trainer.test_rows:
            from hatrain.train.asking import Asker

            self.asker = Asker(self.trainer)

    def is_due(self, step: int, last: int) -> bool:
        """Whether to look after a step of so many. The last step is looked at where the best is kept."""
        if not self.trainer.test_rows or step == 0:  # an empty test set has no loss
            return False
        return step % self.settings.eval_steps == 0 or (step >= last and self.settings.keep == "best")

    def was_interrupted(self) -> bool:
        """Whether a stop cut the look short at the step that is resumed from."""
        state = self.trainer.state
        known = any("eval_loss" in line and line["step"] == state.global_step for line in state.log_history)
        return self.is_due(state.global_step, state.max_steps) and not known

    def figures(self) -> dict[str, float] | None:
        """Look, and return the trainer's metrics, the same on all ranks, or None if a stop came first. A collective
        call."""
        loss = self.trainer.test_loss(self.trainer.test_sample)
        if loss is None:
            return None
        found = {choosing.LOSS: loss}
        if self.asker is not None:
            accuracy = self.asker.accuracy()
            if accuracy is None:
                return None
            found[choosing.ACCURACY] = accuracy
        return dict(from_rank_zero(found))

    def decide(self, control: TrainerControl) -> None:
        """Save the best look, and end training after too many without gain."""
        if not self.settings.chooses:
            return
        step, best = self.trainer.state.global_step, self.best()
        if best is not None and best.step == step and self.settings.keep == "best":
            control.should_save = True
        if self.have_ended():
            assert best is not None
            passed = count(choosing.without_gain(self._all(), self.settings.metric), "look")
            self.trainer._say(f"training ends after step {step}: {passed} without gain since step {best.step}")
            control.should_save = control.should_training_stop = True

    def best(self) -> Look | None:
        return choosing.best(self._all(), self.settings.metric)

    def have_ended(self) -> bool:
        """Whether there were as many looks without gain as the job allows."""
        patience = self.settings.stop_after
        return patience is not None and choosing.without_gain(self._all(), self.settings.metric) >= patience

    def protected(self) -> int | None:
        """The step whose checkpoint has to stay, however old it is."""
        best = self.best() if self.settings.keep == "best" else None
        return best.step if best else None

    def _all(self) -> tuple[Look, ...]:
        return choosing.looks_of(self.trainer.state.log_history, self.settings.metric)

    # --- after training ---

    def keep(self) -> None:
        """Give the model the weights of the best look, and record what was chosen and why. A collective call.

        A best checkpoint that is not whole is passed over, for the best of those that are.
        """
        trainer, run, attempt = self.trainer, self.trainer.context.run, self.trainer.context.attempt.number
        looks, metric, last = self._all(), self.settings.metric, trainer.state.global_step
        if not self.settings.chooses or not looks:
            return
        best, passed_over = from_rank_zero(self._whole(looks) if trainer.is_world_process_zero() else None)
        if best is None:
            damage = "; ".join(f"checkpoint-{step}: {reason}" for step, reason in passed_over.items())
            raise BadInput(f"evaluation.keep: found best, but no checkpoint of a look is whole ({damage}); write last")
        self.kept = best.step if self.settings.keep == "best" else last
        if self.kept != last:
            self._load(run.checkpoints / checkpoints.folder_name(self.kept))
        if not trainer.is_world_process_zero():
            return
        for step, reason in passed_over.items():
            trainer._say(f"checkpoint-{step} was better, and cannot be used: {reason}")
            run.record("best passed over", attempt=attempt, step=step, reason=reason)
        reason = choosing.why(best, metric, len(looks) - len(passed_over))
        if self.settings.keep == "best":
            trainer._say(f"kept step {self.kept} of {last}: {reason}")
        run.record(
            "kept",
            attempt=attempt,
            step=self.kept,
            best=best.step,
            trained=last,
            steps=trainer.state.max_steps,
            keep=self.settings.keep,
            metric=metric,
            why=reason,
            ended_early=last < trainer.state.max_steps,
            without_gain=choosing.without_gain(looks, metric),
            looks=[look.to_dict() for look in looks],
            **({"requests": self.asker.requests, "apart": self.asker.apart} if self.asker else {}),
        )

    def _whole(self, looks: tuple[Look, ...]) -> tuple[Look | None, dict[int, str]]:
        """Return the best look whose checkpoint is whole, and why better ones are not used. The weights of the last
        step are there without a checkpoint."""
        folder, last = self.trainer.context.run.checkpoints, self.trainer.state.global_step
        identity, passed_over = self.trainer.context.plan.identity, dict[int, str]()
        left = looks
        while (best := choosing.best(left, self.settings.metric)) is not None:
            path = folder / checkpoints.folder_name(best.step)
            reason = None if best.step == last else checkpoints.why_not(path, best.step, identity)
            if reason is None or self.settings.keep == "last":
                break
            passed_over[best.step] = reason
            left = tuple(look for look in left if look.step != best.step)
        return best, passed_over

    def _load(self, checkpoint: Path) -> None:
        """Load a checkpoint's weights into the model, as resuming does. A collective call."""
        trainer = self.trainer
        if trainer.is_deepspeed_enabled:
            is_whole = trainer.context.plan.job.method.lora is None
            deepspeed_load_checkpoint(trainer.model_wrapped, str(checkpoint), load_module_strict=is_whole)
        else:
            model = trainer.model_wrapped if trainer.is_fsdp_enabled else trainer.model
            trainer._load_from_checkpoint(str(checkpoint), model)
