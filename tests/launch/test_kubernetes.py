"""Rendering for Kubernetes: the schemas of several versions accept it, it keeps the rules that no schema has, and odd
values cannot break it."""

import json
import re
import subprocess
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
from launch.backends.kubernetes import controllers, render, yaml_output
from launch.planner import Refusal
from tests import shipped
from tests.golden import matches
from tests.kubernetes import checks
from tests.launch.rendering import files, single_file
from tests.plans import a_job
from tests.require import need

GOLDEN = Path(__file__).parent / "golden"
ROOT = Path(__file__).parents[2]
CLUSTERS = ("kubernetes", "kubernetes-kueue", "kubernetes-jobset")
VERSIONS = ("1.27", "1.29", ".".join(kubernetes_validate.latest_version().split(".")[:2]))
NASTY = 'it\'s $HOME; "`id`" \\ é\nEND\n---\nkind: Secret\n  # x'


def a_cluster(**changes) -> KubernetesCluster:
    written = {
        "kind": "kubernetes",
        "image": "registry.example/hatrain@sha256:" + "0" * 64,
        "runs": {"claim": "runs", "access": "ReadWriteMany"},
        "data": {"claim": "data", "access": "ReadOnlyMany"},
        "cache": {"claim": "cache", "access": "ReadWriteMany"},
        **changes,
    }
    return KubernetesCluster.model_validate(written)


def planned(cluster: KubernetesCluster | None = None, /, cluster_name="my-k8s", run=None, **changes) -> Plan:
    job = a_job(**{"hardware__gpu": "a100-80gb", **changes})
    return planner.plan(
        job,
        cluster or a_cluster(),
        cluster_name,
        workdir=Path("/nowhere"),
        runs_root=Path("/nowhere/runs"),
        run=run,
    )


def manifests(cluster: KubernetesCluster | None = None, /, **changes) -> str:
    return single_file(planned(cluster, **changes))


def refused(cluster: KubernetesCluster | None = None, /, **changes) -> dict[str, str]:
    with pytest.raises(Refusal) as raised:
        planned(cluster, **changes)
    return dict(raised.value.reasons)


# --- files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["kubernetes", "kubernetes-jobset"])
def test_the_manifests_of_two_nodes_are_as_recorded(name):
    _, cluster = cluster_files.load_cluster(str(cluster_files.SHIPPED / f"{name}.yaml"))
    plan = planned(
        cluster,
        cluster_name=name,
        name="home-3b",
        hardware__nodes=2,
        hardware__gpus_per_node=2,
        hardware__sharding="ddp",
        method__batch_size=32,
    )
    text = single_file(plan)
    if name == "kubernetes-jobset":
        # The files are the same.
        text = text[text.index("---\n", 4) :]
    matches(GOLDEN / f"{name}.yaml", text)


def test_the_files_of_a_run_are_those_of_every_backend_stop_sh_and_the_manifests():
    rendered = files(planned())
    assert set(rendered) == {
        "job.yaml",
        "launch/env.sh",
        "launch/node.sh",
        "launch/stop.sh",
        "launch/manifests.yaml",
    }
    assert rendered["launch/manifests.yaml"] == manifests()


# --- schemas and rules --------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("controller", ["job", "jobset"])
@pytest.mark.parametrize("queue", [None, "team-a"])
def test_every_version_accepts_what_is_rendered_for_it(version, nodes, controller, queue):
    cluster = a_cluster(
        kubernetes_version=version,
        controller=controller,
        queue=queue,
        priority="low",
        gpus={"a100-80gb": "NVIDIA-A100-SXM4-80GB"},
        service_account="trainer",
        pull_secrets=["registry"],
        node_selector={"pool": "gpu"},
        tolerations=[{"key": "gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
        affinity={"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        rdma={"resource": "rdma/hca", "count": 2},
        secrets={"HF_TOKEN": {"secret": "hub", "key": "token"}},
        nccl={"NCCL_SOCKET_IFNAME": "eth0"},
    )
    text = manifests(cluster, hardware__nodes=nodes, hardware__gpus_per_node=4, method__batch_size=16)
    checks.validate(text, version)
    assert checks.violations(text) == []
    assert checks.insecure(text) == []


@pytest.mark.parametrize("name", CLUSTERS)
@pytest.mark.parametrize("job", [path.stem for path in shipped.JOBS])
def test_every_job_renders_for_every_example_cluster(job, name):
    _, cluster = cluster_files.load_cluster(str(cluster_files.SHIPPED / f"{name}.yaml"))
    spec = load_job(str(ROOT / "jobs" / f"{job}.yaml"))
    plan = planner.plan(spec, cluster, name, workdir=ROOT, runs_root=ROOT / "runs")
    text = single_file(plan)
    checks.validate(text, cluster.kubernetes_version)
    assert checks.violations(text) == []
    assert checks.insecure(text) == []


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (lambda text: text.replace("restartPolicy: Never", "restartPolicy: Always"), "restartPolicy"),
        (lambda text: text.replace("name: kitchen\n", "name: Kitchen\n"), "no valid name"),
        (lambda text: text.replace("sizeLimit: 8Gi", "sizeLimit: 64Gi"), "/dev/shm"),
        (lambda text: text.replace("action: Ignore", "action: ignore"), "action"),
        (lambda text: text.replace("medium: Memory", "medium: memory"), "/dev/shm"),
    ],
)
def test_the_checks_find_what_schemas_do_not(change, wrong):
    broken = change(manifests())
    assert broken != manifests()
    assert any(wrong in line for line in checks.violations(broken))


def test_a_schema_refuses_an_unknown_key():
    text = manifests(a_cluster(kubernetes_version="1.28"))
    checks.validate(text, "1.28")
    with pytest.raises(kubernetes_validate.ValidationError, match="podReplacementPolicy"):
        checks.validate(text, "1.27")


@pytest.mark.parametrize(
    ("version", "has_policy", "has_conditions"),
    [("1.27", False, True), ("1.28", True, True), ("1.29", True, False), ("1.33", True, False)],
)
def test_newer_fields_are_used_where_the_version_knows_them(version, has_policy, has_conditions):
    spec = checks.inner_job(manifests(a_cluster(kubernetes_version=version)))["spec"]
    assert ("podReplacementPolicy" in spec) is has_policy
    assert ("onPodConditions" in spec["podFailurePolicy"]["rules"][0]) is has_conditions


# --- the end of a run, and restarts -------------------------------------------------------------------------


def rule_for(spec, code=None, condition=None) -> str:
    """The action of the first rule that matches; a pod that matches none is counted."""
    for rule in spec["podFailurePolicy"]["rules"]:
        if code in rule.get("onExitCodes", {}).get("values", []):
            return rule["action"]
        if condition in [each["type"] for each in rule.get("onPodConditions", [])]:
            return rule["action"]
    return "Count"


@pytest.mark.parametrize("controller", ["job", "jobset"])
@pytest.mark.parametrize(
    ("code", "action"),
    [(78, "FailJob"), (130, "FailJob"), (75, "Ignore"), (1, "Count"), (137, "Count"), (127, "FailJob")],
)
def test_an_exit_code_means_the_same_as_on_every_scheduler(controller, code, action):
    assert rule_for(checks.inner_job(manifests(a_cluster(controller=controller)))["spec"], code) == action


def test_a_pod_lost_with_its_node_is_not_counted_unless_it_can_never_succeed():
    spec = checks.inner_job(manifests())["spec"]
    assert rule_for(spec, condition="DisruptionTarget") == "Ignore"
    assert rule_for(spec, 78, "DisruptionTarget") == "FailJob"


@pytest.mark.parametrize(("nodes", "retries"), [(1, 3), (4, 3), (2, 200)])
def test_the_backoff_limit_counts_each_pod_and_never_ends_a_run_before_the_entry_does(nodes, retries):
    spec = checks.inner_job(manifests(hardware__nodes=nodes, limits__retries=retries, method__batch_size=8))["spec"]
    assert spec["backoffLimit"] >= nodes * (retries + 1)
    assert spec["backoffLimit"] >= nodes * controllers.FAULTS


def test_a_jobset_restarts_all_pods_after_a_fault_and_none_after_the_end():
    jobset = checks.of_kind(manifests(a_cluster(controller="jobset"), hardware__nodes=2), "JobSet")
    assert checks.inner_job(manifests(a_cluster(controller="jobset")))["spec"]["backoffLimit"] == 0
    policy = jobset["spec"]["failurePolicy"]
    assert policy["maxRestarts"] >= controllers.FAULTS
    assert [(rule["action"], rule["onJobFailureReasons"]) for rule in policy["rules"]] == [
        ("FailJobSet", ["PodFailurePolicy"])
    ]


def test_the_deadline_is_that_of_an_attempt_and_leaves_time_for_a_checkpoint():
    text = manifests(a_cluster(termination_grace="10m"), limits__time="24:00:00")
    pod = checks.pod_of(text)
    assert pod["activeDeadlineSeconds"] + pod["terminationGracePeriodSeconds"] == 24 * 3600
    assert "activeDeadlineSeconds" not in checks.inner_job(text)["spec"]


def test_the_entry_ends_its_ranks_before_kubernetes_ends_the_pod():
    text = manifests(a_cluster(termination_grace="100s"))
    (grace,) = [each["value"] for each in checks.container_of(text)["env"] if each["name"] == "HATRAIN_STOP_GRACE"]
    assert 0 < int(grace) < checks.pod_of(text)["terminationGracePeriodSeconds"] == 100


def test_a_finished_job_is_kept_as_long_as_the_cluster_file_says():
    for controller, kind in (("job", "Job"), ("jobset", "JobSet")):
        text = manifests(a_cluster(controller=controller, keep_finished="2d"))
        assert checks.of_kind(text, kind)["spec"]["ttlSecondsAfterFinished"] == 2 * 86400


# --- several nodes ------------------------------------------------------------------------------------------


def test_one_node_needs_no_service_and_no_address():
    text = manifests()
    assert [each["kind"] for each in checks.documents(text)] == ["ConfigMap", "Job"]
    assert "MASTER_ADDR" not in text.partition("kind: Job")[2]
    assert checks.of_kind(manifests(a_cluster(controller="jobset")), "JobSet")["spec"]["network"] == {
        "enableDNSHostnames": False,
        "publishNotReadyAddresses": True,
    }


def test_the_address_of_the_first_node_is_published_before_any_pod_is_ready():
    text = manifests(hardware__nodes=3, method__batch_size=6)
    service = checks.of_kind(text, "Service")
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert (
        service["spec"]["selector"].items() <= checks.inner_job(text)["spec"]["template"]["metadata"]["labels"].items()
    )
    assert checks.pod_of(text)["subdomain"] == service["metadata"]["name"] == "kitchen"
    variables = {each["name"]: each.get("value") for each in checks.container_of(text)["env"]}
    assert variables["MASTER_ADDR"] == "kitchen-0.kitchen"
    assert variables["MASTER_PORT"].isdigit()


def test_a_jobset_makes_its_own_service():
    text = manifests(a_cluster(controller="jobset"), hardware__nodes=2)
    assert [each["kind"] for each in checks.documents(text)] == ["ConfigMap", "JobSet"]
    assert "subdomain" not in checks.pod_of(text)
    variables = {each["name"]: each.get("value") for each in checks.container_of(text)["env"]}
    assert variables["MASTER_ADDR"] == "kitchen-node-0-0.kitchen"


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
    cluster = a_cluster(**{key: volume})
    assert planned(cluster)
    if fits:
        assert planned(cluster, hardware__nodes=2)
    else:
        reasons = refused(cluster, hardware__nodes=2)
        assert "accepted: a claim that is ReadWriteMany, or one node" in reasons[f"cluster.{key}.access"]


@pytest.mark.parametrize(
    ("runs", "key"),
    [({"claim": "a", "read_only": True}, "read_only"), ({"claim": "a", "access": "ReadOnlyMany"}, "access")],
)
def test_runs_need_a_writable_volume(runs, key):
    assert "runs must be writable" in refused(a_cluster(runs=runs))[f"cluster.runs.{key}"]


# --- names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("controller", "nodes", "longest"),
    [("job", 1, 55), ("job", 16, 54), ("jobset", 1, 48), ("jobset", 2, 48)],
)
def test_a_name_that_is_too_long_for_its_pods_is_refused(controller, nodes, longest):
    cluster = a_cluster(controller=controller)
    changes = {"hardware__nodes": nodes, "method__batch_size": 2 * nodes}
    assert checks.violations(manifests(cluster, name="a" * longest, **changes)) == []
    assert f"at most {longest} fit" in refused(cluster, name="a" * (longest + 1), **changes)["name"]


@pytest.mark.parametrize(
    ("name", "run", "object_name"),
    [
        ("Home_1B.rev10", None, "home-1b-rev10"),
        ("a--b...", None, "a--b"),
        ("3b", None, "3b"),
        ("kitchen", "kitchen/sweep/3", "kitchen-sweep-3"),
    ],
)
def test_a_run_has_a_valid_object_name_and_its_own_name_in_an_annotation(name, run, object_name):
    text = single_file(planned(name=name, run=run))
    job = checks.of_kind(text, "Job")
    assert job["metadata"]["name"] == object_name
    assert job["metadata"]["annotations"][render.RUN] == run or name
    assert checks.violations(text) == []


def test_a_name_that_begins_with_a_digit_is_refused_for_a_service():
    assert planned(name="3b")
    assert (
        "the Service of several nodes needs a name that begins with a letter"
        in refused(name="3b", hardware__nodes=2)["name"]
    )
    assert "a JobSet needs" in refused(a_cluster(controller="jobset"), name="3b")["name"]


def test_the_runs_of_a_sweep_have_different_objects():
    plans = [planned(run=f"kitchen/sweep/{number}", seed=number) for number in (1, 2, 3)]
    found = checks.documents("".join(map(single_file, plans)))
    assert [each["metadata"]["name"] for each in found if each["kind"] == "Job"] == [
        "kitchen-sweep-1",
        "kitchen-sweep-2",
        "kitchen-sweep-3",
    ]
    names = [(each["kind"], each["metadata"]["name"]) for each in found]
    assert len(set(names)) == len(names)


# --- the ConfigMap ------------------------------------------------------------------------------------------


def test_the_files_have_the_paths_of_a_run_directory_in_a_pod():
    plan = planned(hardware__gpus_per_node=2, hardware__sharding="fsdp")
    text = single_file(plan)
    held = checks.of_kind(text, "ConfigMap")["data"]
    (config,) = [each["configMap"] for each in checks.pod_of(text)["volumes"] if "configMap" in each]
    seen = {item["path"]: held[item["key"]] for item in config["items"]}
    assert Plan.model_validate_json(seen.pop("plan.json")) == plan
    assert seen == {path: text for path, text in files(plan).items() if path != render.MANIFESTS}
    (mount,) = [each for each in checks.container_of(text)["volumeMounts"] if each["mountPath"] == "/etc/hatrain"]
    assert mount["readOnly"] is True
    assert checks.container_of(text)["command"] == [
        "bash",
        "/etc/hatrain/launch/node.sh",
        "/etc/hatrain/plan.json",
    ]


def test_other_contents_have_another_name():
    first, again, other = (checks.of_kind(manifests(seed=seed), "ConfigMap") for seed in (1, 1, 2))
    assert first["immutable"] is True
    assert first == again
    assert first["metadata"]["name"] != other["metadata"]["name"]


def test_files_that_do_not_fit_into_a_configmap_are_refused():
    with pytest.raises(BadInput, match=r"have 1,6\d\d,\d\d\d bytes, and a ConfigMap holds at most 1,048,576"):
        manifests(a_cluster(environment={"LONG": "x" * 550_000}))


# --- the pod ------------------------------------------------------------------------------------------------


def test_rdma_adds_one_capability_and_nothing_else():
    cluster = a_cluster(rdma={"resource": "rdma/hca", "count": 2}, pod_security="rdma")
    text = manifests(cluster, hardware__nodes=2)
    assert checks.insecure(text) == ["capabilities added"]
    assert checks.container_of(text)["securityContext"]["capabilities"] == {
        "drop": ["ALL"],
        "add": ["IPC_LOCK"],
    }
    assert checks.container_of(text)["resources"]["limits"]["rdma/hca"] == 2
    assert "rdma/hca" not in checks.container_of(manifests(cluster))["resources"]["limits"]


def test_every_writable_folder_is_a_volume():
    container = checks.container_of(manifests())
    writable = {each["mountPath"] for each in container["volumeMounts"] if not each.get("readOnly")}
    variables = {each["name"]: each.get("value") for each in container["env"]}
    assert writable == {"/tmp", "/dev/shm", "/cache", "/workspace/runs", "/workspace/models"}
    assert variables["HOME"] == "/tmp"
    assert variables["HF_HOME"].startswith("/cache/")


def test_a_claim_that_is_mounted_several_times_is_one_volume():
    shared = {"claim": "all", "access": "ReadWriteMany"}
    cluster = a_cluster(
        data={**shared, "sub_path": "sets"},
        runs={**shared, "sub_path": "mine"},
        cache={**shared, "sub_path": "hub"},
    )
    text = manifests(cluster)
    claims = [each for each in checks.pod_of(text)["volumes"] if "persistentVolumeClaim" in each]
    assert len(claims) == 1
    mounted = {
        each["mountPath"]: each["subPath"]
        for each in checks.container_of(text)["volumeMounts"]
        if each["name"] == claims[0]["name"]
    }
    assert mounted == {
        "/workspace/data": "sets",
        "/workspace/runs": "mine/runs",
        "/workspace/models": "mine/models",
        "/cache": "hub",
    }


def test_host_paths_replace_claims_and_are_noted():
    cluster = a_cluster(runs={"host_path": "/mnt/team"}, data={"host_path": "/mnt/sets"})
    text = manifests(cluster)
    paths = [each["hostPath"] for each in checks.pod_of(text)["volumes"] if "hostPath" in each]
    assert [each["path"] for each in paths] == ["/mnt/sets", "/mnt/team/runs", "/mnt/team/models"]
    assert {each["type"] for each in paths} == {"Directory"}
    assert checks.insecure(text) == ["volume types"]
    assert any("host_path" in note and "restricted" in note for note in planner.notes(planned(cluster)))


def test_an_image_without_a_digest_is_noted():
    assert any("has no digest" in note for note in planner.notes(planned(a_cluster(image="hatrain:latest"))))
    assert planner.notes(planned(model__base="TinyLlama/TinyLlama-1.1B-Chat-v1.0")) == []


@pytest.mark.parametrize(
    ("cluster", "nodes", "noted"),
    [
        ({}, 2, True),
        ({}, 1, False),
        ({"queue": "team-a"}, 2, False),
        ({"controller": "jobset"}, 2, False),
        ({"pod_overlay": {"schedulerName": "volcano"}}, 2, False),
    ],
)
def test_several_nodes_that_do_not_start_together_get_a_note(cluster, nodes, noted):
    notes = planner.notes(planned(a_cluster(**cluster), hardware__nodes=nodes))
    assert any("pods start one by one" in note for note in notes) == noted


def test_a_gpu_is_selected_by_its_label_and_a_cpu_job_has_none():
    cluster = a_cluster(gpus={"a100-80gb": "NVIDIA-A100-SXM4-80GB"}, node_selector={"pool": "gpu"})
    text = manifests(cluster, hardware__gpus_per_node=2)
    assert checks.pod_of(text)["nodeSelector"] == {
        "pool": "gpu",
        "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB",
    }
    assert checks.container_of(text)["resources"]["limits"]["nvidia.com/gpu"] == 2
    on_cpu = manifests(cluster, hardware__gpu="cpu")
    assert checks.pod_of(on_cpu)["nodeSelector"] == {"pool": "gpu"}
    assert "nvidia.com/gpu" not in checks.container_of(on_cpu)["resources"]["limits"]


def test_a_secret_is_referenced_by_name():
    cluster = a_cluster(secrets={"HF_TOKEN": {"secret": "hub", "key": "token"}})
    (token,) = [each for each in checks.container_of(manifests(cluster))["env"] if each["name"] == "HF_TOKEN"]
    assert token == {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}}


def test_a_queue_suspends_a_run_and_takes_its_priority():
    for controller, kind in (("job", "Job"), ("jobset", "JobSet")):
        text = manifests(a_cluster(controller=controller, queue="team-a", priority="low"))
        controller_object = checks.of_kind(text, kind)
        assert controller_object["spec"]["suspend"] is True
        assert controller_object["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
        assert controller_object["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "low"
        assert "priorityClassName" not in checks.pod_of(text)
    alone = manifests(a_cluster(priority="low"))
    assert checks.pod_of(alone)["priorityClassName"] == "low"
    assert "suspend" not in checks.of_kind(alone, "Job")["spec"]


@pytest.mark.parametrize("time", ["00:10:00", "00:05:00"])
def test_a_time_limit_without_time_for_a_checkpoint_is_refused(time):
    assert "are reserved for a checkpoint (termination_grace" in refused(limits__time=time)["limits.time"]


def test_shared_memory_that_leaves_no_other_memory_is_refused():
    cluster = a_cluster(shared_memory_per_gpu="64GiB", memory_per_gpu="64GiB")
    assert "is a part of the memory" in refused(cluster)["cluster.shared_memory_per_gpu"]


@pytest.mark.parametrize("controller", ["job", "jobset"])
def test_labels_and_annotations_of_the_cluster_file_are_added_to_the_job_and_to_its_pods(controller):
    cluster = a_cluster(
        controller=controller,
        queue="team-a",
        labels={"cost-center": "garden"},
        annotations={"example.org/note": "a: b"},
        pod_labels={"scheduling.example.org/group": "g1"},
        pod_annotations={"karpenter.sh/do-not-disrupt": "true"},
        topology={"required": "cloud.provider.com/topology-rack"},
    )
    text = manifests(cluster, hardware={"gpu": "a100-80gb", "nodes": 2})
    meta = checks.of_kind(text, "JobSet" if controller == "jobset" else "Job")["metadata"]
    assert meta["labels"].items() >= {"cost-center": "garden", "app.kubernetes.io/name": "hatrain"}.items()
    assert meta["annotations"]["example.org/note"] == "a: b" and meta["annotations"]["hatrain/run"]
    template = checks.inner_job(text)["spec"]["template"]["metadata"]
    assert template["labels"].items() >= {"scheduling.example.org/group": "g1"}.items()
    assert template["annotations"]["karpenter.sh/do-not-disrupt"] == "true"
    assert template["annotations"]["kueue.x-k8s.io/podset-required-topology"] == "cloud.provider.com/topology-rack"
    assert "cost-center" not in template["labels"]
    checks.validate(text, "1.29")


# --- the overlay --------------------------------------------------------------------------------------------


def test_an_overlay_is_merged_last_by_key_and_by_name():
    cluster = a_cluster(
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
    text = manifests(cluster)
    pod = checks.pod_of(text)
    assert pod["runtimeClassName"] == "nvidia"
    assert pod["securityContext"]["supplementalGroups"] == [7]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["tolerations"] == [{"key": "gpu", "operator": "Exists"}, {"operator": "Exists"}]
    assert "enableServiceLinks" not in pod
    variables = {each["name"]: each.get("value") for each in checks.container_of(text)["env"]}
    assert (variables["HOME"], variables["MORE"], variables["USER"]) == ("/cache", "1", "hatrain")
    (shm,) = [each["emptyDir"] for each in pod["volumes"] if each["name"] == "shm"]
    assert shm == {"medium": "Memory", "sizeLimit": "1Gi"}
    checks.validate(text, "1.29")


# --- YAML output --------------------------------------------------------------------------------------------


def core(text: str):
    """Read YAML by the core schema of version 1.2, unlike PyYAML."""
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
def test_text_stays_text_for_every_yaml_reader(text):
    written = yaml_output.document("about", {"a": text, "b": [text], text or "c": 1})
    assert yaml.safe_load(written) == {"a": text, "b": [text], text or "c": 1}
    assert core(written)["a"] == text


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"], whitelist_characters="\n\t"), max_size=60))
def test_any_text_is_read_back_unchanged(text):
    written = yaml_output.document("about", {"a": {"b": text}})
    assert yaml.safe_load(written) == {"a": {"b": text}} == core(written)


@pytest.mark.parametrize("text", ["1e5", "08", "y", ".5", "1e-5", "010"])
def test_text_that_kubectl_would_take_for_another_type_is_quoted(text):
    assert yaml_output.document("about", {"a": text}).endswith(f"a: '{text}'\n")


def test_kubectl_reads_what_was_written(tmp_path):
    need("kubectl")
    text = manifests(
        a_cluster(environment={"ODD": NASTY, "NUMBER": "1e5", "YES": "y", "OCTAL": "010"}), hardware__nodes=2
    )
    (tmp_path / "manifests.yaml").write_text(text)
    (tmp_path / "kustomization.yaml").write_text("resources: [manifests.yaml]\n")
    result = subprocess.run(["kubectl", "kustomize", str(tmp_path)], capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    by_name = {(each["kind"], each["metadata"]["name"]): each for each in checks.documents(result.stdout)}
    for each in checks.documents(text):
        assert by_name[each["kind"], each["metadata"]["name"]] == each


def test_files_are_literal_blocks_in_the_configmap():
    written = manifests().splitlines()
    at = written.index("  node.sh: |")
    assert written[at + 1] == "    #!/usr/bin/env bash"


@pytest.mark.parametrize(
    ("size", "text"),
    [(1, "1"), (1024, "1Ki"), (1536 * 2**20, "1536Mi"), (64 * 2**30, "64Gi"), (2**40, "1Ti")],
)
def test_sizes_have_the_largest_unit_that_is_exact(size, text):
    assert yaml_output.quantity(size) == text
    assert checks.amount(text) == size


@pytest.mark.parametrize("nodes", [1, 2])
def test_odd_values_neither_break_the_documents_nor_add_any(nodes):
    cluster = a_cluster(environment={"ODD": NASTY}, nccl={"NCCL_DEBUG": NASTY}, python="/opt/é $HOME/'python'")
    text = manifests(cluster, hardware__nodes=nodes, model__base="some/base; $(id) é\n---\nkind: Secret")
    kinds = ["ConfigMap", "Service", "Job"] if nodes == 2 else ["ConfigMap", "Job"]
    assert [each["kind"] for each in checks.documents(text)] == kinds
    checks.validate(text, "1.29")
    assert Plan.model_validate_json(checks.of_kind(text, "ConfigMap")["data"]["plan.json"]).environment["ODD"] == NASTY


def test_every_document_begins_with_a_comment():
    for text in (
        manifests(hardware__nodes=2),
        manifests(a_cluster(controller="jobset", queue="a"), hardware__nodes=2),
    ):
        parts = text.split("---\n")[1:]
        assert all(part.startswith("# ") for part in parts)
        assert all(len(line) <= 120 for part in parts for line in part.splitlines() if line.startswith("# "))


def test_the_stop_request_of_kubernetes_is_json():
    (command,) = [checks.container_of(manifests())["lifecycle"]["preStop"]["exec"]["command"]]
    assert json.loads(command[3])["requeue"] is True
    assert command[2] == "/workspace/runs/kitchen"
    assert not re.search(r"requeue\":false", command[3])
