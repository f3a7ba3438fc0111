"""A base without a chat template is found before anything is queued."""

import json

import pytest

from launch import planner
from launch.planner import Refusal
from tests.kubernetes.laptop import CLUSTER
from tests.plans import a_cluster, a_job


def reasons(tmp_path, cluster=None, **changes) -> dict[str, str]:
    (tmp_path / "train.jsonl").write_text('{"text": "hello"}\n' * 8)
    job = a_job(**{"model__base": "./base", **changes})
    try:
        planner.plan(job, cluster or a_cluster(), "c", workdir=tmp_path, runs_root=tmp_path / "runs")
    except Refusal as refusal:
        return dict(refusal.reasons)
    return {}


@pytest.fixture
def base(tmp_path):
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    return folder


def test_a_local_base_without_a_template_is_refused_with_the_keys_that_give_it_one(base, tmp_path):
    assert reasons(tmp_path) == {
        "model.base": "found ./base, whose tokenizer has no chat template; set model.add_chatml_tokens: true, or "
        "model.chat_template to a Jinja file"
    }
    assert reasons(tmp_path, model__add_chatml_tokens=True) == {}
    assert reasons(tmp_path, model__chat_template="mine.jinja") == {}


@pytest.mark.parametrize("name", ["chat_template.jinja", "chat_template.json", "additional_chat_templates/tool.jinja"])
def test_a_template_in_a_file_of_its_own_is_found(base, tmp_path, name):
    (base / name).parent.mkdir(exist_ok=True)
    (base / name).write_text("{}")
    assert reasons(tmp_path) == {}


@pytest.mark.parametrize("template", ["{{ messages }}", [{"name": "default", "template": "{{ messages }}"}]])
def test_a_template_in_the_configuration_is_found(base, tmp_path, template):
    (base / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    assert reasons(tmp_path) == {}


def test_the_model_of_an_earlier_run_is_looked_at(base, tmp_path):
    model = tmp_path / "runs/earlier/model"
    model.parent.mkdir(parents=True)
    base.rename(model)
    assert "model.base" in reasons(tmp_path, model__base="runs/earlier")
    (model / "chat_template.jinja").write_text("{{ messages }}")
    assert reasons(tmp_path, model__base="runs/earlier") == {}


def test_nothing_is_said_of_a_base_that_is_not_here_or_cannot_be_read(base, tmp_path):
    assert reasons(tmp_path, model__base="some/base") == {}
    (base / "tokenizer_config.json").write_text("{")
    assert reasons(tmp_path) == {}
    (base / "tokenizer_config.json").unlink()
    assert reasons(tmp_path) == {}


def test_a_cluster_with_folders_of_its_own_may_have_another_base(base, tmp_path):
    from hatrain.contract.cluster import KubernetesCluster

    assert reasons(tmp_path, cluster=KubernetesCluster.model_validate(CLUSTER)) == {}
