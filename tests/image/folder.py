"""A folder with a job for CPUs, to be mounted at /workspace."""

from pathlib import Path

from tests.image.engine import Engine

USERS = {
    "the image's": [],
    "arbitrary": ["--user", "1234567"],
    "in another group": ["--user", "7654321:7654321"],
}
"""The image's own user, OpenShift's, and apptainer's."""
READ_ONLY = ["--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp"]
"""As docker and Kubernetes do it: /tmp is the only tmpfs."""

JOB = """\
name: kitchen
model: {base: models/base, dtype: fp32}
data: {train: data/train.jsonl}
method: {kind: sft, learning_rate: 1e-3, batch_size: 4, micro_batch_size: 2, epochs: 1, ctx_size: 256}
hardware: {gpu: cpu, gpus_per_node: 1, sharding: none}
checkpoints: {save_steps: 2}
evaluation: {requests: 0}
logging: {logging_steps: 1}
"""

ROW = (
    '{"conversations": [{"from": "human", "value": "turn on the lamp number %d"}, '
    '{"from": "gpt", "value": "the lamp is on"}]}\n'
)


def make_workspace(folder: Path, rows: int) -> Path:
    """Make a folder that any user of the container can write to."""
    for part in (folder, folder / "data", folder / "models", folder / "runs"):
        part.mkdir(parents=True, exist_ok=True)
        part.chmod(0o777)
    (folder / "job.yaml").write_text(JOB, encoding="utf-8")
    (folder / "data" / "train.jsonl").write_text("".join(ROW % number for number in range(rows)), encoding="utf-8")
    return folder


def make_base(engine: Engine, image: str, folder: Path, hidden: int) -> Path:
    """Make a workspace with 64 rows and a base model, which the image makes, of so many dimensions."""
    make_workspace(folder, rows=64)
    command = f"tiny --data data/train.jsonl --out models/base --vocabulary 300 --hidden {hidden} --layers 1 --heads 2"
    result = engine.run(image, *command.split(), options=[*READ_ONLY, *mounted(folder)])
    assert result.code == 0, result.err
    return folder


def mounted(folder: Path) -> list[str]:
    return ["--volume", f"{folder}:/workspace"]
