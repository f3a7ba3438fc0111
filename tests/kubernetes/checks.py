"""Checks whether Kubernetes would accept manifests: its schemas, and rules that no schema has, from the validation of
the API server and from the restricted pod security standard."""

import copy
import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import kubernetes_validate.utils
import yaml

JOBSET = json.loads(Path(__file__).with_name("jobset.json").read_text(encoding="utf-8"))
DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
SERVICE_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
QUALIFIED = re.compile(r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
UNITS = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}

Json = dict[str, Any]

# It reads a schema of several MB anew for every object.
kubernetes_validate.utils.schema_contents = functools.cache(kubernetes_validate.utils.schema_contents)


def documents(manifests: str) -> list[Json]:
    return list(yaml.safe_load_all(manifests))


def of_kind(manifests: str, kind: str) -> Json:
    """The only object of a kind."""
    (found,) = [one for one in documents(manifests) if one["kind"] == kind]
    return found


def inner_job(manifests: str) -> Json:
    """The Job; for a JobSet the one that it makes."""
    kinds = {one["kind"]: one for one in documents(manifests)}
    if "Job" in kinds:
        return kinds["Job"]
    jobset = kinds["JobSet"]
    (replicated,) = jobset["spec"]["replicatedJobs"]
    name = f"{jobset['metadata']['name']}-{replicated['name']}-0"
    template = copy.deepcopy(replicated["template"])
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, **template["metadata"]},
        "spec": template["spec"],
    }


def pod_of(manifests: str) -> Json:
    spec: Json = inner_job(manifests)["spec"]["template"]["spec"]
    return spec


def container_of(manifests: str) -> Json:
    (container,) = pod_of(manifests)["containers"]
    return container


def validate(manifests: str, version: str) -> None:
    """Raise if a schema of a Kubernetes version refuses an object."""
    for one in documents(manifests):
        if one["kind"] == "JobSet":
            jsonschema.validate(one, JOBSET)
            one = inner_job(manifests)
        kubernetes_validate.validate(one, version, strict=True)


def violations(manifests: str) -> list[str]:
    """What Kubernetes would refuse although its schemas accept it, one line each."""
    return [
        *_metadata(manifests),
        *_names(manifests),
        *_job(inner_job(manifests)),
        *_pod(manifests),
        *_sizes(manifests),
    ]


def _metadata(manifests: str) -> Iterator[str]:
    for one in documents(manifests):
        meta = one["metadata"]
        if not DNS_LABEL.fullmatch(meta["namespace"]):
            yield f"namespace {meta['namespace']}"
        for label, value in meta["labels"].items():
            if not QUALIFIED.fullmatch(label) or not LABEL_VALUE.fullmatch(value):
                yield f"label {label}: {value}"
        for name, value in meta["annotations"].items():
            if not QUALIFIED.fullmatch(name) or not isinstance(value, str):
                yield f"annotation {name}"


def _names(manifests: str) -> Iterator[str]:
    job = inner_job(manifests)
    last = job["spec"]["completions"] - 1
    name = job["metadata"]["name"]
    for object_name in (name, f"{name}-{last}", f"{name}-{last}-xxxxx"):
        if not DNS_LABEL.fullmatch(object_name):
            yield f"{object_name} is no valid name of a Job, host or pod"
    for one in documents(manifests):
        if one["kind"] in ("Service", "JobSet") and not SERVICE_NAME.fullmatch(one["metadata"]["name"]):
            yield f"{one['metadata']['name']} is no valid name of a {one['kind']}"
    if job["spec"]["completions"] > 1:
        (address,) = [
            variable["value"] for variable in container_of(manifests)["env"] if variable["name"] == "MASTER_ADDR"
        ]
        host, _, subdomain = address.partition(".")
        services = {one["metadata"]["name"] for one in documents(manifests) if one["kind"] in ("Service", "JobSet")}
        if host != f"{name}-0" or subdomain not in services:
            yield f"{address} is not an address of the first pod"


def _job(job: Json) -> Iterator[str]:
    spec = job["spec"]
    if spec["completionMode"] != "Indexed" or spec["completions"] != spec["parallelism"]:
        yield "not an Indexed Job whose pods run at the same time"
    if spec["template"]["spec"]["restartPolicy"] != "Never":
        yield "restartPolicy: podFailurePolicy needs Never"
    for rule in spec["podFailurePolicy"]["rules"]:
        if rule["action"] not in ("FailJob", "Ignore", "Count", "FailIndex"):
            yield f"action {rule['action']}"
        on_codes = rule.get("onExitCodes")
        if bool(on_codes) == bool(rule.get("onPodConditions")):
            yield "a rule has either exit codes or conditions"
        if on_codes:
            values = on_codes["values"]
            if values != sorted(set(values)) or 0 in values or on_codes["operator"] not in ("In", "NotIn"):
                yield f"exit codes {values}"
            names = [one["name"] for one in spec["template"]["spec"]["containers"]]
            if on_codes["containerName"] not in names:
                yield f"no container {on_codes['containerName']}"
    if spec.get("podReplacementPolicy", "Failed") != "Failed":
        yield "podReplacementPolicy: podFailurePolicy needs Failed"


def _pod(manifests: str) -> Iterator[str]:
    pod = pod_of(manifests)
    volumes = [one["name"] for one in pod["volumes"]]
    if len(set(volumes)) != len(volumes):
        yield "a volume twice"
    claims = [one["persistentVolumeClaim"]["claimName"] for one in pod["volumes"] if "persistentVolumeClaim" in one]
    if len(set(claims)) != len(claims):
        yield "a claim in two volumes"
    for container in pod["containers"]:
        paths = [mount["mountPath"] for mount in container["volumeMounts"]]
        if len(set(paths)) != len(paths):
            yield "two mounts at one path"
        if missing := {mount["name"] for mount in container["volumeMounts"]} - set(volumes):
            yield f"mounts of no volume: {missing}"
        variables = [one["name"] for one in container["env"]]
        if len(set(variables)) != len(variables):
            yield "a variable twice"
        if any(not isinstance(one.get("value", ""), str) for one in container["env"]):
            yield "a variable that is no text"
        if container["imagePullPolicy"] not in ("Always", "IfNotPresent", "Never"):
            yield f"imagePullPolicy {container['imagePullPolicy']}"
    config = next(one["configMap"] for one in pod["volumes"] if "configMap" in one)
    config_map = of_kind(manifests, "ConfigMap")
    if config["name"] != config_map["metadata"]["name"]:
        yield "the files of another run"
    if {item["key"] for item in config["items"]} != set(config_map["data"]):
        yield "other files than those of the ConfigMap"
    if any(not re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", key) for key in config_map["data"]):
        yield "an invalid key of a ConfigMap"
    if any(item["path"].startswith("/") or ".." in item["path"] for item in config["items"]):
        yield "a path outside of the volume"
    for toleration in pod.get("tolerations", []):
        if toleration.get("operator", "Equal") not in ("Exists", "Equal"):
            yield f"toleration {toleration}"
        if toleration.get("effect", "") not in ("", "NoSchedule", "PreferNoSchedule", "NoExecute"):
            yield f"toleration {toleration}"


def _sizes(manifests: str) -> Iterator[str]:
    pod, container = pod_of(manifests), container_of(manifests)
    requests, limits = container["resources"]["requests"], container["resources"]["limits"]
    for name in ("cpu", "memory", "ephemeral-storage"):
        if requests.get(name) is None or requests[name] != limits.get(name):
            yield f"{name}: no request, or another limit"
    for name in limits:
        if "/" in name and requests.get(name) != limits[name]:
            yield f"{name}: requests and limits of an extended resource must be equal"
    (shm,) = [one["emptyDir"] for one in pod["volumes"] if one["name"] == "shm"]
    if shm["medium"] != "Memory" or amount(shm["sizeLimit"]) >= amount(limits["memory"]):
        yield "/dev/shm is not smaller than the memory"
    for one in pod["volumes"]:
        on_disk = "emptyDir" in one and one["emptyDir"].get("medium") != "Memory"
        if on_disk and amount(one["emptyDir"]["sizeLimit"]) > amount(limits["ephemeral-storage"]):
            yield f"{one['name']} may grow beyond the storage of the pod"


def amount(quantity: str | int) -> int:
    """A quantity in bytes."""
    found = re.fullmatch(r"(\d+)([KMGT]i)?", str(quantity))
    assert found, quantity
    return int(found[1]) * UNITS[found[2] or ""]


def insecure(manifests: str) -> list[str]:
    """What the restricted pod security standard forbids, by its controls, and a few stricter rules."""
    pod, container = pod_of(manifests), container_of(manifests)
    of_pod, own = pod["securityContext"], container["securityContext"]
    violated = {
        "host namespaces": any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")),
        "privileged containers": own.get("privileged", False),
        "capabilities dropped": own["capabilities"]["drop"] != ["ALL"],
        "capabilities added": bool(set(own["capabilities"].get("add", [])) - {"NET_BIND_SERVICE"}),
        "volume types": any(
            not {*one} & {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
                          "projected", "secret"}
            for one in pod["volumes"]
        ),
        "host ports": any("hostPort" in port for port in container.get("ports", [])),
        "AppArmor and SELinux": "seLinuxOptions" in {**of_pod, **own} or "appArmorProfile" in {**of_pod, **own},
        "/proc mount": own.get("procMount", "Default") != "Default",
        "sysctls": bool(of_pod.get("sysctls")),
        "privilege escalation": own["allowPrivilegeEscalation"] is not False,
        "running as non-root": of_pod["runAsNonRoot"] is not True or own.get("runAsNonRoot", True) is not True,
        "non-root user": of_pod["runAsUser"] == 0 or own.get("runAsUser", 1) == 0,
        "seccomp": of_pod["seccompProfile"] != {"type": "RuntimeDefault"},
        "other containers": bool(pod.get("initContainers")) or len(pod["containers"]) != 1,
        # Beyond the standard.
        "group of the volumes": of_pod["fsGroup"] != of_pod["runAsUser"] or of_pod["runAsGroup"] == 0,
        "a writable root": own["readOnlyRootFilesystem"] is not True,
        "a token of the service account": pod["automountServiceAccountToken"] is not False,
        "addresses of other services": pod["enableServiceLinks"] is not False,
    }  # fmt: skip
    return [name for name, wrong in violated.items() if wrong]
