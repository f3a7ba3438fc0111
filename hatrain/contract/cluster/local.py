"""The machine that the command is given on. Only the schema."""

from typing import ClassVar, Literal

from pydantic import Field

from hatrain.contract.cluster.common import BaseCluster, FileSecrets, Line


class LocalCluster(BaseCluster):
    """One machine, with nobody to queue behind."""

    single_machine: ClassVar[bool] = True
    kind: Literal["local"]
    python: Line | None = None
    """The interpreter that hatrain is installed for; the one that plans when null."""
    secrets: FileSecrets = Field(default_factory=dict)
    """Variables that are read from files, such as HF_TOKEN: {file: ~/.config/hatrain/hf-token}."""
