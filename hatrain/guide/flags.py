"""Maps the flags of the training guide's train.py to the keys of a job.

Every flag sets a key, is refused, or gets a note that says why it has no effect.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hatrain.contract.keys import target
from hatrain.contract.load import Document, Key, validate
from hatrain.contract.other_words import KEYS
from hatrain.contract.run import RunDirectory, runs_root
from hatrain.contract.spec import HardwareSpec, JobSpec
from hatrain.errors import BadInput, nearest
from hatrain.guide.machine import this_machine


@dataclass(frozen=True)
class Flag:
    sets: str
    """What it sets, for `--help`: a key of a job, dotted; for a switch also the value."""
    key: Key | None = None
    """That key, if the flag's value is used unchanged."""
    switch: bool = False
    """Whether it needs no value (`--bf16`); true or false may follow."""
    only_with: str | None = None
    """The switch without which train.py ignores it."""
    listed: bool = False
    """Whether its value is a list, whose parts may stand apart (`12, 34`)."""


def _value(dotted: str, only_with: str | None = None, *, listed: bool = False) -> Flag:
    return Flag(dotted, tuple(dotted.split(".")), only_with=only_with, listed=listed)


def _switch(sets: str, only_with: str | None = None) -> Flag:
    return Flag(sets, switch=True, only_with=only_with)


# Source: TrainingRunArguments in the guide's train.py. Its defaults are those of a job (hatrain/contract/spec.py);
# only its switches are all off by default.
FLAGS: Mapping[str, Flag] = {
    "run_name": _value("name"),
    "base_model": Flag("model.base"),
    "bf16": _switch("model.dtype: bf16"),
    "train_dataset": _value("data.train"),
    "test_dataset": _value("data.test"),
    "learning_rate": _value("method.learning_rate"),
    "learning_rate_warmup": _value("method.learning_rate_warmup"),
    "learning_rate_schedule": _value("method.learning_rate_schedule"),
    "batch_size": _value("method.batch_size"),
    "micro_batch_size": _value("method.micro_batch_size"),
    "epochs": _value("method.epochs"),
    "gradient_checkpointing": _switch("method.gradient_checkpointing: true"),
    "group_by_length": _switch("data.order: by_length"),
    "ctx_size": _value("method.ctx_size"),
    "save_steps": Flag("checkpoints.save_steps; -1 saves at the end of each epoch"),
    "save_total_limit": _value("checkpoints.save_total_limit"),
    "eval_steps": Flag("evaluation.eval_steps"),
    "logging_steps": _value("logging.logging_steps"),
    "weight_decay": _value("method.weight_decay"),
    "gradient_clip": _value("method.gradient_clip"),
    "resume_from_checkpoint": Flag("nothing: a run resumes from its newest checkpoint by itself"),
    "add_pad_token": _switch("model.add_pad_token: true"),
    "add_chatml_tokens": _switch("model.add_chatml_tokens: true"),
    "use_lora": _switch("method.lora"),
    "lora_rank": _value("method.lora.rank", "use_lora"),
    "lora_alpha": _value("method.lora.alpha", "use_lora"),
    "lora_dropout": _value("method.lora.dropout", "use_lora"),
    "lora_modules": _value("method.lora.modules", "use_lora", listed=True),
    "lora_modules_to_save": _value("method.lora.modules_to_save", "use_lora", listed=True),
    "lora_merge": _switch("method.lora.merge: true", "use_lora"),
    "load_in_8bit": _switch("model.quantization: 8bit"),
    "load_in_4bit": _switch("model.quantization: 4bit"),
    "load_as_gptq": _switch("model.quantization: gptq"),
    "dpo": _switch("method.kind: dpo"),
    "beta": _value("method.beta", "dpo"),
    "dpo_loss": _value("method.loss", "dpo"),
    "prefix_ids": _value("data.prefix_ids", listed=True),
    "suffix_ids": _value("data.suffix_ids", listed=True),
    "sync_to_bucket": Flag("checkpoints.sync_to: s3://BUCKET"),
}

NEEDED = ("run_name", "base_model", "train_dataset")

# Flags of train.py that a job has no key for. They are refused rather than ignored.
UNSUPPORTED: Mapping[str, str] = {
    "add_chatml_prompt_template": "--add_chatml_tokens sets the template as well",
    "dataset_processing_threads": "the plan decides how many processes read the rows",
    "pre_allocate_cuda_buffers": "memory is not allocated in advance",
    "bucket_save_limit": "--save_total_limit applies to the copies as well",
    "flops_baseline": "training speed is not compared with a baseline",
}

_TRUE = {"true", "yes", "t", "y", "1"}
_FALSE = {"false", "no", "f", "n", "0"}
_QUANTIZATION = {"load_in_8bit": "8bit", "load_in_4bit": "4bit", "load_as_gptq": "gptq"}


def _name(token: str) -> str:
    """Return a flag's name in train.py's spelling, without leading dashes."""
    return token.partition("=")[0].lstrip("-").replace("-", "_")


def _given(argv: Sequence[str]) -> list[str]:
    """Return the flags of train.py among arguments, as they were typed."""
    return [token.partition("=")[0] for token in argv if token.startswith("--") and _name(token) in FLAGS]


def is_guide_command(argv: Sequence[str]) -> bool:
    """Whether the arguments are train.py's flags rather than a job with hatrain's options. Raises BadInput for both."""
    given = _given(argv)
    if given and not _is_flag(argv[0]):
        settings = " ".join(_as_settings(argv))
        raise BadInput(
            f"{', '.join(given)}: the training guide's, which go without a job; accepted: {argv[0]}"
            f"{f' {settings}' if settings else ''}, or all of the guide's command"
        )
    return bool(given)


def whose_flags(argv: Sequence[str]) -> list[str]:
    """Return a line that says whose flags these are, where one of NEEDED is missing."""
    given = _given(argv)
    if set(NEEDED) <= set(map(_name, given)):
        return []
    needed = ", ".join(f"--{name}" for name in NEEDED)
    return [
        f"{', '.join(given)}: flags of the training guide's train.py, which needs {needed}; "
        f"with a job: hatrain train JOB {' '.join(_as_settings(argv))}"
    ]


def flags_help() -> str:
    width = max(map(len, FLAGS)) + 2
    return "\n".join(f"  {'--' + name:<{width}}  {flag.sets}" for name, flag in FLAGS.items())


# --- reading ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Flags:
    """The flags of a command line by train.py's names. `spelling` has each as it was typed."""

    values: Mapping[str, str]
    switches: frozenset[str]
    spelling: Mapping[str, str]

    def __contains__(self, name: str) -> bool:
        return name in self.values or name in self.switches


def read_flags(argv: Sequence[str]) -> Flags:
    """Read `--flag value`, `--flag=value` and switches, in either spelling. Raises BadInput with every problem."""
    values: dict[str, str] = {}
    switches: set[str] = set()
    spelling: dict[str, str] = {}
    problems: list[str] = []
    tokens = list(argv)
    while tokens:
        token = tokens.pop(0)
        if not _is_flag(token):
            problems.append(f"found {token!r}; accepted: a flag")
            continue
        written, equals, value = token.partition("=")
        name = _name(token)
        if problem := _unknown(name, written):
            problems.append(problem)
            if not equals and tokens and not _is_flag(tokens[0]):
                tokens.pop(0)
            continue
        if name in spelling:
            problems.append(f"{written}: given twice")
        spelling[name] = written
        if FLAGS[name].switch:
            state = (value if equals else tokens[0] if tokens else "").lower()
            if not equals and state in _TRUE | _FALSE:
                tokens.pop(0)
            if state in _TRUE or not (equals or state in _FALSE):
                switches.add(name)
            elif state not in _FALSE:
                problems.append(f"{written}: found {value!r}; accepted: no value, true or false")
        elif equals:
            values[name] = value
        elif tokens and not _is_flag(tokens[0]):
            values[name] = tokens.pop(0)
        else:
            problems.append(f"{written}: found nothing; accepted: a value")
        if FLAGS[name].listed and name in values:
            parts = [values[name]]
            while tokens and not _is_flag(tokens[0]):
                parts.append(tokens.pop(0))
            values[name] = ",".join(part for part in re.split(r"[\s,]+", " ".join(parts).strip("[]() ")) if part)
    if problems:
        raise BadInput(problems)
    return Flags(values, frozenset(switches), spelling)


def _is_flag(token: str) -> bool:
    return re.match(r"--?[A-Za-z]", token) is not None


def _unknown(name: str, written: str) -> str | None:
    if not written.startswith("--"):
        return f"{written}: no such flag; accepted: train.py's flags, which begin with two dashes"
    if name in UNSUPPORTED:
        return f"{written}: not supported: {UNSUPPORTED[name]}; leave it out"
    if name not in FLAGS:
        return f"{written}: no such flag{_of_another_program(name) or nearest(name, FLAGS).replace('mean ', 'mean --')}"
    return None


def _of_another_program(name: str) -> str:
    """Return the flag that sets what another program's name stands for."""
    meant = target(KEYS[name]) if name in KEYS else ""
    near = [known for known, flag in FLAGS.items() if meant and target(flag.sets) == meant]
    return f"; did you mean --{near[0]}?" if near else ""


def _as_settings(argv: Sequence[str]) -> list[str]:
    """Return the guide's flags of a command line as `--set KEY=VALUE`, for a command that names a job file. Others are
    left out."""
    settings, tokens = [], list(argv)
    while tokens:
        token = tokens.pop(0)
        flag = FLAGS.get(_name(token)) if token.startswith("--") else None
        if flag is None or not re.match(r"[a-z_.]+(:|$)", flag.sets):
            continue
        key, _, value = flag.sets.partition(": ")
        if not flag.switch:
            value = token.partition("=")[2] or (tokens.pop(0) if tokens and not _is_flag(tokens[0]) else "VALUE")
        settings.append(shlex.join(["--set", f"{key}={value or '{}'}"]))
    return settings


# --- from flags to a job ------------------------------------------------------------------------------------


def job_from_flags(argv: Sequence[str], hardware: HardwareSpec | None = None) -> tuple[JobSpec, list[str]]:
    """Return the job that train.py's flags describe, and notes on what a user may not expect.

    Without `hardware` the job is to run on this machine now: it gets this machine's GPU (one process, or torchrun's),
    and a checkpoint to resume from must be the one that the run would use. Raises BadInput with every problem, by flag.
    """
    given = read_flags(argv)
    problems = [f"--{name}: missing, and has no default" for name in NEEDED if name not in given]
    problems += [
        f"{given.spelling[name]}: has no effect without --{flag.only_with}; add it, or leave both out"
        for name, flag in FLAGS.items()
        if flag.only_with and name in given and flag.only_with not in given
    ]
    problems += _conflicts(given)
    if problems:
        raise BadInput(problems)

    job = validate(JobSpec, _document(given, hardware or this_machine()))
    notes = _notes(given, job)
    if "resume_from_checkpoint" in given and given.values["resume_from_checkpoint"]:
        notes.append(_resume(given, job.name, runs_now=hardware is None))
    return job, notes


def _conflicts(given: Flags) -> list[str]:
    problems = []
    kinds = [name for name in _QUANTIZATION if name in given]
    if len(kinds) > 1:
        problems.append(f"{' and '.join('--' + kind for kind in kinds)}: only one of them is accepted")
    for name, other in (("prefix_ids", "suffix_ids"), ("suffix_ids", "prefix_ids")):
        if name in given and other not in given:
            problems.append(f"{given.spelling[name]}: needs --{other} as well")
    if given.values.get("eval_steps") == "-1":
        problems.append(
            f"{given.spelling['eval_steps']}: found '-1'; accepted: at least 1, the steps between two evaluations "
            "on the test set (the finished model is always evaluated on all of it)"
        )
    return problems


def _document(given: Flags, hardware: HardwareSpec) -> Document:
    """Return the job's data, with the flag that set each key, so that errors name the flag."""
    document = Document("command line", data={})

    def put(dotted: str, value: object, *flags: str) -> None:
        key: Key = tuple(dotted.split("."))
        at = document.data
        for part in key[:-1]:
            at = at.setdefault(part, {})
        at[key[-1]] = value
        if typed := [given.spelling[flag] for flag in flags if flag in given.spelling]:
            document.overrides[key] = typed[0]

    for name, flag in FLAGS.items():
        if flag.key and name in given.values:
            put(flag.sets, given.values[name], name)

    base = _base(given.values["base_model"])
    put("model.base", base, "base_model")
    put("model.dtype", _dtype(given), "bf16")
    for name in ("add_pad_token", "add_chatml_tokens"):
        if name in given:
            put(f"model.{name}", True, name)
    for name, kind in _QUANTIZATION.items():
        if name in given:
            put("model.quantization", kind, name)
    if "group_by_length" in given:
        put("data.order", "by_length", "group_by_length")
    put("method.gradient_checkpointing", "gradient_checkpointing" in given, "gradient_checkpointing")
    put("method.kind", "dpo" if "dpo" in given else "sft", "dpo")
    if "use_lora" in given:
        document.data["method"].setdefault("lora", {})
    if "lora_merge" in given:
        put("method.lora.merge", True, "lora_merge")
    if given.values.get("save_steps", "-1") != "-1":
        put("checkpoints.save_steps", given.values["save_steps"], "save_steps")
    if "eval_steps" in given:
        put("evaluation.eval_steps", given.values["eval_steps"], "eval_steps")
    if "sync_to_bucket" in given:
        put("checkpoints.sync_to", _bucket(given.values["sync_to_bucket"]), "sync_to_bucket")
    if run := _run_of(base):
        put("after", run)
    document.data["hardware"] = hardware.model_dump()
    return document


def _base(value: str) -> str:
    """Drop the `./` and the `/` that the guide writes around a folder."""
    return value.removeprefix("./").rstrip("/") or value


def _run_of(base: str) -> str | None:
    """Return the run whose model is the base: a name under models/ that is not a real folder."""
    name = re.fullmatch(r"models/([^/]+)", base)
    folder = Path(base)
    return name[1] if name and (folder.is_symlink() or not folder.is_dir()) else None


def _dtype(given: Flags) -> str:
    """Return train.py's choice: without --bf16, fp16 for a LoRA on an unquantized base, else fp32."""
    if "bf16" in given:
        return "bf16"
    quantized = any(name in given for name in _QUANTIZATION)
    return "fp16" if "use_lora" in given and not quantized else "fp32"


def _bucket(value: str) -> str:
    """Return a bucket's name as a URL; a folder or a URL is unchanged."""
    return value if not value or "/" in value else f"s3://{value}"


def _notes(given: Flags, job: JobSpec) -> list[str]:
    notes = []
    if "bf16" not in given:
        notes.append(f"no --bf16: model.dtype is {job.model.dtype}, as in train.py")
    if "eval_steps" in given and job.data.test is None:
        notes.append(f"{given.spelling['eval_steps']}: has no effect without --test_dataset")
    if job.checkpoints.sync_to is not None:
        notes.append(f"{given.spelling['sync_to_bucket']}: becomes checkpoints.sync_to: {job.checkpoints.sync_to}")
    if (ranks := job.hardware.nodes * job.hardware.gpus_per_node) > 1:
        batch = job.method.batch_size
        notes.append(
            f"the batch of {batch} rows is divided among {ranks} GPUs; train.py used {batch} rows on each, "
            f"{batch * ranks} per step"
        )
    return notes


def _resume(given: Flags, name: str, runs_now: bool) -> str:
    """Return the note on a checkpoint to resume from. Raises BadInput if the run would use another."""
    flag, value = given.spelling["resume_from_checkpoint"], given.values["resume_from_checkpoint"]
    wanted = Path(value).name
    folder = RunDirectory(runs_root() / name).checkpoints
    if runs_now:
        existing = sorted(
            (path.name for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)),
            key=lambda checkpoint: int(checkpoint.removeprefix("checkpoint-")),
        )
        if wanted not in existing:
            accepted = f"accepted: {existing[-1]}" if existing else "the run has no checkpoint"
            raise BadInput(f"{flag}: found {value!r}, which is not in {folder}; {accepted}")
        if wanted != existing[-1]:
            raise BadInput(
                f"{flag}: found {value!r}, but a run resumes from its newest checkpoint, {existing[-1]}; "
                f"to go back, move the newer ones out of {folder}"
            )
    return f"{flag}: has no effect; a run that is started again resumes from its newest complete checkpoint"
