"""`hatrain init` and `hatrain jobs`: a first job in an empty folder, and what they refuse."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from hatrain.cli import main
from hatrain.contract.load import load_job
from hatrain.home.homes.home_file import read_home


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CLUSTER", raising=False)
    monkeypatch.delenv("HATRAIN_RUNS", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def answer(capsys, *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_init_says_the_next_commands_with_the_name_of_the_job(capsys):
    code, out, err = answer(capsys, "init", "flat")
    assert (code, err) == (0, "")
    assert [line.strip().partition(" -")[0] for line in out.splitlines()[3:]] == [
        "hatrain data",
        "hatrain plan flat",
        "hatrain submit flat",
        'hatrain ask flat "turn on the kitchen light"',
    ]
    assert "my-home" not in out + Path("jobs/flat.yaml").read_text() + Path("homes/flat.yaml").read_text()


def test_the_job_and_what_its_comments_offer_are_valid(capsys):
    answer(capsys, "init", "flat")
    job = load_job("flat")
    assert (job.name, job.data.train[0].path) == ("flat", "data/flat/home_assistant_train.jsonl")
    text = Path("jobs/flat.yaml").read_text()
    offered = re.sub(r"^( *)# (\w+: )", r"\1\2", text, flags=re.M)
    assert offered != text
    Path("jobs/all.yaml").write_text(re.sub(r"^limits: .*$", 'limits: {time: "12:00:00"}', offered, flags=re.M))
    everything = load_job("all")
    assert (everything.hardware.gpus_per_node, everything.export.ollama, everything.limits.time) == (
        2,
        True,
        "12:00:00",
    )


def test_the_schema_line_names_a_schema_that_the_job_meets(capsys):
    answer(capsys, "init", "flat")
    text = Path("jobs/flat.yaml").read_text()
    name = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)[1]
    schema = json.loads(Path("jobs", name).read_text())
    jsonschema.validate(json.loads(json.dumps(yaml.safe_load(text.replace("1e-4", "0.0001")))), schema)


def test_the_home_is_one_that_data_reads(capsys):
    answer(capsys, "init", "flat")
    home = read_home(Path("homes/flat.yaml"))
    assert len(home.devices) == 9
    assert home.notes == ()


def test_init_overwrites_nothing(capsys):
    answer(capsys, "init", "flat")
    Path("jobs/flat.yaml").write_text("mine")
    Path("homes/flat.yaml").unlink()
    code, out, err = answer(capsys, "init", "flat")
    assert (code, out) == (2, "")
    assert err == "jobs/flat.yaml: is there already, and is not overwritten; give another name\n"
    assert Path("jobs/flat.yaml").read_text() == "mine"
    assert not Path("homes/flat.yaml").exists()


def test_a_schema_of_another_version_stays_and_is_named(capsys):
    Path("jobs").mkdir()
    Path("jobs/schema.json").write_bytes(b"\xff")
    code, _, err = answer(capsys, "init", "flat")
    assert code == 0
    assert err.startswith("note: jobs/schema.json: is not this version's; renew it with: hatrain schema > ")
    assert Path("jobs/schema.json").read_bytes() == b"\xff"


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        ("../flat", "up to 100 of letters, digits, '.', '_' and '-', the first a letter or a digit"),
        ("my home", "up to 100 of letters, digits, '.', '_' and '-', the first a letter or a digit"),
        ("flat.yaml", "the name alone, flat"),
    ],
)
def test_a_name_that_no_job_can_have_is_refused(name, accepted, capsys):
    assert answer(capsys, "init", name) == (2, "", f"hatrain init: found {name!r}; accepted: {accepted}\n")
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("verb", ["plan", "submit", "train", "render"])
def test_a_job_without_its_rows_says_what_makes_them(verb, capsys):
    answer(capsys, "init", "flat")
    _, _, err = answer(capsys, verb, "flat")
    command = "hatrain data --train --test --client assist --home homes/flat.yaml --requests-per-home 8 --out data/flat"
    assert err.count(f"to make the rows: {command}\n") == 1


def test_a_job_whose_rows_are_there_says_nothing_about_them(capsys):
    answer(capsys, "init", "flat")
    for part in ("train", "test"):
        file = Path(f"data/flat/home_assistant_{part}.jsonl")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('{"text": "a"}\n')
    assert "to make the rows" not in answer(capsys, "plan", "flat")[2]


def test_jobs_lists_own_jobs_first_and_names_one_that_cannot_be_read(capsys):
    answer(capsys, "init", "zoo")
    Path("jobs/broken.yaml").write_text("nme: x\n")
    code, out, err = answer(capsys, "jobs")
    assert code == 1
    assert [line.split()[0] for line in out.splitlines()[:3]] == ["JOB", "zoo", "demo"]
    assert "jobs/broken.yaml:1: nme: unknown key" in err
