"""Parts 2, 3 and 7: hatrain's trainer and TRL's in turns on the same rows, and a profile of hatrain's steps."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from bench.gpu import figures
from bench.gpu.inputs import Inputs
from bench.gpu.part import Part, release
from bench.gpu.trainers import WARMUP, Enough, Measured, Setting, run_hatrain, synchronize, time_hatrain, time_trl
from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory
from hatrain.model.tokenizer import tokenizer_of
from hatrain.train.rows import load_rows
from launch import efficiency

MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LORA = {"rank": 16, "alpha": 32, "dropout": 0, "modules": MODULES}
ROUNDS = 2
LOADING_SECONDS = 8.0
"""To load a model and warm up, about."""
PROFILED_STEPS = 10
KERNELS = 10


class Comparison:
    """One training on both sides: TRL's candidates are tried, the fastest then runs in turns with hatrain."""

    def __init__(self, part: Part, inputs: Inputs, title: str, plan: Plan, seconds: float):
        self.part, self.inputs, self.title, self.plan = part, inputs, title, plan
        self.end = part.left - seconds
        """What the part must have left when this comparison ends."""
        self.tokenizer = tokenizer_of(plan.job.model)
        self.rows: Any = load_rows(plan, self.tokenizer, RunDirectory(Path(plan.paths.run))).train
        self.tokens_per_row = float(self.rows.lengths.mean())
        self.factor = figures.LORA if plan.job.method.lora else figures.FULL

    def run(self, settings: list[Setting]) -> None:
        """Measure for `seconds`, in turns. hatrain begins, so that its figure is there whatever TRL does."""
        best: Setting | None = None
        for turn in range(1, ROUNDS + 1):
            if self._has_time(f"hatrain, turn {turn}"):
                with self.part.item(f"{self.title}: hatrain, turn {turn}"):
                    job = self.plan.job
                    # What shares prefixes, as by_prefix orders rows, says nothing of other rows.
                    of = {} if job.data.order == "by_prefix" else {"training": efficiency.training_of(job)}
                    measured = time_hatrain(self.plan, self._turn(turn))
                    self._record(f"hatrain, turn {turn}", measured, compiled=job.hardware.compile, **of)
            if turn == 1:
                best = self._fastest(settings)
            if best and self._has_time(f"TRL, turn {turn}"):
                with self.part.item(f"{self.title}: TRL, turn {turn} ({best.name})"):
                    self._record(f"TRL, turn {turn} ({best.name})", self._trl(best, self._turn(turn)))

    def _turn(self, turn: int) -> float:
        """Seconds of a timed turn: less where little time is left, for loading a model takes some too."""
        if self.part.short:
            return 1.0
        turns = 2 * (ROUNDS - turn) + 2
        return min(12.0, max(4.0, (self.part.left - self.end) / turns - LOADING_SECONDS))

    def _has_time(self, what: str, seconds: float = LOADING_SECONDS) -> bool:
        left = self.part.left - self.end
        if left < seconds:
            self.part.skip(f"{self.title}: {what}", f"skipped: {max(left, 0):.0f} s left, it needs {seconds:.0f}")
        return left >= seconds

    def _fastest(self, settings: list[Setting]) -> Setting | None:
        """The setting that trains the most tokens a second, of those that work and that there is time to try."""
        if len(settings) == 1:
            return settings[0]
        speeds: dict[float, Setting] = {}
        for setting in settings:
            # Two turns must still fit after it.
            if not self._has_time(f"TRL tried, {setting.name}", 4 * LOADING_SECONDS if speeds else LOADING_SECONDS):
                continue
            with self.part.item(f"{self.title}: TRL tried, {setting.name}", optional=True):
                measured = self._trl(setting, 0.0)
                self._record(f"TRL tried, {setting.name}", measured)
                speeds[measured.tokens / measured.seconds] = setting
        return speeds[max(speeds)] if speeds else None

    def _trl(self, setting: Setting, seconds: float) -> Measured:
        folder = self.part.work / "trl"
        rows = self._pairs() if self.plan.job.method.kind == "dpo" else self._tokenized()
        return time_trl(self.plan, setting, rows, self.tokenizer, folder, self.tokens_per_row, seconds)

    def _tokenized(self) -> Any:
        from datasets import Dataset

        columns = {name: [list(map(int, ids)) for ids in getattr(self.rows, name)] for name in ("input_ids", "labels")}
        return Dataset.from_dict(columns)

    def _pairs(self) -> Any:
        """Pairs in TRL's format, of the same tokens."""
        from datasets import Dataset

        return Dataset.from_list(
            [pair_columns(*sides) for sides in zip(self.rows.chosen, self.rows.rejected, strict=True)]
        )

    def _record(self, name: str, measured: Measured, **of: Any) -> None:
        self.part.record(
            f"{self.title}: {name}",
            steps=measured.steps,
            seconds=measured.seconds,
            rows_per_second=measured.rows / measured.seconds,
            tokens_per_second=measured.tokens / measured.seconds,
            mfu=figures.mfu(measured.weights, measured.tokens, measured.seconds, factor=self.factor)
            if self.inputs.device == "cuda"
            else None,
            peak_memory=measured.memory,
            weights=measured.weights,
            tokens_per_row=self.tokens_per_row,
            **({"note": f"packing: {measured.packing}"} if measured.packing else {}),
            **of,
        )


def pair_columns(chosen: Any, rejected: Any) -> dict[str, list[int]]:
    """A labelled pair as the token ids that TRL's collator expects. TRL trains an answer to its last token: what the
    chat template writes after its end is left out, as it is not trained by hatrain."""
    ids = [list(map(int, side.input_ids)) for side in (chosen, rejected)]
    start, end = chosen.replies[0]
    return {
        "prompt_ids": ids[0][:start],
        "chosen_ids": ids[0][start:end],
        "rejected_ids": ids[1][start : rejected.replies[0][1]],
    }


def sft_settings(inputs: Inputs, tokens_per_row: float, ctx_size: int, rows_per_step: int) -> list[Setting]:
    """TRL's settings worth trying here, with about as many tokens in a step as hatrain's."""
    packs = max(1, round(rows_per_step * tokens_per_row / ctx_size))
    micro = min(4, packs)
    accumulation = max(1, packs // micro)
    rows = 2 if inputs.short else 8
    settings = [
        Setting("packed (wrapped, rows see each other), sdpa", "sdpa", "wrapped", micro, accumulation),
        Setting("padded, sdpa", "sdpa", None, rows, rows_per_step // rows),
        Setting("packed (bfd), sdpa", "sdpa", "bfd", micro, accumulation),
    ]
    for attention, module in (("flash_attention_3", "flash_attn_interface"), ("flash_attention_2", "flash_attn")):
        if importlib.util.find_spec(module):
            return [Setting(f"packed (bfd), {attention}", attention, "bfd", micro, accumulation), *settings[:2]]
    if inputs.device == "cuda":
        settings.append(Setting("packed (bfd), flex_attention", "flex_attention", "bfd", micro, accumulation))
    return settings


def sft_method(inputs: Inputs) -> dict[str, Any]:
    sizes = {"micro_batch_size": 2, "batch_size": 4} if inputs.short else {"micro_batch_size": 8, "batch_size": 32}
    return {**sizes, "ctx_size": 2048, "gradient_checkpointing": False, "epochs": 100}


def full(part: Part) -> None:
    inputs = Inputs(part.work, part.short)
    shape = inputs.shape("1.1b")
    method = sft_method(inputs)
    base = inputs.base(shape)
    plan = inputs.plan("full", base, method)

    def shuffled() -> None:
        comparison = Comparison(part, inputs, f"SFT {shape}, all weights", plan, part.left / 2)
        comparison.run(sft_settings(inputs, comparison.tokens_per_row, method["ctx_size"], method["batch_size"]))

    def homes() -> None:
        by_prefix = inputs.plan("homes", base, {**method, "train": inputs.homes}, data={"order": "by_prefix"})
        title = f"SFT {shape}, all weights, 8 requests a home"
        comparison = Comparison(part, inputs, title, by_prefix, part.left)
        settings = sft_settings(inputs, comparison.tokens_per_row, method["ctx_size"], method["batch_size"])
        comparison.run([settings[0], settings[-1]])

    def compiled() -> None:
        with_compile = inputs.plan("compiled", base, method, hardware={"compile": True})
        Comparison(part, inputs, f"SFT {shape}, all weights, layers compiled", with_compile, part.left).run([])

    items = {f"SFT {shape}": shuffled, f"SFT {shape}, 8 requests a home": homes}
    part.each(items | {f"SFT {shape}, layers compiled": compiled}, 10 if part.short else 20)


def more(part: Part) -> None:
    inputs = Inputs(part.work, part.short)
    method = sft_method(inputs)
    large, medium = inputs.shape("3b"), inputs.shape("1.1b")

    def lora() -> None:
        plan = inputs.plan("lora", inputs.base(large), {**method, "lora": LORA})
        comparison = Comparison(part, inputs, f"SFT {large}, LoRA", plan, part.left / 2)
        settings = sft_settings(inputs, comparison.tokens_per_row, method["ctx_size"], method["batch_size"])
        comparison.run([settings[0], settings[-1]])

    def four_bits() -> None:
        quantized = {"quantization": "4bit"}
        plan = inputs.plan("lora-4bit", inputs.base(large), {**method, "lora": LORA}, model=quantized)
        comparison = Comparison(part, inputs, f"SFT {large}, LoRA on 4 bits", plan, part.left / 2)
        comparison.run(sft_settings(inputs, comparison.tokens_per_row, method["ctx_size"], method["batch_size"])[:1])

    def dpo() -> None:
        sizes = {"micro_batch_size": 2, "batch_size": 4} if part.short else {"micro_batch_size": 4, "batch_size": 16}
        plan = inputs.plan("dpo", inputs.base(medium), {**method, **sizes, "kind": "dpo"})
        comparison = Comparison(part, inputs, f"DPO {medium}, all weights", plan, part.left)
        accumulation = sizes["batch_size"] // sizes["micro_batch_size"]
        comparison.run([Setting("padded, sdpa", "sdpa", None, sizes["micro_batch_size"], accumulation)])

    items: dict[str, Callable[[], None]] = {f"SFT {large}, LoRA": lora}
    if importlib.util.find_spec("bitsandbytes"):
        items[f"SFT {large}, LoRA on 4 bits"] = four_bits
    else:
        part.skip(f"SFT {large}, LoRA on 4 bits", "bitsandbytes is not installed")
    items[f"DPO {medium}"] = dpo
    part.each(items, 10 if part.short else 20)


class _Profile(TrainerCallback):
    """Profiles some steps after the warm-up, then leaves the trainer."""

    def __init__(self, on_gpu: bool):
        activity = torch.profiler.ProfilerActivity.CUDA if on_gpu else torch.profiler.ProfilerActivity.CPU
        self.profiler = torch.profiler.profile(activities=[activity])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == WARMUP:
            synchronize()
            self.profiler.start()
        elif state.global_step == WARMUP + PROFILED_STEPS:
            synchronize()
            self.profiler.stop()
            raise Enough


def profile(part: Part) -> None:
    inputs = Inputs(part.work, part.short)
    plan = inputs.plan("profile", inputs.base(inputs.shape("1.1b")), sft_method(inputs))
    callback = _Profile(inputs.device == "cuda")
    run_hatrain(plan, lambda trainer: trainer.add_callback(callback))
    release()
    results: Any = callback.profiler.profiler
    wanted = torch.autograd.DeviceType.CUDA if inputs.device == "cuda" else torch.autograd.DeviceType.CPU
    events = [
        (event.name(), event.start_ns() / 1e9, (event.start_ns() + event.duration_ns()) / 1e9)
        for event in results.kineto_results.events()
        if event.device_type() == wanted and not event.is_user_annotation()  # which span kernels
    ]
    if inputs.device == "cpu":
        part.skip("share of time in which the GPU waits", "needs CUDA; below are operations of the CPU, nested")
    else:
        whole = max(end for _, _, end in events) - min(start for _, start, _ in events)
        covered = figures.busy((start, end) for _, start, end in events)
        part.record(f"{PROFILED_STEPS} steps", seconds=whole, gpu_waits=1 - covered / whole)
    for name, calls, seconds, share in figures.most_expensive(events, KERNELS):
        part.record(name[:120], calls=calls, seconds=seconds, share=share)


if __name__ == "__main__":
    this = Part.of(sys.argv[1:])
    {"full": full, "more": more, "profile": profile}[this.name](this)
