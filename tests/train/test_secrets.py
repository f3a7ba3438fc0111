"""A real run with secrets all around it: none of them is in any byte that it wrote."""

import os
from pathlib import Path

from hatrain.contract.run import Exit
from hatrain.evaluate import run as evaluation

CANARIES = {
    "HF_TOKEN": "hf_canaryOne0123456789",
    "AWS_SECRET_ACCESS_KEY": "canaryTwo/0123456789+abc",
    "WANDB_API_KEY": "canaryThree0123456789",
    "HTTPS_PROXY": "http://ada:canaryFour01234@proxy.example:3128",
    "MY_PASSWORD": "canaryFive0123456789",
}


def test_no_byte_of_a_run_holds_a_secret(workplace, monkeypatch, capfd):
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)
    target = workplace.folder / "elsewhere"
    target.write_text("a file, so that copying fails")
    plan = workplace.plan(checkpoints__sync_to=str(target), evaluation__requests=2)
    # An error that carries what it knows, as those of network libraries do.
    with monkeypatch.context() as patch:
        patch.setattr("hatrain.train.flow.save_model", _fail)
        assert workplace.attempt(plan).code is Exit.FAULT
    tried = workplace.attempt(plan)
    assert tried.code is Exit.FINISHED
    assert evaluation.evaluate_run(plan, tried.run, tried.attempt)[0] is Exit.FINISHED
    files = [path for path in Path(workplace.folder).rglob("*") if path.is_file()]
    assert any(path.name == "rank-0.json" and b"cannot connect" in path.read_bytes() for path in files)
    for path in files:
        assert b"canary" not in path.read_bytes(), path
    assert "canary" in os.environ["HF_TOKEN"]


def _fail(*arguments):
    raise ConnectionError(f"cannot connect through {CANARIES['HTTPS_PROXY']} with {CANARIES['HF_TOKEN']}")
