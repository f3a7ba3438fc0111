"""Reading a job: values keep the meaning they were written with, and all mistakes are reported with their line."""

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hatrain.contract import load, shipped
from hatrain.contract.spec import JobSpec
from hatrain.errors import BadInput

JOB = """\
name: kitchen
model:
  base: some/base
data:
  train: train.jsonl
hardware:
  gpu: cpu
"""


def read(text: str, *settings: str) -> JobSpec:
    document = load.read_text(text, "job.yaml")
    load.override(document, settings)
    return load.validate(JobSpec, document)


def problems(text: str, *settings: str) -> list[str]:
    with pytest.raises(BadInput) as raised:
        read(text, *settings)
    return list(raised.value.problems)


@pytest.fixture(params=["libyaml", "pure Python"], autouse=True)
def loader(request, monkeypatch):
    """Both of PyYAML's parsers: a machine may have either."""
    if request.param == "pure Python":
        monkeypatch.setattr(load, "Loader", yaml.SafeLoader)


# --- what people write --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "key", "meant"),
    [
        ("method: {learning_rate: 1e-5}", "method.learning_rate", 1e-5),
        ("method: {learning_rate: 1E-5}", "method.learning_rate", 1e-5),
        ("limits: {time: 24:00:00}", "limits.time", "24:00:00"),
        ("limits: {time: 00:30:00}", "limits.time", "00:30:00"),
        ('limits: {time: "1-12:00:00"}', "limits.time", "36:00:00"),
        ("limits: {time: 90m}", "limits.time", "01:30:00"),
        ("limits: {time: 2d}", "limits.time", "48:00:00"),
        ("seed: 010", "seed", 10),
        ("seed: 1_000", "seed", 1000),
        ("method: {gradient_checkpointing: no}", "method.gradient_checkpointing", False),
        ("method: {gradient_checkpointing: yes}", "method.gradient_checkpointing", True),
        ("method: {gradient_checkpointing: off}", "method.gradient_checkpointing", False),
        ("method: {gradient_checkpointing: auto}", "method.gradient_checkpointing", "auto"),
        ("method: {packing: off}", "method.packing", "off"),
        ("method: {micro_batch_size: auto}", "method.micro_batch_size", "auto"),
        ("method: {micro_batch_size: 4}", "method.micro_batch_size", 4),
        ("after: no", "after", "no"),
        ("after: null", "after", None),
        ("after: ~", "after", None),
        ("after:", "after", None),
        ("after: 'null'", "after", "null"),
        ("after: 1e5", "after", "1e5"),
        ("after: 2026-11-23", "after", "2026-11-23"),
        ("method: {lora: null}", "method.lora", None),
    ],
)
def test_a_value_keeps_the_meaning_it_was_written_with(written, key, meant):
    found = read(f"{JOB}{written}\n")
    for part in key.split("."):
        found = getattr(found, part)
    assert found == meant
    assert type(found) is type(meant)


@pytest.mark.parametrize("written", ["151645,198", "[151645, 198]", "'151645, 198'", "\n  - 151645\n  - 198"])
def test_token_ids_are_a_list_or_comma_separated(written):
    data = f"data:\n  train: t\n  suffix_ids: {written}\n  prefix_ids: 1\n".replace("\n  -", "\n    -")
    job = read(JOB.replace("data:\n  train: train.jsonl\n", data))
    assert job.data.suffix_ids == (151645, 198)
    assert job.data.prefix_ids == (1,)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("a.jsonl", [("a.jsonl", 1.0)]),
        ("[a.jsonl, b.jsonl]", [("a.jsonl", 1.0), ("b.jsonl", 1.0)]),
        ("{path: a.jsonl, weight: 2}", [("a.jsonl", 2.0)]),
        ("[a.jsonl, {path: b.jsonl, weight: 0.5}]", [("a.jsonl", 1.0), ("b.jsonl", 0.5)]),
    ],
)
def test_training_rows_are_a_path_or_a_list_of_paths_with_weights(written, meant):
    job = read(JOB.replace("train: train.jsonl", f"train: {written}"))
    assert [(file.path, file.weight) for file in job.data.train] == meant


@pytest.mark.parametrize("written", ["4bit", "{kind: 4bit}", "{kind: 4bit, type: nf4, double: true}"])
def test_a_kind_alone_is_the_kind_with_its_defaults(written):
    quantization = read(JOB.replace("some/base", f"some/base\n  quantization: {written}")).model.quantization
    assert (quantization.kind, quantization.type, quantization.double) == ("4bit", "nf4", True)


def test_a_method_is_supervised_fine_tuning_unless_it_says_otherwise():
    assert read(JOB).method.kind == "sft"
    assert read(f"{JOB}method: {{epochs: 2}}\n").method.kind == "sft"
    assert read(f"{JOB}method: {{kind: dpo}}\n").method.beta == 0.1


# --- mistakes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "messages"),
    [
        ("sead: 1", "job.yaml:8: sead: unknown key; accepted: name, seed, .*; did you mean seed?"),
        (
            "method: {learning_rat: 1}",
            "job.yaml:8: method.learning_rat: unknown key; .*did you mean learning_rate?",
        ),
        ("method: {beta: 0.1}", "job.yaml:8: method.beta: unknown key; accepted: learning_rate"),
        (
            "method: {kind: dop}",
            "job.yaml:8: method.kind: found 'dop'; accepted: sft | dpo; did you mean dpo?",
        ),
        ("evaluation: 3", "evaluation: found '3'; accepted: a mapping of keys"),
        ("method: {kind: dpo, loss: sigmod}", "method.loss: found 'sigmod'; .*did you mean sigmoid?"),
        ("seed: one", "job.yaml:8: seed: found 'one'; accepted: a whole number"),
        ("seed: 1.5", "job.yaml:8: seed: found '1.5'; accepted: a whole number"),
        ("seed: -1", "job.yaml:8: seed: found '-1'; accepted: at least 0"),
        ("method: {learning_rate: 0}", "method.learning_rate: found '0'; accepted: above 0"),
        ("method: {learning_rate: nan}", "method.learning_rate: found 'nan'; accepted: a finite number"),
        ("method: {learning_rate: .inf}", "method.learning_rate: found '.inf'; accepted: "),
        ("method: {learning_rate_warmup: 1.5}", "found '1.5'; accepted: at most 1"),
        ("method: {gradient_checkpointing: maybe}", "found 'maybe'; accepted: true or false or auto"),
        (
            "method: {micro_batch_size: atuo}",
            "found 'atuo'; accepted: a whole number or auto; did you mean auto?",
        ),
        ("method: {lora: {rank: 0}}", "method.lora.rank: found '0'; accepted: above 0"),
        ("method: [1]", "job.yaml:8: method: found a list; accepted: "),
        ("limits: {time: 24}", "limits.time: found '24'; accepted: a duration such as 24:00:00"),
        ("limits: {time: 0h}", "limits.time: found '0h'; accepted: a duration above zero"),
        ("limits: {time: 00:61:00}", "limits.time: found '00:61:00'; accepted: a duration"),
        ("after: ../up", "after: found '../up'; accepted: up to 100 of letters"),
        ("checkpoints: {sync_to: [a]}", "checkpoints.sync_to: found a list; accepted: text"),
        ("name: again", "job.yaml:8: name: given twice; first on line 1"),
        ("method: !!python/object:os.system {}", "job.yaml:8"),
        ("seed: !secret 1", "found the tag !secret; tags are not accepted"),
        ("? [a]\n: 1", "a key must be one word"),
        ("seed: 'unclosed", "not YAML"),
    ],
)
def test_a_mistake_is_reported_with_file_line_key_and_accepted_values(written, messages):
    import re

    (line,) = problems(f"{JOB}{written}\n")
    pattern = ".*".join(re.escape(part) for part in messages.split(".*"))
    assert re.search(pattern, line), line


def test_all_mistakes_of_a_file_are_reported_in_its_order():
    messages = problems(
        "name: a b\nmodle: {}\nmodel: {base: ''}\ndata:\n  train: []\n  tset: x\nhardware: {gpu: a6000, nodes: 0}\n"
    )
    assert [line.split(":")[1] for line in messages] == ["1", "2", "3", "5", "6", "7", "7"]
    assert "did you mean a6000-48gb?" in "".join(messages)


def test_missing_keys_are_named():
    assert problems("name: x\n") == [
        "job.yaml:1: model: missing, and has no default",
        "job.yaml:1: data: missing, and has no default",
        "job.yaml:1: hardware: missing, and has no default",
    ]


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n", "word\n"])
def test_a_document_that_is_no_mapping_is_one_line(text):
    assert len(problems(text)) == 1


def test_only_one_of_prefix_and_suffix_ids_is_refused():
    (line,) = problems(JOB.replace("train.jsonl", "train.jsonl\n  prefix_ids: 1"))
    assert "prefix_ids and suffix_ids together, or neither" in line


def test_an_alias_that_contains_itself_is_refused():
    assert "contains itself" in problems(f"{JOB}method: &m\n  lora: *m\n")[0]


def test_a_merge_key_is_not_silently_dropped():
    assert problems(f"{JOB}method: &m {{epochs: 2}}\nlogging:\n  <<: *m\n")


@given(st.text(max_size=200))
def test_any_text_is_a_job_or_bad_input_and_never_a_traceback(text):
    with pytest.raises(BadInput):
        read(text)


@given(
    st.dictionaries(
        st.sampled_from(["name", "seed", "model", "data", "method", "hardware"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
            max_leaves=6,
        ),
    )
)
def test_any_mapping_is_a_job_or_bad_input_and_never_a_traceback(data):
    with pytest.raises(BadInput) as raised:
        read(yaml.safe_dump(data))
    assert raised.value.problems


# --- --set --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "key", "meant"),
    [
        ("method.learning_rate=2e-5", ("method", "learning_rate"), 2e-5),
        ("method.lora.rank=8", ("method", "lora", "rank"), 8),
        ("seed=010", ("seed",), 10),
        ("after=", ("after",), None),
        ("name=a=b".replace("a=b", "a.b"), ("name",), "a.b"),
        ("model.quantization={kind: 4bit, double: no}", ("model", "quantization", "double"), False),
        ("method.lora={rank: 16}", ("method", "lora", "rank"), 16),
    ],
)
def test_a_setting_overrides_any_key(setting, key, meant):
    found = read(JOB, setting)
    for part in key:
        found = getattr(found, part)
    assert found == meant


def test_a_setting_reaches_into_a_list():
    text = JOB.replace("train: train.jsonl", "train: [{path: a}, {path: b}]")
    job = read(text, "data.train.1.weight=3", "data.train.0.path=c")
    assert [(file.path, file.weight) for file in job.data.train] == [("c", 1.0), ("b", 3.0)]


def test_the_last_setting_of_a_key_holds():
    assert read(JOB, "seed=1", "seed=2").seed == 2


@pytest.mark.parametrize(
    ("setting", "messages"),
    [
        ("seed", "--set seed: found no KEY=VALUE"),
        ("=3", "--set =3: found no KEY=VALUE"),
        ("seed=x", "--set seed=x: found 'x'; accepted: a whole number"),
        ("sede=1", "--set sede=1: unknown key; .*did you mean seed?"),
        ("name.first=1", "--set name.first=1: name is 'kitchen' in the file, which has no keys of its own"),
        ("seed=[", "--set seed=[.*"),
        ("model={bsae: x}", "--set model={bsae: x}: model.bsae: unknown key; .*did you mean base?"),
    ],
)
def test_a_wrong_setting_is_reported_as_it_was_given(setting, messages):
    first, _, last = messages.partition(".*")
    assert any(line.startswith(first) and line.endswith(last) for line in problems(JOB, setting))


def test_a_list_index_out_of_range_is_refused():
    text = JOB.replace("train: train.jsonl", "train: [a, b]")
    assert "data.train is a list of 2; accepted: an index from 0" in problems(text, "data.train.2=c")[0]


def test_settings_on_an_empty_file_are_checked_like_a_file():
    assert any("model: missing" in line for line in problems("", "name=x"))


# --- finding a file -----------------------------------------------------------------------------------------


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "kitchen.yaml").write_text(JOB)
    return tmp_path


@pytest.mark.parametrize("name", ["kitchen", "jobs/kitchen.yaml", "./jobs/kitchen.yaml"])
def test_a_job_is_found_by_name_and_by_path(jobs, name):
    assert load.load_job(name).name == "kitchen"


def test_a_job_with_a_byte_order_mark_is_read(jobs):
    (jobs / "bom.yaml").write_bytes(b"\xef\xbb\xbf" + JOB.encode())
    assert load.load_job("bom.yaml").name == "kitchen"


@pytest.mark.parametrize(
    ("name", "messages"),
    [
        (
            "kichen",
            "kichen: no such job (accepted: a path, kitchen, one that `hatrain jobs` lists); did you mean kitchen?",
        ),
        (
            "tinyhom",
            "tinyhom: no such job (accepted: a path, kitchen, one that `hatrain jobs` lists); did you mean tinyhome?",
        ),
        ("jobs/demo.yaml", "jobs/demo.yaml: no such job; the job demo comes with hatrain: give its name alone"),
        ("jobs/kichen.yaml", "jobs/kichen.yaml: no such job; did you mean jobs/kitchen.yaml?"),
    ],
)
def test_a_missing_job_is_refused_with_the_nearest_name(jobs, name, messages):
    with pytest.raises(BadInput) as raised:
        load.load_job(name)
    assert raised.value.problems == (messages,)


def test_a_job_that_comes_with_hatrain_is_found_by_name_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load.load_job("tinyhome").model.base == "TinyLlama/TinyLlama-1.1B-Chat-v1.0"


def test_a_copy_of_the_package_alone_has_no_jobs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "hatrain")
    with pytest.raises(BadInput, match="none found in jobs/"):
        load.load_job("kitchen")


def test_a_file_that_is_not_text_is_one_line(jobs):
    Path("jobs/odd.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="not UTF-8 text"):
        load.load_job("odd")


# --- hostile documents --------------------------------------------------------------------------------------


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? ", "[{a: "])
def test_a_hundred_thousand_levels_are_one_line_at_once(opening):
    started = time.monotonic()
    (line,) = problems(JOB + "x: \n  " + opening * 100_000)
    assert line.startswith("job.yaml:9: not YAML: nested more than 100 levels deep")
    assert time.monotonic() - started < 10


def test_aliases_that_stand_for_billions_of_values_are_one_line_at_once():
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 12)
    )
    started = time.monotonic()
    (line,) = problems(bomb)
    assert line == "job.yaml:5: not YAML: more than 100000 values, with its aliases written out"
    assert time.monotonic() - started < 10


def test_aliases_in_reason_are_read():
    shared = load.read_text("a: &a {b: [1, 2]}\nc: [*a, *a]\n", "file")
    assert shared.data == {"a": {"b": ["1", "2"]}, "c": [{"b": ["1", "2"]}] * 2}
    assert not shared.problems
