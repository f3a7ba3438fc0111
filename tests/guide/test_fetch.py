"""`hatrain fetch` against a fake hub, with the real client in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hatrain.cli import main
from hatrain.model.fetch import needed
from tests.guide import fake_hub

REPOSITORY = Path(__file__).parents[2]
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": b"weights",
    "tokenizer.json": b"{}",
    "README.md": b"# read me",
    "model.gguf": b"another format",
    "original/consolidated.00.pth": b"another format",
}
NEEDED = ["README.md", "config.json", "model.safetensors", "tokenizer.json"]
JOB = """\
name: r
model:
  base: org/model
  revision: {revision}
data: {{train: t.jsonl}}
hardware: {{gpu: cpu}}
"""


@pytest.fixture
def hub():
    with fake_hub.running() as running:
        yield running


@pytest.fixture
def fetch(hub, tmp_path):
    def run(revision: str = "null", *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "job.yaml").write_text(JOB.format(revision=revision))
        return subprocess.run(
            [sys.executable, "-m", "hatrain", "fetch", "job.yaml", *arguments],
            cwd=tmp_path,
            env=_environment(tmp_path, HF_ENDPOINT=hub.endpoint, **environment),
            capture_output=True,
            text=True,
            timeout=600,
        )

    return run


def _environment(folder: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    proxies = {name for name in kept if name.lower().endswith("_proxy")}
    return {
        **{name: value for name, value in kept.items() if name not in proxies},
        "HOME": str(folder),
        "HF_HOME": str(folder / "hf"),
        "PYTHONPATH": str(REPOSITORY),
        "HATRAIN_RUNS": str(folder / "runs"),
        **more,
    }


def _snapshots(folder: Path) -> dict[str, list[str]]:
    root = folder / "hf" / "hub" / "models--org--model" / "snapshots"
    return {
        snapshot.name: sorted(str(file.relative_to(snapshot)) for file in snapshot.rglob("*") if file.is_file())
        for snapshot in root.glob("*")
    }


def test_only_files_that_a_run_reads_are_fetched(hub, fetch, tmp_path):
    commit = hub.add("org/model", FILES)
    done = fetch()
    assert done.returncode == 0, done.stderr
    assert f"commit:    {commit}" in done.stdout
    assert f"to pin it: model.revision: {commit}" in done.stdout
    assert _snapshots(tmp_path) == {commit: NEEDED}
    assert sorted(hub.downloads) == NEEDED


def test_a_second_fetch_downloads_nothing(hub, fetch):
    hub.add("org/model", FILES)
    assert fetch().returncode == 0
    hub.downloads.clear()
    assert fetch().returncode == 0
    assert hub.downloads == []


def test_a_pinned_commit_is_fetched_even_if_main_has_moved(hub, fetch, tmp_path):
    old = hub.add("org/model", FILES)
    hub.add("org/model", {**FILES, "config.json": b'{"model_type": "other"}'})
    done = fetch(old)
    assert f"pinned:    model.revision: {old}" in done.stdout
    assert _snapshots(tmp_path) == {old: NEEDED}


def test_the_commit_of_a_branch_is_printed(hub, fetch):
    commit = hub.add("org/model", FILES)
    hub.repositories["org/model"].refs["v2"] = commit
    hub.add("org/model", {**FILES, "config.json": b"{}"})
    assert f"to pin it: model.revision: {commit}" in fetch("v2").stdout


def test_a_revision_may_be_set_on_the_command_line(hub, fetch):
    commit = hub.add("org/model", FILES)
    assert f"pinned:    model.revision: {commit}" in fetch("null", "--set", f"model.revision={commit}").stdout


@pytest.mark.parametrize("base", ["models/earlier", "./here", "runs/earlier", "earlier"])
def test_a_folder_or_a_run_needs_no_fetching(tmp_path, monkeypatch, capsys, base):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HATRAIN_RUNS", str(tmp_path / "runs"))
    (tmp_path / "runs" / "earlier" / "model").mkdir(parents=True)
    (tmp_path / "job.yaml").write_text(JOB.format(revision="null"))
    assert main(["fetch", "job.yaml", "--set", f"model.base={base}"]) == 0
    assert capsys.readouterr().out.startswith("nothing to fetch: ")


def test_a_gated_model_asks_for_a_token_with_the_page_to_visit(hub, fetch):
    hub.add("org/model", FILES, gated=True)
    done = fetch()
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"job.yaml:3: model.base: org/model is gated: accept its terms at {hub.endpoint}/org/model, "
        "create a token at https://huggingface.co/settings/tokens, and set HF_TOKEN"
    )


def test_a_token_without_access_is_refused_with_the_same_page_and_never_printed(hub, fetch):
    hub.add("org/model", FILES, gated=True)
    done = fetch(HF_TOKEN=fake_hub.TOKEN)
    assert done.returncode == 2
    assert f"HF_TOKEN has no access yet; accept its terms at {hub.endpoint}/org/model" in done.stderr
    assert fake_hub.TOKEN not in done.stdout + done.stderr


def test_a_token_with_access_opens_a_gated_model(hub, fetch, tmp_path):
    commit = hub.add("org/model", FILES, gated=True, granted=True)
    done = fetch(HF_TOKEN=fake_hub.TOKEN)
    assert (done.returncode, _snapshots(tmp_path)) == (0, {commit: NEEDED})
    assert fake_hub.TOKEN not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("revision", "token", "expected"),
    [
        ("null", "", "no such model at {hub}/org/model, or it is private and HF_TOKEN is not set"),
        ("null", fake_hub.TOKEN, "no such model at {hub}/org/model, or HF_TOKEN has no access to it"),
        ("null", "hf_wrong", "HF_TOKEN: {hub} does not accept the token (401)"),
    ],
)
def test_a_missing_model_and_a_token_without_access_have_different_errors(hub, fetch, revision, token, expected):
    done = fetch(revision, **({"HF_TOKEN": token} if token else {}))
    assert done.returncode == 2
    assert expected.format(hub=hub.endpoint) in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not token or token not in done.stderr


def test_a_missing_revision_is_named_with_its_line(hub, fetch):
    hub.add("org/model", FILES)
    done = fetch("v9")
    assert done.returncode == 2
    assert done.stderr == "job.yaml:4: model.revision: org/model has no branch, tag or commit 'v9'\n"


def test_a_model_without_weights_is_refused(hub, fetch):
    hub.add("org/model", {"config.json": b"{}", "model.gguf": b""})
    done = fetch()
    assert done.returncode == 2
    assert "org/model has no weights that transformers reads" in done.stderr


def test_without_a_network_the_error_is_one_line(hub, fetch):
    for environment in ({"HF_ENDPOINT": "http://127.0.0.1:9"}, {"HF_HUB_OFFLINE": "1"}):
        hub.endpoint = environment.pop("HF_ENDPOINT", hub.endpoint)
        done = fetch(**environment)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert "network" in done.stderr


def test_a_hub_that_is_down_gives_a_one_line_error(hub, fetch):
    hub.broken = True
    done = fetch()
    assert (done.returncode, done.stderr.splitlines()) == (
        1,
        [f"hatrain fetch: {hub.endpoint} returned 503; try again later"],
    )


def test_a_fetched_model_loads_without_a_network(hub, fetch, tmp_path):
    from safetensors.numpy import save_file

    from tests.families import build_tokenizer

    source = tmp_path / "source"
    tokenizer = build_tokenizer("zephyr")
    tokenizer.save_pretrained(source)
    (source / "config.json").write_text(json.dumps(LLAMA | {"vocab_size": len(tokenizer)}))
    save_file(_llama_weights(len(tokenizer)), source / "model.safetensors", metadata={"format": "pt"})
    hub.add("org/model", {file.name: file.read_bytes() for file in source.iterdir()})
    assert fetch().returncode == 0
    read = (
        "from hatrain.model.base import load_model; from hatrain.model.tokenizer import load_tokenizer; "
        "print(load_model('org/model').num_parameters(), len(load_tokenizer('org/model')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", read],
        cwd=tmp_path,
        env=_environment(tmp_path, OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1"),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    weights = sum(weight.size for weight in _llama_weights(len(tokenizer)).values())
    assert done.stdout.split()[-2:] == [str(weights), str(len(tokenizer))]


LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
}


def _llama_weights(vocabulary: int) -> dict[str, np.ndarray]:
    """One layer of Llama, by the names that transformers gives its weights."""
    layer = {f"self_attn.{name}_proj": (16, 16) for name in "qkvo"}
    layer |= {"mlp.gate_proj": (8, 16), "mlp.up_proj": (8, 16), "mlp.down_proj": (16, 8)}
    layer |= {"input_layernorm": (16,), "post_attention_layernorm": (16,)}
    shapes = {f"model.layers.0.{name}.weight": shape for name, shape in layer.items()}
    shapes |= {"model.embed_tokens.weight": (vocabulary, 16), "lm_head.weight": (vocabulary, 16)}
    shapes["model.norm.weight"] = (16,)
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


# --- which files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["model.safetensors", "pytorch_model.bin", "model.onnx"], ["model.safetensors"]),
        (
            [
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "consolidated.safetensors",
            ],
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
        ),
        (["gptq_model-4bit-128g.safetensors"], ["gptq_model-4bit-128g.safetensors"]),
        (["pytorch_model-00001-of-00001.bin", "training_args.bin"], ["pytorch_model-00001-of-00001.bin"]),
        (["model.gguf", "flax_model.msgpack"], []),
    ],
)
def test_only_one_format_of_the_weights_is_fetched(files, expected):
    assert needed(files) == expected


def test_tokenizer_files_and_templates_are_fetched_and_code_only_if_trusted():
    files = [
        "model.safetensors",
        "model.safetensors.index.json",
        "tokenizer.model",
        "merges.txt",
        "chat_template.jinja",
        "additional_chat_templates/tool.jinja",
        "modeling_own.py",
        "README.md",
        "onnx/model.onnx",
        "onnx/config.json",
        "requirements.txt",
    ]
    with_code = set(needed(files, trust_remote_code=True))
    assert with_code - set(needed(files)) == {"modeling_own.py"}
    assert set(files) - with_code == {"onnx/model.onnx", "onnx/config.json", "requirements.txt"}
