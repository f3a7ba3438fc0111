"""What is rendered for Kubernetes: recorded, taken by the schemas of several versions, within the rules that no schema
holds, and closed to whatever is written into it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hatrain.contract.cluster import KubernetesCluster
from hatrain.contract.load import load_job
from hatrain.contract.plan import Plan
from hatrain.errors import BadInput
from launch import cluster_files, planner
from launch.backends.kubernetes import controllers, yaml_output
from launch.backends.kubernetes import render as kubernetes
from launch.planner import Refusal
from tests.golden import matches
from tests.kubernetes import checks
from tests.plans import a_job
from tests.require import need

GOLDEN = Path(__file__).parent / "golden" / "kubernetes"
ROOT = Path(__file__).parents[2]
CLUSTERS = ("kubernetes", "kubernetes-kueue", "kubernetes-jobset")
VERSIONS = ("1.27", "1.29", ".".join(kubernetes_validate.latest_version().split(".")[:2]))
NASTY = 'it\'s $HOME; "`id`" \\ é\nEND\n---\nkind: Secret\n  # x'


def a_place(**changes) -> KubernetesCluster:
    written = {
        "kind": "kubernetes",
        "image": "registry.example/hatrain@sha256:" + "0" * 64,
        "runs": {"claim": "runs", "access": "ReadWriteMany"},
        "data": {"claim": "data", "access": "ReadOnlyMany"},
        "cache": {"claim": "cache", "access": "ReadWriteMany"},
        **changes,
    }
    return KubernetesCluster.model_validate(written)


def planned(place: KubernetesCluster | None = None, /, at="somewhere", run=None, **changes) -> Plan:
    job = a_job(**{"hardware__gpu": "a100-80gb", **changes})
    return planner.plan(
        job, place or a_place(), at, workdir=Path("/nowhere"), runs_root=Path("/nowhere/runs"), run=run
    )


def stream(place: KubernetesCluster | None = None, /, **changes) -> str:
    return kubernetes.stream(planned(place, **changes))


def refused(place: KubernetesCluster | None = None, /, **changes) -> dict[str, str]:
    with pytest.raises(Refusal) as raised:
        planned(place, **changes)
    return dict(raised.value.reasons)


# --- recorded -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sharding", ["ddp", "fsdp", "zero3"])
@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("name", CLUSTERS)
def test_manifests_are_as_recorded(name, nodes, sharding):
    _, place = cluster_files.load_cluster(str(cluster_files.SHIPPED / f"{name}.yaml"))
    plan = planned(
        place,
        at=name,
        name="home-3b",
        hardware__nodes=nodes,
        hardware__gpus_per_node=2,
        hardware__sharding=sharding,
        method__batch_size=32,
    )
    matches(GOLDEN / name / f"{nodes}-{sharding}.yaml", kubernetes.files(plan)["launch/manifests.yaml"])


def test_the_files_of_a_run_are_those_of_every_launcher_the_stop_and_the_manifests():
    files = kubernetes.files(planned())
    assert set(files) == {
        "job.yaml",
        "launch/env.sh",
        "launch/node.sh",
        "launch/stop.sh",
        "launch/manifests.yaml",
    }
    assert files["launch/manifests.yaml"] == stream()


# --- taken --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("controller", ["job", "jobset"])
@pytest.mark.parametrize("queue", [None, "team-a"])
def test_every_version_takes_what_is_rendered_for_it(version, nodes, controller, queue):
    place = a_place(
        kubernetes_version=version,
        controller=controller,
        queue=queue,
        priority="low",
        gpus={"a100-80gb": "NVIDIA-A100-SXM4-80GB"},
        service_account="trainer",
        pull_secrets=["registry"],
        node_selector={"pool": "gpu"},
        tolerations=[{"key": "gpu", "operator": "Exists", "tolerationSeconds": 300}],
        affinity={"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        rdma={"resource": "rdma/hca", "count": 2},
        secrets={"HF_TOKEN": {"secret": "hub", "key": "token"}},
        nccl={"NCCL_SOCKET_IFNAME": "eth0"},
    )
    text = stream(place, hardware__nodes=nodes, hardware__gpus_per_node=4, method__batch_size=16)
    checks.validate(text, version)
    assert checks.violations(text) == []
    assert checks.insecure(text) == []


@pytest.mark.parametrize("name", CLUSTERS)
@pytest.mark.parametrize("job", sorted(path.stem for path in (ROOT / "jobs").glob("*.yaml")))
def test_every_job_renders_for_every_example_cluster(job, name):
    _, place = cluster_files.load_cluster(str(cluster_files.SHIPPED / f"{name}.yaml"))
    spec = load_job(str(ROOT / "jobs" / f"{job}.yaml"))
    plan = planner.plan(spec, place, name, workdir=ROOT, runs_root=ROOT / "runs")
    text = kubernetes.stream(plan)
    checks.validate(text, place.kubernetes_version)
    assert checks.violations(text) == []
    assert checks.insecure(text) == []


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (lambda text: text.replace("restartPolicy: Never", "restartPolicy: Always"), "restartPolicy"),
        (lambda text: text.replace("name: kitchen\n", "name: Kitchen\n"), "no name"),
        (lambda text: text.replace("sizeLimit: 8Gi", "sizeLimit: 64Gi"), "/dev/shm"),
        (lambda text: text.replace("action: Ignore", "action: ignore"), "action"),
        (lambda text: text.replace("medium: Memory", "medium: memory"), "/dev/shm"),
    ],
)
def test_the_checks_see_what_schemas_do_not(change, wrong):
    broken = change(stream())
    assert broken != stream()
    assert any(wrong in line for line in checks.violations(broken))


def test_a_schema_that_does_not_know_a_key_refuses_it():
    text = stream(a_place(kubernetes_version="1.28"))
    checks.validate(text, "1.28")
    with pytest.raises(kubernetes_validate.ValidationError, match="podReplacementPolicy"):
        checks.validate(text, "1.27")


@pytest.mark.parametrize(
    ("version", "has_policy", "has_conditions"),
    [("1.27", False, True), ("1.28", True, True), ("1.29", True, False), ("1.33", True, False)],
)
def test_newer_fields_are_used_where_the_version_knows_them(version, has_policy, has_conditions):
    spec = checks.inner_job(stream(a_place(kubernetes_version=version)))["spec"]
    assert ("podReplacementPolicy" in spec) is has_policy
    assert ("onPodConditions" in spec["podFailurePolicy"]["rules"][0]) is has_conditions


# --- how a run ends, and how often it begins ----------------------------------------------------------------


def rule_for(spec, code=None, condition=None) -> str:
    """Return what the first rule that fits does; a pod that fits none is counted."""
    for rule in spec["podFailurePolicy"]["rules"]:
        if code in rule.get("onExitCodes", {}).get("values", []):
            return rule["action"]
        if condition in [one["type"] for one in rule.get("onPodConditions", [])]:
            return rule["action"]
    return "Count"


@pytest.mark.parametrize("controller", ["job", "jobset"])
@pytest.mark.parametrize(
    ("code", "action"),
    [(78, "FailJob"), (130, "FailJob"), (75, "Ignore"), (1, "Count"), (137, "Count"), (127, "FailJob")],
)
def test_an_exit_code_means_what_it_means_on_every_launcher(controller, code, action):
    assert rule_for(checks.inner_job(stream(a_place(controller=controller)))["spec"], code) == action


def test_a_pod_that_its_node_lost_is_not_counted_but_what_can_never_succeed_ends_the_run_even_then():
    spec = checks.inner_job(stream())["spec"]
    assert rule_for(spec, condition="DisruptionTarget") == "Ignore"
    assert rule_for(spec, 78, "DisruptionTarget") == "FailJob"


@pytest.mark.parametrize(("nodes", "retries"), [(1, 3), (4, 3), (2, 200)])
def test_the_backoff_limit_counts_each_pod_and_never_ends_a_run_before_entry_does(nodes, retries):
    made = checks.inner_job(stream(hardware__nodes=nodes, limits__retries=retries, method__batch_size=8))[
        "spec"
    ]
    assert made["backoffLimit"] >= nodes * (retries + 1)
    assert made["backoffLimit"] >= nodes * controllers.FAULTS


def test_a_jobset_starts_all_pods_again_after_a_fault_and_none_after_an_end():
    jobset = checks.of_kind(stream(a_place(controller="jobset"), hardware__nodes=2), "JobSet")
    assert checks.inner_job(stream(a_place(controller="jobset")))["spec"]["backoffLimit"] == 0
    policy = jobset["spec"]["failurePolicy"]
    assert policy["maxRestarts"] >= controllers.FAULTS
    assert [(rule["action"], rule["onJobFailureReasons"]) for rule in policy["rules"]] == [
        ("FailJobSet", ["PodFailurePolicy"])
    ]


def test_the_deadline_is_of_an_attempt_and_leaves_time_for_a_checkpoint():
    text = stream(a_place(termination_grace="10m"), limits__time="24:00:00")
    pod = checks.pod_of(text)
    assert pod["activeDeadlineSeconds"] + pod["terminationGracePeriodSeconds"] == 24 * 3600
    assert "activeDeadlineSeconds" not in checks.inner_job(text)["spec"]


def test_entry_loses_patience_before_kubernetes_does():
    text = stream(a_place(termination_grace="100s"))
    (grace,) = [
        one["value"] for one in checks.container_of(text)["env"] if one["name"] == "HATRAIN_STOP_GRACE"
    ]
    assert 0 < int(grace) < checks.pod_of(text)["terminationGracePeriodSeconds"] == 100


def test_a_finished_job_stays_as_long_as_the_cluster_says():
    for controller, kind in (("job", "Job"), ("jobset", "JobSet")):
        text = stream(a_place(controller=controller, keep_finished="2d"))
        assert checks.of_kind(text, kind)["spec"]["ttlSecondsAfterFinished"] == 2 * 86400


# --- several nodes ------------------------------------------------------------------------------------------


def test_one_node_needs_no_service_and_no_address():
    text = stream()
    assert [one["kind"] for one in checks.documents(text)] == ["ConfigMap", "Job"]
    assert "MASTER_ADDR" not in text.partition("kind: Job")[2]
    assert checks.of_kind(stream(a_place(controller="jobset")), "JobSet")["spec"]["network"] == {
        "enableDNSHostnames": False,
        "publishNotReadyAddresses": True,
    }


def test_several_nodes_meet_at_the_first_before_any_is_ready():
    text = stream(hardware__nodes=3, method__batch_size=6)
    service = checks.of_kind(text, "Service")
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert (
        service["spec"]["selector"].items()
        <= checks.inner_job(text)["spec"]["template"]["metadata"]["labels"].items()
    )
    assert checks.pod_of(text)["subdomain"] == service["metadata"]["name"] == "kitchen"
    told = {one["name"]: one.get("value") for one in checks.container_of(text)["env"]}
    assert told["MASTER_ADDR"] == "kitchen-0.kitchen"
    assert told["MASTER_PORT"].isdigit()


def test_a_jobset_gives_its_pods_their_names_itself():
    text = stream(a_place(controller="jobset"), hardware__nodes=2)
    assert [one["kind"] for one in checks.documents(text)] == ["ConfigMap", "JobSet"]
    assert "subdomain" not in checks.pod_of(text)
    told = {one["name"]: one.get("value") for one in checks.container_of(text)["env"]}
    assert told["MASTER_ADDR"] == "kitchen-node-0-0.kitchen"


@pytest.mark.parametrize(
    ("key", "volume", "fits"),
    [
        ("runs", {"claim": "a", "access": "ReadWriteMany"}, True),
        ("runs", {"claim": "a"}, False),
        ("runs", {"host_path": "/mnt/a"}, True),
        ("cache", {"claim": "a"}, False),
        ("cache", {"claim": "a", "access": "ReadOnlyMany", "read_only": True}, True),
        ("cache", {"claim": "a", "access": "ReadOnlyMany"}, False),
        ("data", {"claim": "a", "access": "ReadOnlyMany"}, True),
        ("data", {"claim": "a"}, False),
    ],
)
def test_several_nodes_need_volumes_that_several_nodes_can_mount(key, volume, fits):
    place = a_place(**{key: volume})
    assert planned(place)
    if fits:
        assert planned(place, hardware__nodes=2)
    else:
        told = refused(place, hardware__nodes=2)
        assert "accepted: a claim that is ReadWriteMany, or one node" in told[f"cluster.{key}.access"]


@pytest.mark.parametrize(
    ("runs", "key"),
    [({"claim": "a", "read_only": True}, "read_only"), ({"claim": "a", "access": "ReadOnlyMany"}, "access")],
)
def test_runs_need_a_volume_that_can_be_written(runs, key):
    assert "a run is written" in refused(a_place(runs=runs))[f"cluster.runs.{key}"]


# --- names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("controller", "nodes", "longest"),
    [("job", 1, 55), ("job", 16, 54), ("jobset", 1, 48), ("jobset", 2, 48)],
)
def test_a_name_is_as_long_as_its_pods_allow_and_refused_beyond(controller, nodes, longest):
    place = a_place(controller=controller)
    changes = {"hardware__nodes": nodes, "method__batch_size": 2 * nodes}
    assert checks.violations(stream(place, name="a" * longest, **changes)) == []
    assert f"room for {longest}" in refused(place, name="a" * (longest + 1), **changes)["name"]


@pytest.mark.parametrize(
    ("name", "run", "object_name"),
    [
        ("Home_1B.rev10", None, "home-1b-rev10"),
        ("a--b...", None, "a--b"),
        ("3b", None, "3b"),
        ("kitchen", "kitchen/sweep/3", "kitchen-sweep-3"),
    ],
)
def test_a_runs_name_becomes_one_that_kubernetes_takes_and_is_kept_beside_it(name, run, object_name):
    text = kubernetes.stream(planned(name=name, run=run))
    job = checks.of_kind(text, "Job")
    assert job["metadata"]["name"] == object_name
    assert job["metadata"]["annotations"][kubernetes.RUN] == run or name
    assert checks.violations(text) == []


def test_names_that_begin_with_a_digit_are_refused_where_a_service_would_have_them():
    assert planned(name="3b")
    assert (
        "the Service of several nodes needs a name that begins with a letter"
        in refused(name="3b", hardware__nodes=2)["name"]
    )
    assert "a JobSet needs" in refused(a_place(controller="jobset"), name="3b")["name"]


def test_a_sweep_is_one_stream_with_a_job_for_each_run():
    plans = [planned(run=f"kitchen/sweep/{number}", seed=number) for number in (1, 2, 3)]
    found = checks.documents(kubernetes.streams(plans))
    assert [one["metadata"]["name"] for one in found if one["kind"] == "Job"] == [
        "kitchen-sweep-1",
        "kitchen-sweep-2",
        "kitchen-sweep-3",
    ]
    names = [(one["kind"], one["metadata"]["name"]) for one in found]
    assert len(set(names)) == len(names)


# --- the files ----------------------------------------------------------------------------------------------


def test_pods_see_the_files_at_the_paths_of_a_run_directory():
    plan = planned(hardware__gpus_per_node=2, hardware__sharding="fsdp")
    text = kubernetes.stream(plan)
    held = checks.of_kind(text, "ConfigMap")["data"]
    (config,) = [one["configMap"] for one in checks.pod_of(text)["volumes"] if "configMap" in one]
    seen = {item["path"]: held[item["key"]] for item in config["items"]}
    assert Plan.model_validate_json(seen.pop("plan.json")) == plan
    assert seen == {
        path: text for path, text in kubernetes.files(plan).items() if path != kubernetes.MANIFESTS
    }
    (mount,) = [
        one for one in checks.container_of(text)["volumeMounts"] if one["mountPath"] == "/etc/hatrain"
    ]
    assert mount["readOnly"] is True
    assert checks.container_of(text)["command"] == [
        "bash",
        "/etc/hatrain/launch/node.sh",
        "/etc/hatrain/plan.json",
    ]


def test_other_contents_get_another_name_so_that_no_live_pod_sees_them():
    first, again, other = (checks.of_kind(stream(seed=seed), "ConfigMap") for seed in (1, 1, 2))
    assert first["immutable"] is True
    assert first == again
    assert first["metadata"]["name"] != other["metadata"]["name"]


def test_more_than_a_configmap_holds_is_refused():
    with pytest.raises(BadInput, match=r"come to 1,6\d\d,\d\d\d bytes, and a ConfigMap holds 1,048,576"):
        stream(a_place(environment={"LONG": "x" * 550_000}))


# --- what a pod sees and may do -----------------------------------------------------------------------------


def test_rdma_is_a_named_way_out_of_the_restricted_standard_and_nothing_but_that():
    place = a_place(rdma={"resource": "rdma/hca", "count": 2}, pod_security="rdma")
    text = stream(place, hardware__nodes=2)
    assert checks.insecure(text) == ["capabilities added"]
    assert checks.container_of(text)["securityContext"]["capabilities"] == {
        "drop": ["ALL"],
        "add": ["IPC_LOCK"],
    }
    assert checks.container_of(text)["resources"]["limits"]["rdma/hca"] == 2
    assert "rdma/hca" not in checks.container_of(stream(place))["resources"]["limits"]


def test_everything_that_is_written_is_on_a_volume():
    container = checks.container_of(stream())
    writable = {one["mountPath"] for one in container["volumeMounts"] if not one.get("readOnly")}
    told = {one["name"]: one.get("value") for one in container["env"]}
    assert writable == {"/tmp", "/dev/shm", "/cache", "/workspace/runs", "/workspace/models"}
    assert told["HOME"] == "/tmp"
    assert told["HF_HOME"].startswith("/cache/")


def test_a_claim_that_is_used_for_several_things_is_one_volume():
    shared = {"claim": "all", "access": "ReadWriteMany"}
    place = a_place(
        data={**shared, "sub_path": "sets"},
        runs={**shared, "sub_path": "mine"},
        cache={**shared, "sub_path": "hub"},
    )
    text = stream(place)
    claims = [one for one in checks.pod_of(text)["volumes"] if "persistentVolumeClaim" in one]
    assert len(claims) == 1
    mounted = {
        one["mountPath"]: one["subPath"]
        for one in checks.container_of(text)["volumeMounts"]
        if one["name"] == claims[0]["name"]
    }
    assert mounted == {
        "/workspace/data": "sets",
        "/workspace/runs": "mine/runs",
        "/workspace/models": "mine/models",
        "/cache": "hub",
    }


def test_host_paths_stand_in_for_claims_and_are_noted():
    place = a_place(runs={"host_path": "/mnt/house"}, data={"host_path": "/mnt/sets"})
    text = stream(place)
    paths = [one["hostPath"] for one in checks.pod_of(text)["volumes"] if "hostPath" in one]
    assert [one["path"] for one in paths] == ["/mnt/sets", "/mnt/house/runs", "/mnt/house/models"]
    assert {one["type"] for one in paths} == {"Directory"}
    assert checks.insecure(text) == ["volume types"]
    assert any("host_path" in note and "restricted" in note for note in planner.notes(planned(place)))


def test_an_image_that_may_change_is_noted():
    assert any("is no digest" in note for note in planner.notes(planned(a_place(image="hatrain:latest"))))
    assert planner.notes(planned()) == []


def test_a_gpu_is_found_by_its_label_and_processors_need_none():
    place = a_place(gpus={"a100-80gb": "NVIDIA-A100-SXM4-80GB"}, node_selector={"pool": "gpu"})
    text = stream(place, hardware__gpus_per_node=2)
    assert checks.pod_of(text)["nodeSelector"] == {
        "pool": "gpu",
        "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB",
    }
    assert checks.container_of(text)["resources"]["limits"]["nvidia.com/gpu"] == 2
    on_cpu = stream(place, hardware__gpu="cpu")
    assert checks.pod_of(on_cpu)["nodeSelector"] == {"pool": "gpu"}
    assert "nvidia.com/gpu" not in checks.container_of(on_cpu)["resources"]["limits"]


def test_a_secret_is_named_and_its_value_is_nowhere():
    place = a_place(secrets={"HF_TOKEN": {"secret": "hub", "key": "token"}})
    (token,) = [one for one in checks.container_of(stream(place))["env"] if one["name"] == "HF_TOKEN"]
    assert token == {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}}


def test_a_queue_holds_a_run_back_and_takes_its_priority():
    for controller, kind in (("job", "Job"), ("jobset", "JobSet")):
        text = stream(a_place(controller=controller, queue="team-a", priority="low"))
        made = checks.of_kind(text, kind)
        assert made["spec"]["suspend"] is True
        assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
        assert made["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "low"
        assert "priorityClassName" not in checks.pod_of(text)
    alone = stream(a_place(priority="low"))
    assert checks.pod_of(alone)["priorityClassName"] == "low"
    assert "suspend" not in checks.of_kind(alone, "Job")["spec"]


@pytest.mark.parametrize("time", ["00:10:00", "00:05:00"])
def test_a_time_with_no_room_for_a_checkpoint_is_refused(time):
    assert "are kept for a checkpoint (termination_grace" in refused(limits__time=time)["limits.time"]


def test_shared_memory_that_leaves_none_is_refused():
    place = a_place(shared_memory_per_gpu="64GiB", memory_per_gpu="64GiB")
    assert "counts against it" in refused(place)["cluster.shared_memory_per_gpu"]


# --- the overlay --------------------------------------------------------------------------------------------


def test_an_overlay_has_the_last_word_key_by_key_and_name_by_name():
    place = a_place(
        pod_overlay={
            "runtimeClassName": "nvidia",
            "securityContext": {"supplementalGroups": [7]},
            "tolerations": [{"operator": "Exists"}],
            "enableServiceLinks": None,
            "containers": [
                {
                    "name": "hatrain",
                    "env": [{"name": "HOME", "value": "/cache"}, {"name": "MORE", "value": "1"}],
                }
            ],
            "volumes": [{"name": "shm", "emptyDir": {"sizeLimit": "1Gi"}}],
        },
        tolerations=[{"key": "gpu", "operator": "Exists"}],
    )
    text = stream(place)
    pod = checks.pod_of(text)
    assert pod["runtimeClassName"] == "nvidia"
    assert pod["securityContext"]["supplementalGroups"] == [7]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert "enableServiceLinks" not in pod
    told = {one["name"]: one.get("value") for one in checks.container_of(text)["env"]}
    assert (told["HOME"], told["MORE"], told["USER"]) == ("/cache", "1", "hatrain")
    (shm,) = [one["emptyDir"] for one in pod["volumes"] if one["name"] == "shm"]
    assert shm == {"medium": "Memory", "sizeLimit": "1Gi"}
    checks.validate(text, "1.29")


# --- spelling -----------------------------------------------------------------------------------------------


def core(text: str):
    """Read YAML as version 1.2's core schema has it, which is not what PyYAML does by itself."""
    from hatrain.contract.cluster.yaml_values import as_yaml
    from hatrain.contract.load import read_text

    document = read_text(text, "stream")
    assert document.problems == []
    return as_yaml(document.data)


AMBIGUOUS = ["1e5", "1e-5", "010", "08", "0o17", "0x1F", "y", "n", "Y", "no", "on", "true", "null", "~", "", " a", "a ",
             "1_000", "12:30:45", "2026-11-25", ".5", "+1", "-", "- a", "a: b", "#a", "a #b", "&a", "*a", "!a", "%a",
             "@a", "`a", "{a", "[a", "'", '"', "<<", "=", "\t", "é", "a\nb", "a\n", "\na", " a\nb ", "a\n\n",
             "---", NASTY]  # fmt: skip


@pytest.mark.parametrize("text", AMBIGUOUS)
def test_text_stays_text_for_every_reader_of_yaml(text):
    written = yaml_output.document("why", {"a": text, "b": [text], text or "c": 1})
    assert yaml.safe_load(written) == {"a": text, "b": [text], text or "c": 1}
    assert core(written)["a"] == text


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"], whitelist_characters="\n\t"), max_size=60))
def test_any_text_comes_back_as_it_was(text):
    written = yaml_output.document("why", {"a": {"b": text}})
    assert yaml.safe_load(written) == {"a": {"b": text}} == core(written)


@pytest.mark.parametrize("text", ["1e5", "08", "y", ".5", "1e-5", "010"])
def test_what_kubectl_would_take_for_something_else_stands_in_quotes(text):
    assert yaml_output.document("why", {"a": text}).endswith(f"a: '{text}'\n")


def test_kubectls_own_reader_of_yaml_finds_what_was_written(tmp_path):
    need("kubectl")
    text = stream(
        a_place(environment={"ODD": NASTY, "NUMBER": "1e5", "YES": "y", "OCTAL": "010"}), hardware__nodes=2
    )
    (tmp_path / "manifests.yaml").write_text(text)
    (tmp_path / "kustomization.yaml").write_text("resources: [manifests.yaml]\n")
    told = subprocess.run(
        ["kubectl", "kustomize", str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert told.returncode == 0, told.stderr
    by_name = {(one["kind"], one["metadata"]["name"]): one for one in checks.documents(told.stdout)}
    for one in checks.documents(text):
        assert by_name[one["kind"], one["metadata"]["name"]] == one


def test_files_stand_in_the_configmap_as_they_are():
    written = stream().splitlines()
    at = written.index("  node.sh: |")
    assert written[at + 1] == "    #!/usr/bin/env bash"


@pytest.mark.parametrize(
    ("size", "text"),
    [(1, "1"), (1024, "1Ki"), (1536 * 2**20, "1536Mi"), (64 * 2**30, "64Gi"), (2**40, "1Ti")],
)
def test_sizes_are_said_in_the_largest_unit_that_is_exact(size, text):
    assert yaml_output.quantity(size) == text
    assert checks.amount(text) == size


@pytest.mark.parametrize("nodes", [1, 2])
def test_odd_values_neither_break_a_stream_nor_add_to_it(nodes):
    place = a_place(environment={"ODD": NASTY}, nccl={"NCCL_DEBUG": NASTY}, python="/opt/é $HOME/'python'")
    text = stream(place, hardware__nodes=nodes, model__base="some/base; $(id) é\n---\nkind: Secret")
    kinds = ["ConfigMap", "Service", "Job"] if nodes == 2 else ["ConfigMap", "Job"]
    assert [one["kind"] for one in checks.documents(text)] == kinds
    checks.validate(text, "1.29")
    assert (
        Plan.model_validate_json(checks.of_kind(text, "ConfigMap")["data"]["plan.json"]).environment["ODD"]
        == NASTY
    )


def test_every_document_opens_with_why():
    for text in (
        stream(hardware__nodes=2),
        stream(a_place(controller="jobset", queue="a"), hardware__nodes=2),
    ):
        parts = text.split("---\n")[1:]
        assert all(part.startswith("# ") for part in parts)
        assert all(len(line) <= 120 for part in parts for line in part.splitlines() if line.startswith("# "))


def test_the_stop_script_is_clean_under_shellcheck(tmp_path):
    script = tmp_path / "stop.sh"
    script.write_text(kubernetes.files(planned())["launch/stop.sh"])
    command = str(Path(sys.executable).with_name("shellcheck"))
    told = subprocess.run([command, str(script)], capture_output=True, text=True)
    assert told.returncode == 0, told.stdout


def test_the_stop_word_is_json():
    (command,) = [checks.container_of(stream())["lifecycle"]["preStop"]["exec"]["command"]]
    assert json.loads(command[3])["requeue"] is True
    assert command[2] == "/workspace/runs/kitchen"
    assert not re.search(r"requeue\":false", command[3])
