"""Whether a base model in a folder of this machine has a chat template, without which no row can be laid out."""

import json
from collections.abc import Iterator
from pathlib import Path

from hatrain.contract import model_ref
from hatrain.contract.run import RunDirectory
from hatrain.contract.spec import ModelSpec
from hatrain.errors import BadInput
from launch.backends.protocol import Reason

FILES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates")
CONFIG = "tokenizer_config.json"


def refusals(spec: ModelSpec, workdir: Path, runs_root: Path) -> Iterator[Reason]:
    """A base whose tokenizer is here and has none. Nothing is known of one that is on the hub, or made later."""
    if spec.chat_template or spec.add_chatml_tokens:
        return
    try:
        folder = model_ref.find_folder(spec.base, workdir=workdir, runs_root=runs_root)
    except BadInput:
        return
    if folder is None:
        return
    run = RunDirectory(folder)
    folder = run.model if run.model.is_dir() else folder
    if (folder / CONFIG).is_file() and not _has_template(folder):
        yield (
            "model.base",
            f"found {spec.base}, whose tokenizer has no chat template; set model.add_chatml_tokens: true, or "
            "model.chat_template to a Jinja file",
        )


def _has_template(folder: Path) -> bool:
    if any((folder / name).exists() for name in FILES):
        return True
    try:
        return bool(json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("chat_template"))
    except (OSError, ValueError, AttributeError):
        return True  # the run reports a file that cannot be read
