"""A plan knows what fits: it chooses the fastest way that does, and refuses what cannot, with what would."""

import http.client
import io
import json
import shlex
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from hatrain.cli import main
from hatrain.contract import hub
from hatrain.contract.checkpoint_size import next_checkpoint
from hatrain.contract.cluster import SlurmCluster
from hatrain.contract.gpus import GIB, GPUS
from hatrain.contract.load import read_job
from hatrain.contract.run import RunDirectory
from launch import candidates, planner
from launch.memory import sources
from launch.memory.needs import PROCESS
from launch.memory.structure import NotKnown, adapters
from launch.planner import Refusal
from tests import shipped
from tests.plans import a_cluster, a_job, a_plan

BASE = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"


def planned(tmp_path, *, cluster=None, force=False, **changes):
    job = a_job(**{"model__base": BASE, "hardware__gpu": "a100-80gb", **changes})
    return planner.plan(
        job, cluster or a_cluster(), "local", workdir=tmp_path, runs_root=tmp_path / "runs", force=force
    )


AUTO = {"method__micro_batch_size": "auto", "method__gradient_checkpointing": "auto", "method__batch_size": 32}


# --- what is chosen -----------------------------------------------------------------------------------------


def test_with_room_the_largest_micro_batch_without_checkpointing_is_chosen(tmp_path):
    plan = planned(tmp_path, **AUTO, method__ctx_size=512)
    assert (plan.batch.micro_batch_size, plan.gradient_checkpointing) == (32, False)
    assert "the fastest of" in plan.memory.why


@pytest.mark.parametrize("gpu", ["rtx3090-24gb", "rtx5090-32gb", "a6000-48gb"])
def test_what_is_chosen_leaves_a_margin(tmp_path, gpu):
    plan = planned(tmp_path, **AUTO, hardware__gpu=gpu)
    assert plan.memory.total <= candidates.MARGIN * GPUS[gpu].memory


def test_a_way_that_needs_more_than_92_percent_is_not_chosen(tmp_path, monkeypatch):
    fixed = {**AUTO, "hardware__gpu": "a6000-48gb", "method__gradient_checkpointing": True}
    largest = {**fixed, "method__micro_batch_size": 32}
    needed = planned(tmp_path, **largest).memory.total

    def with_memory(size):
        monkeypatch.setitem(GPUS, "a6000-48gb", replace(GPUS["a6000-48gb"], memory=round(size)))

    with_memory(needed / 0.919)
    assert planned(tmp_path, **fixed).batch.micro_batch_size == 32
    with_memory(needed / 0.921)
    assert planned(tmp_path, **fixed).batch.micro_batch_size < 32
    # What a job sets itself may need all of it.
    with_memory(needed)
    assert planned(tmp_path, **largest).memory.fits


def test_less_memory_is_never_given_a_faster_way(tmp_path):
    tokens = []
    for gpu in ("rtx3090-24gb", "rtx5090-32gb", "a6000-48gb", "h200-141gb"):
        plan = planned(tmp_path, **AUTO, hardware__gpu=gpu)
        tokens.append((not plan.gradient_checkpointing, plan.batch.micro_batch_size))
    assert tokens[0] < tokens[-1]


def test_sharding_is_chosen_when_a_model_fits_no_single_gpu(tmp_path):
    settings = {"hardware__gpus_per_node": 2, "hardware__gpu": "a6000-48gb", "method__batch_size": 32}
    assert planned(tmp_path, **settings).sharding == "ddp"
    larger = planned(tmp_path, **settings, model__base="stabilityai/stablelm-zephyr-3b")
    assert larger.sharding == "fsdp"


def test_sharding_that_is_chosen_works_with_the_job(tmp_path):
    """FSDP and ZeRO do not shard a quantised base."""
    plan = planned(
        tmp_path,
        hardware__gpus_per_node=2,
        hardware__gpu="rtx3090-24gb",
        model__base="mistralai/Mistral-7B-Instruct-v0.3",
        model__quantization="4bit",
        method__lora={},
    )
    assert plan.sharding in ("ddp", "zero2")


def test_optimizer_state_is_offloaded_only_where_nothing_faster_fits(tmp_path):
    job = {
        "model__base": "stabilityai/stablelm-zephyr-3b",
        "hardware__gpus_per_node": 2,
        "hardware__offload": "auto",
        "method__batch_size": 32,
    }
    roomy = planned(tmp_path, **job, hardware__gpu="h200-141gb")
    assert (roomy.sharding, roomy.job.hardware.offload) == ("ddp", "none")
    tight = planned(tmp_path, **job, hardware__gpu="rtx3090-24gb")
    assert (tight.sharding, tight.job.hardware.offload) == ("zero3", "optimizer")
    assert "offload optimizer" in tight.memory.why and tight.memory.fits
    smaller = planned(tmp_path, **job, hardware__gpu="rtx4060ti-16gb")
    assert (smaller.sharding, smaller.job.hardware.offload) == ("zero3", "all")
    assert roomy.identity == tight.identity == smaller.identity
    # What the run reads is written out: it can be planned again, and is then the same.
    again = planner.plan(tight.job, a_cluster(), "local", workdir=tmp_path, runs_root=tmp_path / "runs")
    assert (again.sharding, again.job.hardware) == (tight.sharding, tight.job.hardware)


def test_offload_is_never_chosen_where_it_does_not_work(tmp_path):
    assert planned(tmp_path, hardware__offload="auto").job.hardware.offload == "none"
    fixed = {"hardware__gpus_per_node": 2, "hardware__sharding": "fsdp", "method__batch_size": 32}
    assert planned(tmp_path, **fixed, hardware__offload="auto").job.hardware.offload == "none"


@pytest.mark.parametrize(
    ("changes", "packing"),
    [
        ({}, "tree"),
        ({"method__packing": "plain"}, "plain"),
        ({"method__packing": "off"}, "off"),
        ({"method__kind": "dpo", "hardware__gpu": "h200-141gb"}, "tree"),
        ({"method__kind": "dpo", "method__loss": "aot", "hardware__gpu": "h200-141gb"}, "off"),
    ],
)
def test_the_packing_is_decided(tmp_path, changes, packing):
    plan = planned(tmp_path, **changes)
    assert plan.job.method.packing == packing
    assert ("packing " in plan.memory.why) == ("method__packing" not in changes and packing == "tree")
    assert plan.identity == planned(tmp_path, **{**changes, "method__packing": "off"}).identity


def test_a_model_that_cannot_be_packed_is_padded_and_needs_more(tmp_path):
    def written(name, **changes):
        (tmp_path / name).mkdir()
        config = {**sources.known()[BASE.lower()], "max_position_embeddings": 2048, **changes}
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        return planned(tmp_path, model__base=name, method__gradient_checkpointing=False)

    plain = written("plain")
    long = written("long", rope_scaling={"type": "dynamic", "factor": 4.0}, original_max_position_embeddings=1024)
    capped = written("capped", model_type="gemma2", head_dim=64)
    assert [plan.job.method.packing for plan in (plain, long, capped)] == ["tree", "off", "off"]
    assert long.memory.parts["activations"] > plain.memory.parts["activations"]
    within = planned(tmp_path, model__base="long", method__ctx_size=1024)
    assert within.job.method.packing == "tree"


def test_what_is_chosen_changes_no_identity(tmp_path):
    fixed = planned(tmp_path, method__batch_size=32)
    assert planned(tmp_path, **AUTO).identity == fixed.identity
    assert planned(tmp_path, **AUTO, hardware__gpu="h200-141gb").identity == fixed.identity


def test_on_processors_a_small_micro_batch_is_chosen(tmp_path):
    plan = planned(tmp_path, **AUTO, hardware__gpu="cpu")
    assert (plan.batch.micro_batch_size, plan.gradient_checkpointing, plan.memory) == (4, False, None)


def test_automatic_rows_of_an_unknown_model_are_refused_with_what_to_write(tmp_path):
    with pytest.raises(Refusal) as raised:
        planned(tmp_path, **AUTO, model__base="some/base")
    (reason,) = raised.value.reasons
    assert reason[0] == "method.micro_batch_size"
    assert "some/base" in reason[1] and "hatrain fetch" in reason[1] and "write a number of rows" in reason[1]


def test_an_unknown_model_is_planned_with_a_note(tmp_path):
    plan = planned(tmp_path, model__base="some/base")
    assert plan.memory is None
    assert any("some/base" in note and "not known" in note for note in planner.notes(plan))


# --- what does not fit --------------------------------------------------------------------------------------


def refusal(tmp_path, **changes):
    with pytest.raises(Refusal) as raised:
        planned(tmp_path, **changes)
    ((key, text),) = raised.value.reasons
    return key, text


def test_what_cannot_fit_is_refused_and_every_remedy_fits(tmp_path):
    key, text = refusal(tmp_path, hardware__gpu="rtx3060-12gb", method__batch_size=32)
    assert key == "hardware.gpu"
    assert "found rtx3060-12gb with 12.0 GiB, but the run needs" in text
    plan = planned(tmp_path, hardware__gpu="rtx3060-12gb", method__batch_size=32, force=True)
    assert len(plan.memory.remedies) >= 2
    keys = [{setting.partition("=")[0] for setting in shlex.split(line)[1::2]} for line in plan.memory.remedies]
    assert not any(earlier <= later for at, later in enumerate(keys) for earlier in keys[:at])
    for line in plan.memory.remedies:
        words = shlex.split(line)
        assert words[::2] == ["--set"] * (len(words) // 2)
        changes = {}
        for setting in words[1::2]:
            name, _, value = setting.partition("=")
            number = {"true": True, "{rank: 32, alpha: 64}": {"rank": 32, "alpha": 64}}.get(value, value)
            changes[name.replace(".", "__")] = int(value) if value.isdigit() else number
        merged = {"hardware__gpu": "rtx3060-12gb", "method__batch_size": 32, **changes}
        assert planned(tmp_path, **merged).memory.fits, line


def test_a_plan_that_fills_its_gpu_is_noted(tmp_path, monkeypatch):
    needed = planned(tmp_path).memory.total
    for share, is_noted in ((0.94, False), (0.96, True)):
        monkeypatch.setitem(GPUS, "a100-80gb", replace(GPUS["a100-80gb"], memory=round(needed / share)))
        assert any("which is close" in note for note in planner.notes(planned(tmp_path))) == is_noted


def test_force_plans_what_does_not_fit_and_notes_it(tmp_path):
    plan = planned(tmp_path, hardware__gpu="rtx3060-12gb", force=True)
    assert not plan.memory.fits
    assert any("will run out of memory" in note for note in planner.notes(plan))


def test_a_plan_that_fits_offers_what_needs_clearly_less(tmp_path):
    memory = planned(tmp_path, method__batch_size=32, method__micro_batch_size=8).memory
    assert memory.fits and memory.remedies


def test_a_remedy_names_a_gpu_that_the_cluster_has(tmp_path):
    gpus = {"rtx3060-12gb": "a", "t4-16gb": "b", "a6000-48gb": "c"}
    cluster = SlurmCluster.model_validate({"kind": "slurm", "gpus": gpus})
    memory = planned(tmp_path, cluster=cluster, hardware__gpu="rtx3060-12gb", force=True).memory
    assert memory.remedies[-1] == "--set hardware.gpu=a6000-48gb"
    gpus.pop("a6000-48gb")
    cluster = SlurmCluster.model_validate({"kind": "slurm", "gpus": gpus})
    memory = planned(tmp_path, cluster=cluster, hardware__gpu="rtx3060-12gb", force=True).memory
    assert memory.remedies and not any("hardware.gpu" in line for line in memory.remedies)


def test_a_remedy_names_no_sharding_that_the_job_cannot_have(tmp_path):
    settings = {
        "model__base": "stabilityai/stablelm-zephyr-3b",
        "method__batch_size": 32,
        "hardware__gpus_per_node": 2,
        "hardware__gpu": "a6000-48gb",
        "hardware__sharding": "ddp",
    }
    remedies = planned(tmp_path, **settings, force=True).memory.remedies
    assert any("hardware.sharding=fsdp" in line for line in remedies)
    smaller = planned(tmp_path, **settings | {"hardware__gpu": "rtx4060ti-16gb"}, force=True).memory.remedies
    assert any("--set hardware.sharding=zero3 --set hardware.offload=all" in line for line in smaller)
    settings |= {"method__optimizer": "adafactor", "hardware__gpu": "rtx3090-24gb"}
    remedies = planned(tmp_path, **settings, force=True).memory.remedies
    assert remedies and not any("hardware.sharding" in line for line in remedies)


# --- where the configuration comes from ---------------------------------------------------------------------


def test_a_folder_is_read_and_a_run_without_a_model_stands_for_its_base(tmp_path):
    config = dict(sources.known()[BASE.lower()])
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    options = {"workdir": tmp_path, "runs_root": tmp_path / "runs"}
    assert sources.structure_of("base", None, **options).weights == 1_100_048_384
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "a.yaml").write_text(f"name: tiny-rev4\nmodel:\n  base: {BASE}\n")
    assert sources.structure_of("models/tiny-rev2", None, **options).weights == 1_100_048_384
    a_run = RunDirectory(tmp_path / "runs" / "earlier")
    a_run.adopt(a_plan(tmp_path, name="earlier", model__base=BASE), {})
    assert sources.structure_of("models/earlier", None, **options).weights == 1_100_048_384


@pytest.mark.parametrize(
    ("variable", "value", "hub"),
    [
        ("HF_HUB_CACHE", "hub", "hub"),
        ("HF_HOME", "home", "home/hub"),
        ("XDG_CACHE_HOME", "caches", "caches/huggingface/hub"),
        ("HOME", ".", ".cache/huggingface/hub"),
        ("HF_HUB_CACHE", "~/hub", "hub"),
    ],
)
def test_the_hubs_cache_is_read(tmp_path, monkeypatch, variable, value, hub):
    folder = tmp_path / hub / "models--some--model"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "snapshots" / "abc" / "config.json").write_text(json.dumps(sources.known()[BASE.lower()]))
    for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(variable, value if value.startswith("~") else str(tmp_path / value))
    options = {"workdir": tmp_path, "runs_root": tmp_path / "runs"}
    assert sources.structure_of("some/model", None, **options).weights == 1_100_048_384
    assert sources.structure_of("some/model", "abc", **options).weights == 1_100_048_384
    with pytest.raises(NotKnown, match="some/other: it is not in"):
        sources.structure_of("some/other", None, **options)


@pytest.mark.parametrize("failure", [OSError("timed out"), http.client.IncompleteRead(b""), b"[1, 2]", b"<html>"])
def test_a_hub_that_fails_is_asked_once_and_named(failure, tmp_path, monkeypatch):
    asked = []

    def urlopen(request, timeout):
        asked.append(request.full_url)
        if isinstance(failure, Exception):
            raise failure
        return io.BytesIO(failure)

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example/")
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    hub._ask.cache_clear()
    for _ in range(2):
        with pytest.raises(NotKnown, match=r"some/mo del: .* and the hub does not answer \(.+\)"):
            sources.structure_of(
                "some/mo del", "refs/pr/1", workdir=tmp_path, runs_root=tmp_path / "runs", ask_hub=True
            )
    assert asked == ["https://hub.example/some/mo%20del/resolve/refs%2Fpr%2F1/config.json"]
    hub._ask.cache_clear()


def test_the_hub_is_asked_with_the_token_which_goes_nowhere_else(tmp_path, monkeypatch):
    asked = []

    def urlopen(request, timeout):
        asked.append(request)
        return io.BytesIO(json.dumps(sources.known()[BASE.lower()]).encode())

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_TOKEN", "hf_abc")
    for name in ("HF_ENDPOINT", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    hub._ask.cache_clear()
    found = sources.structure_of("gated/model", None, workdir=tmp_path, runs_root=tmp_path / "runs", ask_hub=True)
    hub._ask.cache_clear()
    assert found.weights == 1_100_048_384
    (request,) = asked
    assert request.full_url == "https://huggingface.co/gated/model/resolve/main/config.json"
    assert request.unredirected_hdrs == {"Authorization": "Bearer hf_abc"} and not request.headers


PUBLISHED = {
    "meta-llama/Llama-3.2-1B-Instruct": 1_235_814_400,
    "Qwen/Qwen2-0.5B-Instruct": 494_032_768,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "google/gemma-3-1b-it": 999_885_952,
    "google/gemma-3-270m-it": 268_098_176,
    "microsoft/phi-2": 2_779_683_840,
    "microsoft/phi-1_5": 1_418_270_720,
    "microsoft/Phi-3-mini-4k-instruct": 3_821_079_552,
    "stabilityai/stablelm-2-zephyr-1_6b": 1_644_515_328,
    "stabilityai/stablelm-zephyr-3b": 2_795_443_200,
    "NousResearch/Meta-Llama-3-8B-Instruct": 8_030_261_248,
    "HuggingFaceTB/SmolLM3-3B": 3_075_098_624,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_known_models_have_as_many_weights_as_is_published(name, tmp_path):
    found = sources.structure_of(name, None, workdir=tmp_path, runs_root=tmp_path)
    assert found.weights == PUBLISHED[name]


# --- time, money, main memory -------------------------------------------------------------------------------


def test_a_limit_below_the_estimate_is_noted_and_auto_is_above_it(tmp_path):
    (tmp_path / "train.jsonl").write_text(("x" * 4000 + "\n") * 4000)
    plan = planned(tmp_path, limits__time="00:01:00")
    assert plan.seconds > 60
    assert any(note.startswith("limits.time: 00:01:00 is less than") for note in planner.notes(plan))
    automatic = planned(tmp_path, limits__time="auto")
    assert planner.seconds_of(automatic.job.limits.time) >= 1.4 * automatic.seconds
    assert automatic.identity == plan.identity


def test_time_follows_the_operations_of_a_step_and_the_ranks(tmp_path):
    (tmp_path / "train.jsonl").write_text(("x" * 4000 + "\n") * 40_000)

    def seconds(**changes):
        changes = {"method__batch_size": 32, "method__gradient_checkpointing": False, **changes}
        return planned(tmp_path, **changes, force=True).seconds

    whole = seconds()
    # Six operations for each weight and token, at a quarter of 312 teraflops.
    assert whole == pytest.approx(40_000 * 1000.25 * 6 * 1_100_048_384 / 78e12, rel=0.01)
    assert seconds(method__max_steps=125) == pytest.approx(whole / 10, rel=0.01)
    assert seconds(method__lora={}) == pytest.approx(whole * 4 / 6, rel=0.01)
    assert seconds(method__gradient_checkpointing=True) == pytest.approx(whole * 8 / 6, rel=0.01)
    assert seconds(method__epochs=3) == pytest.approx(whole * 3, rel=0.01)
    assert seconds(method__packing="off") == pytest.approx(whole / 0.8, rel=0.01)
    assert seconds(method__kind="dpo") == pytest.approx(whole * 1.5, rel=0.01)
    ranks = {"hardware__gpus_per_node": 4, "hardware__sharding": "ddp"}
    assert seconds(**ranks) == pytest.approx(whole / 4 / 0.97, rel=0.01)


def test_automatic_time_is_never_longer_than_a_cluster_grants(tmp_path):
    (tmp_path / "train.jsonl").write_text(("x" * 4000 + "\n") * 40_000)
    cluster = SlurmCluster.model_validate({"kind": "slurm", "time_limit": "00:40:00"})
    plan = planned(tmp_path, cluster=cluster, limits__time="auto")
    assert plan.seconds > 2400
    assert plan.job.limits.time == "00:40:00"


def test_automatic_time_is_what_a_cluster_grants_where_nothing_is_known(tmp_path):
    cluster = SlurmCluster.model_validate({"kind": "slurm", "time_limit": "02:00:00"})
    plan = planned(tmp_path, cluster=cluster, limits__time="auto", model__base="some/base")
    assert (plan.job.limits.time, plan.resources.time) == ("02:00:00", 7200)


def test_the_scheduler_is_asked_for_the_memory_that_loading_needs(tmp_path):
    small = SlurmCluster.model_validate({"kind": "slurm", "memory": "1GiB"})
    large = SlurmCluster.model_validate({"kind": "slurm", "memory": "500GiB"})
    plan = planned(tmp_path, cluster=small)
    assert plan.resources.memory == plan.memory.host > 8 * GIB
    assert planned(tmp_path, cluster=large).resources.memory == 500 * GIB


@pytest.mark.parametrize("lora", [None, {"rank": 8}, {"rank": 8, "merge": True}])
def test_the_disk_of_the_first_checkpoint_is_known_before_it_is_written(tmp_path, lora):
    model = sources.structure_of(BASE, None, workdir=tmp_path, runs_root=tmp_path)
    plan = planned(tmp_path, method__lora=lora, checkpoints__save_total_limit=3)
    trained = adapters(model, plan.job.method.lora).weights(model.layers) if lora else model.weights
    assert next_checkpoint(RunDirectory(tmp_path / "runs" / "lamp"), plan) == 12 * trained
    left = 4 * (trained if lora and not lora.get("merge") else model.weights)
    assert plan.memory.disk == 4 * 12 * trained + left


def test_sharding_divides_the_state_and_offload_moves_it_to_main_memory(tmp_path):
    def memory(sharding, **changes):
        settings = {"hardware__gpus_per_node": 4, "method__batch_size": 32, "hardware__sharding": sharding, **changes}
        return planned(tmp_path, **settings).memory

    weights = sources.structure_of(BASE, None, workdir=tmp_path, runs_root=tmp_path).weights
    whole, divided, sharded = memory("ddp"), memory("zero1"), memory("zero3")
    assert whole.parts["communication"] == 4 * weights
    assert whole.parts["optimizer"] == 8 * weights == pytest.approx(4 * divided.parts["optimizer"], abs=4)
    assert whole.parts["weights"] == 4 * weights == pytest.approx(4 * sharded.parts["weights"], abs=4)
    # Each of four ranks reads the weights, or one does.
    assert whole.host - sharded.host == pytest.approx(3 * 4 * weights, abs=GIB)
    offloaded = memory("zero1", hardware__offload="optimizer")
    assert "optimizer" not in offloaded.parts and offloaded.parts["weights"] == 4 * weights
    assert offloaded.host - divided.host == pytest.approx(16 * weights, abs=GIB)
    assert "weights" not in memory("zero3", hardware__offload="all").parts


def test_both_replies_of_a_pair_are_in_a_micro_batch(tmp_path):
    settings = {"method__micro_batch_size": 4, "method__batch_size": 8, "method__gradient_checkpointing": False}
    settings["hardware__gpu"] = "h200-141gb"
    one, two = (planned(tmp_path, **settings, method__kind=kind).memory.parts for kind in ("sft", "dpo"))
    assert two["activations"] == 2 * one["activations"]


def test_paged_optimizer_state_may_be_in_main_memory(tmp_path):
    model = sources.structure_of(BASE, None, workdir=tmp_path, runs_root=tmp_path)
    held, paged = (planned(tmp_path, method__optimizer=f"{kind}adamw_8bit").memory for kind in ("", "paged_"))
    assert paged.host - held.host == pytest.approx(2 * model.weights, abs=GIB)
    assert "optimizer" in held.parts and "optimizer" not in paged.parts


def test_merging_and_exporting_need_the_weights_in_fp32(tmp_path):
    model = sources.structure_of(BASE, None, workdir=tmp_path, runs_root=tmp_path)
    job = {"method__lora": {"rank": 8}, "model__quantization": "4bit"}
    trained = planned(tmp_path, **job).memory.host
    assert trained < 10 * GIB
    merged = planned(tmp_path, **{**job, "method__lora": {"rank": 8, "merge": True}}).memory.host
    assert merged >= PROCESS + 6 * model.weights
    exported = planned(tmp_path, **job, export={"gguf": ["q8_0"]}).memory.host
    assert merged > exported >= PROCESS + 4 * model.weights


@pytest.mark.parametrize(
    ("method", "of_one_weight"),
    [({}, 12), ({"method__optimizer": "adamw_8bit"}, 6), ({"method__lora": {"rank": 8, "merge": True}}, 12)],
)
def test_the_first_checkpoint_is_as_large_as_what_is_trained(tmp_path, method, of_one_weight):
    plan = planned(tmp_path, **{**method, "checkpoints__save_total_limit": 3})
    model = sources.structure_of(BASE, None, workdir=tmp_path, runs_root=tmp_path / "runs", ask_hub=False)
    trained = adapters(model, plan.job.method.lora).weights(model.layers) if plan.job.method.lora else model.weights
    size = next_checkpoint(RunDirectory(Path(plan.paths.run)), plan)
    assert size == of_one_weight * trained
    assert plan.memory.disk == 4 * size + 4 * model.weights


def test_a_comparison_of_gpus_refuses_files_that_cannot_be_read(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "absent", "--gpu", "h100-80gb"]) == 2
    (tmp_path / "job.yaml").write_text(f"name: a\nmodel: {{base: {BASE}}}\ndata: {{train: t}}\nhardware: {{gpu: x}}\n")
    assert main(["plan", "job.yaml", "--cluster", "absent", "--gpu", "h100-80gb"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "absent: no such job" in output.err and "absent: no such cluster" in output.err


def test_gpus_are_put_side_by_side_with_their_cost(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.jsonl").write_text(("x" * 4000 + "\n") * 4000)
    (tmp_path / "job.yaml").write_text(
        f"name: a\nmodel: {{base: {BASE}, dtype: bf16}}\ndata: {{train: train.jsonl}}\nhardware: {{gpu: t4-16gb}}\n"
    )
    (tmp_path / "here.yaml").write_text("kind: local\nprice_per_gpu_hour: {h100-80gb: 2.5}\n")
    gpus = "rtx3060-12gb,t4-16gb,h100-80gb"
    assert main(["plan", "job.yaml", "--cluster", "here.yaml", "--gpu", gpus]) == 0
    header, small, old, large, refused, note = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["GPU", "FITS", "NEEDS", "OF"]
    assert small.split()[:2] == ["rtx3060-12gb", "no"]
    assert old.split()[:2] == ["t4-16gb", "no"]
    assert refused.startswith("t4-16gb: model.dtype: found bf16")
    hours, gpu_hours, cost = map(float, large.split()[-3:])
    assert cost == pytest.approx(2.5 * gpu_hours, abs=0.03) and hours == gpu_hours
    assert note == "hours: h100-80gb: 25% of its speed, an estimate"
    two = ["--gpu", "h100-80gb", "--set", "hardware.gpus_per_node=2", "--set", "hardware.sharding=ddp"]
    assert main(["plan", "job.yaml", "--cluster", "here.yaml", *two]) == 0
    of_two, gpu_hours_of_two, cost_of_two = map(float, capsys.readouterr().out.splitlines()[1].split()[-3:])
    assert gpu_hours_of_two == pytest.approx(2 * of_two, abs=0.011) and of_two < hours
    assert cost_of_two == pytest.approx(2.5 * gpu_hours_of_two, abs=0.03)
    assert main(["plan", "job.yaml", "--gpu", "h100"]) == 2
    assert "h100-80gb" in capsys.readouterr().err


def test_the_parts_are_printed_with_a_bar(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.yaml").write_text(
        f"name: a\nmodel: {{base: {BASE}}}\ndata: {{train: t.jsonl}}\nhardware: {{gpu: rtx5090-32gb}}\n"
    )
    assert main(["plan", "job.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("GPU memory") for line in lines)
    bars = [line for line in lines if "█" in line]
    assert {line.split("  ")[0] for line in bars} >= {"weights", "gradients", "optimizer"}
    assert 36 <= sum(line.count("█") + line.count("·") for line in lines) <= 44


JOBS = [path for path in shipped.JOBS if not path.stem.startswith("demo")]
"""But those that train on processors."""


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_every_job_of_ours_fits_its_own_gpu(path, monkeypatch):
    monkeypatch.chdir(path.parents[1])
    job, _ = read_job(str(path), [])
    plan = planner.plan(job, a_cluster(), "local", workdir=path.parents[1], runs_root=path.parents[1] / "runs")
    assert plan.memory.fits
