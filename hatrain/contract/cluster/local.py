"""Schema of a local cluster file."""

from typing import Literal

from pydantic import Field

from hatrain.contract.cluster.common import BaseCluster, FileSecrets, Line


class LocalCluster(BaseCluster):
    """This machine, without a queue."""

    kind: Literal["local"]
    python: Line | None = None
    """The interpreter with hatrain; the current one when null."""
    secrets: FileSecrets = Field(default_factory=dict)
    """Variables that are read from files, such as HF_TOKEN: {file: ~/.config/hatrain/hf-token}."""
