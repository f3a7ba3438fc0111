"""A secret's value in a cluster file is refused, whatever the name of its variable, and never printed."""

import pytest

from hatrain.contract.cluster import KubernetesCluster, LocalCluster, SlurmCluster
from hatrain.contract.load import read_text, validate
from hatrain.errors import BadInput

HUB_TOKEN = "hf_" + "aB3" * 7
AWS_KEY = "AKIA" + "Z9" * 8
GITHUB_TOKENS = [f"gh{kind}_" + "aB3" * 10 for kind in "pousr"] + ["github_pat_" + "aB3_" * 10]


def read(kind, model, section, value):
    return validate(model, read_text(f"kind: {kind}\n{section}: {{NCCL_HINT: '{value}'}}\n", "mine.yaml"))


@pytest.mark.parametrize("section", ["environment", "nccl"])
@pytest.mark.parametrize("value", [HUB_TOKEN, AWS_KEY, *GITHUB_TOKENS])
@pytest.mark.parametrize(
    ("kind", "model"),
    [("local", LocalCluster), ("slurm", SlurmCluster), ("kubernetes", KubernetesCluster)],
)
def test_the_value_of_a_secret_is_refused_under_any_name_and_never_printed(kind, model, section, value):
    for text in (value, f"https://user:{value}@example.org"):
        with pytest.raises(BadInput, match=rf"mine.yaml:2: {section}: .*NCCL_HINT") as refused:
            read(kind, model, section, text)
        assert value not in str(refused.value) and value[:8] not in str(refused.value)


@pytest.mark.parametrize(
    "value",
    [
        "hf_hub",
        "hf_" + "a" * 19,  # too short for a token of the model hub
        "HF_" + "a" * 30,
        "AKIA" + "Z" * 15,  # too short for an AWS key
        "akia" + "z" * 16,
        "AKIa" + "Z" * 16,
        "github_pat_" + "a" * 29,
        "ghp_" + "a" * 29,  # too short for a GitHub token
        "ghx_" + "a" * 36,
        "ghp-" + "a" * 36,
        "eth0,eth1",
    ],
)
def test_a_value_that_only_resembles_a_secret_is_accepted(value):
    assert read("local", LocalCluster, "environment", value).environment == {"NCCL_HINT": value}
