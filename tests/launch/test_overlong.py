"""A plan knows the rows that are too long, once a dataset was tokenized on this machine."""

import json
import os
from pathlib import Path

import pytest

from hatrain.cli import main
from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory
from hatrain.data import prepare as prepare_module
from hatrain.model import revision
from hatrain.model.tokenizer import tokenizer_of
from hatrain.runtime import seal
from hatrain.train.rows import load_rows
from launch import planner
from launch.planner import Refusal
from tests.families import build_tokenizer
from tests.plans import a_cluster, a_job


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with a base, and with ten rows of which two are of more than 200 tokens."""
    monkeypatch.setenv("HATRAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(prepare_module, "SMALL", 0)
    monkeypatch.chdir(tmp_path)
    build_tokenizer("zephyr").save_pretrained(tmp_path / "base")
    answers = ["So it is."] * 8 + ["so " * 200] * 2
    rows = [
        {"conversations": [{"from": "human", "value": "Is it?"}, {"from": "gpt", "value": text}]} for text in answers
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def planned(folder: Path, **changes: object) -> Plan:
    job = a_job(**{"model__base": "base", "method__ctx_size": 200, "method__batch_size": 4, **changes})
    return planner.plan(job, a_cluster(), "local", workdir=folder, runs_root=folder / "runs")


def check(folder: Path) -> None:
    assert main(["check", str(folder / "train.jsonl"), "--model", str(folder / "base"), "--ctx-size", "200"]) == 0


def rows_of(plan: Plan) -> tuple[int, int | None]:
    assert plan.steps
    return plan.steps.rows, plan.overlong


def test_rows_that_check_found_too_long_are_left_out_of_a_plan(folder, capsys):
    assert rows_of(planned(folder)) == (10, None)
    check(folder)
    assert rows_of(planned(folder)) == (8, 2)
    assert rows_of(planned(folder, method__ctx_size=2048)) == (10, 0)
    assert rows_of(planned(folder, data__train=[{"path": "train.jsonl", "weight": 2}])) == (16, 2)


def test_a_run_leaves_what_a_later_plan_reads(folder):
    plan = planned(folder)
    run = RunDirectory(Path(plan.paths.run))
    run.folder.mkdir(parents=True)
    seal.write_text(run.plan_file, plan.model_dump_json())
    plan = revision.pinned(plan, run)
    assert len(load_rows(plan, tokenizer_of(plan.job.model), run).train) == 8
    assert rows_of(planned(folder)) == (8, 2)


@pytest.mark.parametrize("changed", ["train.jsonl", "base/tokenizer.json"])
def test_another_dataset_or_tokenizer_is_not_known(folder, changed):
    check(folder)
    os.utime(folder / changed, (1, 1))
    assert rows_of(planned(folder)) == (10, None)


def test_what_is_known_for_one_template_is_not_for_another(folder):
    check(folder)
    (folder / "other.jinja").write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    assert rows_of(planned(folder, model__chat_template="other.jinja")) == (10, None)
    assert rows_of(planned(folder, model__add_chatml_tokens=True)) == (10, None)


def test_rows_that_a_run_would_refuse_are_refused_by_its_plan(folder):
    check(folder)
    with pytest.raises(Refusal, match=r"^method.ctx_size: found 200, but 2 rows of train.jsonl are longer than that; "):
        planned(folder, data__on_overlong="error")
    with pytest.raises(Refusal, match=r"^method.ctx_size: found 8, but all rows of train.jsonl are longer; raise it$"):
        planned(folder, method__ctx_size=8)
