"""The flags of the training guide's train.py, each to the key of a job that it means. No flag is dropped on the way:
it sets a key, or it is refused, or a note says why it changes nothing."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hatrain.contract.load import Document, Key, validate
from hatrain.contract.run import RunDirectory, runs_root
from hatrain.contract.spec import HardwareSpec, JobSpec
from hatrain.errors import BadInput, nearest
from hatrain.guide.machine import this_machine


@dataclass(frozen=True)
class Flag:
    """One flag: what it sets, in words for `--help`, and how."""

    sets: str
    """The key of a job, dotted; for a switch with the value it writes."""
    key: Key | None = None
    """The same key for a flag whose value goes in as it stands."""
    switch: bool = False
    """Whether it stands alone (`--bf16`), or with true or false behind it."""
    only_with: str | None = None
    """The switch without which train.py never looks at it."""


def _value(dotted: str, only_with: str | None = None) -> Flag:
    return Flag(dotted, tuple(dotted.split(".")), only_with=only_with)


def _switch(sets: str, only_with: str | None = None) -> Flag:
    return Flag(sets, switch=True, only_with=only_with)


# Names and meanings: TrainingRunArguments in the guide's train.py. Its defaults are the job's own (hatrain/spec.py)
# except for the switches, all of which are off until they are given.
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
    "resume_from_checkpoint": Flag("nothing: a run goes on from its newest checkpoint by itself"),
    "add_pad_token": _switch("model.add_pad_token: true"),
    "add_chatml_tokens": _switch("model.add_chatml_tokens: true"),
    "use_lora": _switch("method.lora"),
    "lora_rank": _value("method.lora.rank", "use_lora"),
    "lora_alpha": _value("method.lora.alpha", "use_lora"),
    "lora_dropout": _value("method.lora.dropout", "use_lora"),
    "lora_modules": _value("method.lora.modules", "use_lora"),
    "lora_modules_to_save": _value("method.lora.modules_to_save", "use_lora"),
    "lora_merge": _switch("method.lora.merge: true", "use_lora"),
    "load_in_8bit": _switch("model.quantization: 8bit"),
    "load_in_4bit": _switch("model.quantization: 4bit"),
    "load_as_gptq": _switch("model.quantization: gptq"),
    "dpo": _switch("method.kind: dpo"),
    "beta": _value("method.beta", "dpo"),
    "dpo_loss": _value("method.loss", "dpo"),
    "prefix_ids": _value("data.prefix_ids"),
    "suffix_ids": _value("data.suffix_ids"),
    "sync_to_bucket": Flag("checkpoints.sync_to: s3://BUCKET"),
}

# What train.py knows as well, and a job has no place for. Refused, for to take one and do nothing would be a lie.
WITHOUT_A_PLACE: Mapping[str, str] = {
    "add_chatml_prompt_template": "--add_chatml_tokens brings the template along",
    "dataset_processing_threads": "how many processes read the rows is decided here",
    "pre_allocate_cuda_buffers": "no memory is reserved ahead of its use",
    "bucket_save_limit": "--save_total_limit counts the copies as well",
    "flops_baseline": "a GPU's speed is known from its name",
}

_TRUE = {"true", "yes", "t", "y", "1"}
_FALSE = {"false", "no", "f", "n", "0"}
_QUANTIZATION = {"load_in_8bit": "8bit", "load_in_4bit": "4bit", "load_as_gptq": "gptq"}


def _name(token: str) -> str:
    """Return a flag's name without dashes in front, in train.py's spelling."""
    return token.partition("=")[0].lstrip("-").replace("-", "_")


def is_guide_command(argv: Sequence[str]) -> bool:
    """Return whether the arguments are train.py's flags, and not a job's name with options of our own."""
    return any(token.startswith("--") and _name(token) in FLAGS for token in argv)


def flags_help() -> str:
    """Return the flags with the job's key that each sets, a line each."""
    width = max(map(len, FLAGS)) + 2
    return "\n".join(f"  {'--' + name:<{width}}  {flag.sets}" for name, flag in FLAGS.items())


# --- reading ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Given:
    """The flags of one command line by train.py's names, with the spelling that stood there."""

    values: Mapping[str, str]
    switches: frozenset[str]
    spelling: Mapping[str, str]

    def __contains__(self, name: str) -> bool:
        return name in self.values or name in self.switches


def read_flags(argv: Sequence[str]) -> Given:
    """Read `--flag value`, `--flag=value` and switches, in either spelling. Raises BadInput with every problem."""
    values: dict[str, str] = {}
    switches: set[str] = set()
    spelling: dict[str, str] = {}
    problems: list[str] = []
    tokens = list(argv)
    while tokens:
        token = tokens.pop(0)
        if not _is_flag(token):
            problems.append(f"found {token!r} where a flag was expected")
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
            word = (value if equals else tokens[0] if tokens else "").lower()
            if not equals and word in _TRUE | _FALSE:
                tokens.pop(0)
            if word in _TRUE or not (equals or word in _FALSE):
                switches.add(name)
            elif word not in _FALSE:
                problems.append(f"{written}: found {value!r}; accepted: alone, or with true or false")
        elif equals:
            values[name] = value
        elif tokens and not _is_flag(tokens[0]):
            values[name] = tokens.pop(0)
        else:
            problems.append(f"{written}: found nothing; accepted: a value")
    if problems:
        raise BadInput(problems)
    return Given(values, frozenset(switches), spelling)


def _is_flag(token: str) -> bool:
    return re.match(r"--?[A-Za-z]", token) is not None


def _unknown(name: str, written: str) -> str | None:
    if not written.startswith("--"):
        return f"{written}: no such flag; accepted: train.py's flags, which begin with two dashes"
    if name in WITHOUT_A_PLACE:
        return f"{written}: not taken here: {WITHOUT_A_PLACE[name]}; leave it out"
    if name not in FLAGS:
        return f"{written}: no such flag{nearest('--' + name, ['--' + known for known in FLAGS])}"
    return None


# --- from flags to a job ------------------------------------------------------------------------------------


def job_from_flags(argv: Sequence[str], hardware: HardwareSpec | None = None) -> tuple[JobSpec, list[str]]:
    """Return the job that train.py's flags mean, and notes for stderr on what a reader might not expect.

    Without `hardware` the job is for this machine, now: its GPU (one process, or torchrun's), and a checkpoint to
    resume from must be one that the run would go on from. Raises BadInput with every problem, by flag.
    """
    given = read_flags(argv)
    problems = [
        f"--{name}: missing, and has no default"
        for name in ("run_name", "base_model", "train_dataset")
        if name not in given
    ]
    problems += [
        f"{given.spelling[name]}: means nothing without --{flag.only_with}"
        for name, flag in FLAGS.items()
        if flag.only_with and name in given and flag.only_with not in given
    ]
    problems += _conflicts(given)
    if problems:
        raise BadInput(problems)

    job = validate(JobSpec, _document(given, hardware or this_machine()))
    notes = _notes(given, job)
    if "resume_from_checkpoint" in given and given.values["resume_from_checkpoint"]:
        notes.append(_resume(given, job.name, here=hardware is None))
    return job, notes


def _conflicts(given: Given) -> list[str]:
    problems = []
    kinds = [name for name in _QUANTIZATION if name in given]
    if len(kinds) > 1:
        problems.append(f"{' and '.join('--' + kind for kind in kinds)}: one of them, not {len(kinds)}")
    for one, other in (("prefix_ids", "suffix_ids"), ("suffix_ids", "prefix_ids")):
        if one in given and other not in given:
            problems.append(f"{given.spelling[one]}: wants --{other} beside it")
    if given.values.get("eval_steps") == "-1":
        problems.append(
            f"{given.spelling['eval_steps']}: found '-1'; accepted: at least 1, the steps between two looks at "
            "the test set (at the end the model is evaluated on all of it in any case)"
        )
    return problems


def _document(given: Given, hardware: HardwareSpec) -> Document:
    """Return the job's data, each key with the flag that set it, so that the schema's errors name the flag."""
    document = Document("command line", data={})

    def put(dotted: str, value: object, *flags: str) -> None:
        key: Key = tuple(dotted.split("."))
        at = document.data
        for part in key[:-1]:
            at = at.setdefault(part, {})
        at[key[-1]] = value
        if spelled := [given.spelling[flag] for flag in flags if flag in given.spelling]:
            document.overrides[key] = spelled[0]

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
    if run := _run_before(base):
        put("after", run)
    document.data["hardware"] = hardware.model_dump()
    return document


def _base(value: str) -> str:
    """Return a base model without the `./` and the `/` that the guide puts around a folder."""
    return value.removeprefix("./").rstrip("/") or value


def _run_before(base: str) -> str | None:
    """Return the run whose model is the base: a name under models/, unless a real folder of that name is there."""
    found = re.fullmatch(r"models/([^/]+)", base)
    folder = Path(base)
    return found[1] if found and (folder.is_symlink() or not folder.is_dir()) else None


def _dtype(given: Given) -> str:
    """Return train.py's choice: without --bf16 a LoRA's unquantised base is read in fp16, all else in fp32."""
    if "bf16" in given:
        return "bf16"
    quantised = any(name in given for name in _QUANTIZATION)
    return "fp16" if "use_lora" in given and not quantised else "fp32"


def _bucket(value: str) -> str:
    """Return a bucket's name as an address; a folder or an address stays as it is."""
    return value if not value or "/" in value else f"s3://{value}"


def _notes(given: Given, job: JobSpec) -> list[str]:
    notes = []
    if "bf16" not in given:
        notes.append(f"no --bf16: model.dtype is {job.model.dtype}, as in train.py")
    if "eval_steps" in given and job.data.test is None:
        notes.append(f"{given.spelling['eval_steps']}: changes nothing as long as there is no --test_dataset")
    if job.checkpoints.sync_to is not None:
        notes.append(
            f"{given.spelling['sync_to_bucket']}: becomes checkpoints.sync_to: {job.checkpoints.sync_to}"
        )
    if (ranks := job.hardware.nodes * job.hardware.gpus_per_node) > 1:
        batch = job.method.batch_size
        notes.append(
            f"the batch of {batch} rows is over all {ranks} GPUs; train.py did not divide by their number and took "
            f"{batch * ranks} rows a step"
        )
    return notes


def _resume(given: Given, name: str, here: bool) -> str:
    """Return the note on a checkpoint to resume from. Raises BadInput where the run would take another."""
    flag, value = given.spelling["resume_from_checkpoint"], given.values["resume_from_checkpoint"]
    wanted = Path(value).name
    folder = RunDirectory(runs_root() / name).checkpoints
    if here:
        there = sorted(
            (path.name for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)),
            key=lambda checkpoint: int(checkpoint.removeprefix("checkpoint-")),
        )
        if wanted not in there:
            accepted = f"accepted: {there[-1]}" if there else "there is none to go on from"
            raise BadInput(f"{flag}: found {value!r}, which is not in {folder}; {accepted}")
        if wanted != there[-1]:
            raise BadInput(
                f"{flag}: found {value!r}, but {there[-1]} is newer, and a run goes on from its newest; "
                f"to go back, move what is newer out of {folder}"
            )
    return f"{flag}: changes nothing; a run that is started again goes on from its newest complete checkpoint"
