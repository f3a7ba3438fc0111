"""What docs/kubernetes.md shows is what hatrain accepts and renders."""

import re
from pathlib import Path

import pytest
import yaml

from hatrain.contract.cluster import KubernetesCluster
from hatrain.contract.load import load_job
from launch import planner
from launch.cluster_files import load_cluster
from tests.kubernetes import checks
from tests.launch.rendering import single_file
from tests.plans import a_job

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## Queues, gangs, networks\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", SECTION, re.M | re.S)
FILE = {
    "kind": "kubernetes",
    "namespace": "team",
    "image": f"registry.example/hatrain@sha256:{'0' * 64}",
    "runs": {"claim": "runs", "access": "ReadWriteMany"},
}
VERSIONS = ("1.29", "1.34")


def rendered(folder: Path, text: str) -> str:
    """The manifests of a job with two nodes, for a cluster file with these lines."""
    path = folder / "my-k8s.yaml"
    path.write_text(f"{yaml.safe_dump(FILE)}{text}", encoding="utf-8")
    nodes = {"hardware__gpu": "a100-80gb", "hardware__nodes": 2}
    plan = planner.plan(
        a_job(**nodes), load_cluster(str(path))[1], "my-k8s", workdir=Path("/nowhere"), runs_root=Path("/nowhere/runs")
    )
    return single_file(plan)


def parts(block: str) -> tuple[list[dict], str]:
    """(objects of Kubernetes, lines of a cluster file) in a block."""
    texts = block.split("\n---\n")
    objects = [each for each in map(yaml.safe_load, texts) if "apiVersion" in each]
    (lines,) = [text for text in texts if "apiVersion" not in yaml.safe_load(text)]
    return objects, lines


def accepted(manifests: str) -> None:
    for version in VERSIONS:
        checks.validate(manifests, version)
    assert checks.violations(manifests) == []


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[0][2:14])
def test_an_example_renders_what_kubernetes_accepts(tmp_path, block):
    _, lines = parts(block)
    manifests = rendered(tmp_path, lines)
    accepted(manifests)
    job, given = checks.of_kind(manifests, "Job"), yaml.safe_load(lines)
    meta, pod = job["spec"]["template"]["metadata"], checks.pod_of(manifests)
    assert meta["labels"].items() >= given.get("pod_labels", {}).items()
    assert meta["annotations"].items() >= given.get("pod_annotations", {}).items()
    overlay = given.get("pod_overlay", {})
    assert pod.get("schedulerName") == overlay.get("schedulerName")
    (container,) = pod["containers"]
    for each in overlay.get("containers", []):
        for kind, amounts in each["resources"].items():
            assert container["resources"][kind].items() >= amounts.items()
    if rdma := given.get("rdma"):
        assert container["resources"]["limits"][rdma["resource"]] == rdma["count"]


def test_there_is_an_example_of_each_scheduler_and_network():
    texts = " ".join(BLOCKS)
    assert all(name in texts for name in ("coscheduling", "Volcano", "EKS", "GKE"))


# The keys that the sources of these schedulers read: the label of a pod and the CRD of scheduler-plugins
# (apis/scheduling/v1alpha1), the annotation and the CRD of Volcano (apis/scheduling/v1beta1).
GROUPS = {
    "scheduling.x-k8s.io/v1alpha1": (
        "labels",
        "scheduling.x-k8s.io/pod-group",
        {"minMember", "scheduleTimeoutSeconds"},
    ),
    "scheduling.volcano.sh/v1beta1": ("annotations", "scheduling.k8s.io/group-name", {"minMember", "queue"}),
}


@pytest.mark.parametrize("block", [block for block in BLOCKS if "PodGroup" in block])
def test_a_pod_names_the_group_that_waits_for_all_of_its_nodes(tmp_path, block):
    (group,), lines = parts(block)
    manifests = rendered(tmp_path, lines)
    job = checks.of_kind(manifests, "Job")
    where, key, fields = GROUPS[group["apiVersion"]]
    assert job["spec"]["template"]["metadata"][where][key] == group["metadata"]["name"]
    assert group["kind"] == "PodGroup" and group["metadata"]["namespace"] == job["metadata"]["namespace"]
    assert group["spec"].keys() <= fields and group["spec"]["minMember"] == job["spec"]["completions"]


ROWS = [line for line in SECTION.splitlines() if re.match(r"\| (?!for)[A-Za-z]", line)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:12])
def test_a_row_of_the_table_is_a_line_of_a_cluster_file(tmp_path, row):
    spans = [span for span in re.findall(r"`([^`]+)`", row) if ": " in span]
    assert spans and {next(iter(yaml.safe_load(span))) for span in spans} <= KubernetesCluster.model_fields.keys()
    accepted(rendered(tmp_path, "\n".join(spans) + "\n"))


def test_the_annotation_for_forceful_deletion_is_accepted(tmp_path):
    (span,) = re.findall(r"`(pod_annotations: \{kueue[^`]+)`", PAGE)
    accepted(rendered(tmp_path, f"{span}\n"))


def test_the_job_on_the_page_is_a_part_of_what_is_rendered():
    shown = yaml.safe_load(re.findall(r"^```yaml\n(.*?)^```", PAGE.partition("## Queues")[0], re.M | re.S)[0])
    job, cluster = load_job(str(ROOT / "jobs/stablehome-3b.yaml")), load_cluster("kubernetes")[1]
    several = job.model_copy(update={"hardware": job.hardware.model_copy(update={"nodes": 2, "gpus_per_node": 2})})
    image = shown["spec"]["template"]["spec"]["containers"][0]["image"]
    cluster, nowhere = cluster.model_copy(update={"image": image}), Path("/nowhere")
    plan = planner.plan(several, cluster, "my-k8s", workdir=nowhere, runs_root=nowhere / "runs")
    assert missing(shown, checks.of_kind(single_file(plan), "Job")) == []


def missing(shown, actual, path="") -> list[str]:
    """The paths at which what is shown is not what there is."""
    if isinstance(shown, dict) and isinstance(actual, dict):
        return [line for key, value in shown.items() for line in missing(value, actual.get(key), f"{path}.{key}")]
    if isinstance(shown, list) and isinstance(actual, list) and len(shown) <= len(actual):
        return [line for k, value in enumerate(shown) for line in missing(value, actual[k], f"{path}[{k}]")]
    return [] if shown in (actual, None) else [f"{path}: {shown!r} is shown, {actual!r} is rendered"]
