"""Schema of a local cluster file."""

from typing import ClassVar, Literal

from pydantic import Field

from hatrain.contract.cluster.common import BaseCluster, FileSecrets, Line


class LocalCluster(BaseCluster):
    """This machine, without a queue."""

    single_machine: ClassVar[bool] = True
    kind: Literal["local"]
    python: Line | None = None
    """The interpreter with hatrain; the current one when null."""
    secrets: FileSecrets = Field(default_factory=dict)
    """Variables that are read from files, such as HF_TOKEN: {file: ~/.config/hatrain/hf-token}."""
