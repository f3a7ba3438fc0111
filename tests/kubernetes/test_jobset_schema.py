"""The real schema of JobSet, where it is at hand: what is rendered conforms to it, and so does the reduced schema that
the other tests use."""

import functools
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from hatrain.contract.cluster import KubernetesCluster
from launch import planner
from tests.kubernetes import checks
from tests.launch.rendering import single_file
from tests.plans import a_job

CRD = Path(__file__).parents[3] / "shared/reference/jobset-crd.yaml"


@functools.cache
def real() -> dict[str, Any]:
    if not CRD.is_file():
        pytest.skip(f"{CRD.name}: not beside this checkout")
    crd = yaml.load(CRD.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (version,) = [each for each in crd["spec"]["versions"] if each["name"] == "v1alpha2"]
    return closed(version["schema"]["openAPIV3Schema"])


def closed(schema: Any) -> Any:
    """The schema with unknown keys refused, as a strict API server does."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        # The schema of metadata is Kubernetes' own, and not repeated in a CRD.
        inner["properties"] = {
            key: ({} if key == "metadata" else closed(value)) for key, value in schema["properties"].items()
        }
        inner.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        inner.pop("type", None)
    return inner


def rendered(**cluster: Any) -> dict[str, Any]:
    spec = KubernetesCluster.model_validate(
        {
            "kind": "kubernetes",
            "controller": "jobset",
            "image": "x",
            "runs": {"claim": "runs", "access": "ReadWriteMany"},
            **cluster,
        }
    )
    nowhere = Path("/nowhere")
    job = a_job(hardware={"gpu": "a100-80gb", "nodes": 2})
    plan = planner.plan(job, spec, "k8s", workdir=nowhere, runs_root=nowhere)
    return checks.of_kind(single_file(plan), "JobSet")


@pytest.mark.parametrize(
    "cluster",
    [
        {},
        {"queue": "team-a", "priority": "low", "topology": {"preferred": "a/rack"}, "labels": {"cost": "x"}},
        {"kubernetes_version": "1.27", "secrets": {"HF_TOKEN": {"secret": "hub", "key": "token"}}},
        {"rdma": {"resource": "rdma/hca"}, "pod_security": "rdma", "tolerations": [{"operator": "Exists"}]},
    ],
)
def test_what_is_rendered_conforms_to_the_real_schema(cluster):
    jsonschema.validate(rendered(**cluster), real())


def test_a_mistake_is_found_by_the_real_schema():
    jobset = rendered()
    jobset["spec"]["failurePolicy"]["maxRestart"] = 3
    with pytest.raises(jsonschema.ValidationError, match="maxRestart"):
        jsonschema.validate(jobset, real())


def test_the_reduced_schema_has_no_key_that_the_real_one_lacks():
    missing = list(_absent(checks.JOBSET, real(), ""))
    assert missing == []


def _absent(reduced: Any, whole: Any, path: str) -> Any:
    for key, inner in reduced.get("properties", {}).items():
        if key == "metadata" or whole == {}:
            continue
        if key not in whole.get("properties", {}):
            yield f"{path}.{key}"
        else:
            yield from _absent(inner, whole["properties"][key], f"{path}.{key}")
    if isinstance(reduced.get("items"), dict):
        yield from _absent(reduced["items"], whole.get("items", {}), f"{path}[]")
