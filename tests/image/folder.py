"""A folder that is mounted at /workspace in a container, with a job for processors in it."""

from pathlib import Path

USERS = {
    "its own": [],
    "arbitrary": ["--user", "1234567"],
    "in no group of ours": ["--user", "7654321:7654321"],
}
"""The image's own user, OpenShift's, and apptainer's."""
READ_ONLY = ["--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp"]
"""As docker and Kubernetes have it: /tmp is what is asked for, and nothing else comes by itself."""

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


def made(folder: Path, rows: int) -> Path:
    """Make a folder that whoever runs the container may write to, and return it."""
    for part in (folder, folder / "data", folder / "models", folder / "runs"):
        part.mkdir(parents=True, exist_ok=True)
        part.chmod(0o777)
    (folder / "job.yaml").write_text(JOB, encoding="utf-8")
    (folder / "data" / "train.jsonl").write_text("".join(ROW % at for at in range(rows)), encoding="utf-8")
    return folder


def mounted(folder: Path) -> list[str]:
    """Return the options that mount it."""
    return ["--volume", f"{folder}:/workspace"]
