"""Cluster files: finding them by name or path, and strict reading."""

import sys

import pytest

from hatrain.errors import BadInput
from launch.cluster_files import SHIPPED, load_cluster, user_clusters
from tests.plans import a_cluster, a_plan


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.yaml")))
def test_every_shipped_cluster_is_valid_and_begins_with_a_comment(name):
    found, _ = load_cluster(name)
    assert found == name
    assert (SHIPPED / f"{name}.yaml").read_text(encoding="utf-8").startswith("# ")


def test_a_local_cluster_uses_the_current_interpreter_by_default(tmp_path):
    assert a_plan(tmp_path, load_cluster("local")[1]).python == sys.executable
    assert a_plan(tmp_path, a_cluster(python="/mine/python")).python == "/mine/python"


def test_a_users_own_cluster_comes_before_a_shipped_one():
    write(user_clusters() / "local.yaml", "kind: local\npython: /mine/python\n")
    assert load_cluster("local")[1].python == "/mine/python"


def test_a_cluster_is_found_by_path(tmp_path):
    path = write(tmp_path / "workstation.yaml", "kind: local\nenvironment: {A: 010, B: no, C: ''}\n")
    name, cluster = load_cluster(str(path))
    assert name == "workstation"
    assert cluster.environment == {"A": "010", "B": "no", "C": ""}


def test_an_unknown_cluster_is_refused_with_the_nearest():
    with pytest.raises(BadInput, match=r"locl: no such cluster .*local.*did you mean local\?"):
        load_cluster("locl")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("python: x\n", r"kind: missing; accepted: local \| slurm \| kubernetes"),
        ("kind: lokal\n", r"1: kind: found 'lokal'; accepted: local \| .*; did you mean local\?"),
        ("kind: local\npyhton: x\n", r"2: pyhton: unknown key; accepted: .*did you mean python\?"),
        ("kind: local\nenvironment:\n  A-B: x\n", "environment: .*not 'A-B'"),
        (
            "kind: local\nenvironment:\n  HF_TOKEN: x\n",
            "environment: .*no secrets: HF_TOKEN is one; .* secrets",
        ),
        (f"kind: local\nenvironment:\n  HUB: hf_{'x' * 30}\n", "environment: .*no secrets: HUB is one"),
        ("kind: local\nnccl: {OMP_NUM_THREADS: 1}\n", "nccl: .*begin with NCCL_, not 'OMP_NUM_THREADS'"),
        ("kind: slurm\ngpus: {a100-80: a100}\n", r"gpus: .*not 'a100-80'; did you mean a100-80gb\?"),
        ("kind: slurm\nmemory: 64\n", "memory: found '64'; accepted: a size such as"),
        ("kind: slurm\npartition: 'a\n\n  b'\n", "partition: .*one line of text"),
        ("kind: slurm\ndirectives: {nodes: 3}\n", "directives: .*not nodes: set hardware.nodes in the job"),
        ("kind: slurm\ndirectives: {'--switches': 1}\n", "directives: .*without dashes"),
        ("kind: kubernetes\nimage: x\nruns: {}\n", "runs: .*either a claim or a host_path"),
        ("kind: local\nkind: local\n", "given twice"),
        ("", "kind: missing"),
    ],
)
def test_a_mistake_is_reported_with_file_and_key(tmp_path, text, message):
    path = write(tmp_path / "mine.yaml", text)
    with pytest.raises(BadInput, match=message) as raised:
        load_cluster(str(path))
    assert all(problem.startswith(str(path)) for problem in raised.value.problems)


@pytest.mark.parametrize(
    "value",
    [
        "hf_" + "x" * 30,
        "AKIA" + "A" * 16,
        *(f"gh{letter}_" + "x" * 36 for letter in "pousr"),
        "https://ada:hf_" + "x" * 30 + "@example.org",
    ],
)
def test_a_token_in_the_environment_is_refused_whatever_its_name(tmp_path, value):
    path = write(tmp_path / "mine.yaml", f"kind: local\nenvironment:\n  SETTING: {value}\n")
    with pytest.raises(BadInput, match="no secrets: SETTING is one"):
        load_cluster(str(path))


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "db_password", "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY", "SSH_PRIVATE_KEY"]
)
def test_a_variable_with_the_name_of_a_secret_is_refused(tmp_path, name):
    path = write(tmp_path / "mine.yaml", f"kind: local\nenvironment:\n  {name}: x\n")
    with pytest.raises(BadInput, match=f"no secrets: {name} is one"):
        load_cluster(str(path))


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "MAX_TOKENS", "KEYBOARD", "NCCL_DEBUG"])
def test_a_variable_whose_name_only_resembles_a_secret_is_accepted(tmp_path, name):
    path = write(tmp_path / "mine.yaml", f"kind: local\nenvironment:\n  {name}: x\n")
    assert load_cluster(str(path))[1].environment == {name: "x"}


@pytest.mark.parametrize("kind", ["local", "slurm", "kubernetes"])
@pytest.mark.parametrize("written", ["hf_abcdefghijklmnopqrstuvwxyz", "{file: {hf_abc: hf_abc}}", "[hf_abc]"])
def test_a_secret_in_place_of_its_name_is_refused_and_not_shown(tmp_path, kind, written):
    path = write(tmp_path / "mine.yaml", f"kind: {kind}\nsecrets: {{HF_TOKEN: {written}}}\n")
    with pytest.raises(BadInput, match=r"secrets\.HF_TOKEN") as raised:
        load_cluster(str(path))
    assert "hf_abc" not in str(raised.value)
