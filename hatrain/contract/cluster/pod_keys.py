"""Rules for parts of a pod in the notation of Kubernetes that its schema does not have."""

from typing import Any

from hatrain.contract.cluster import pod_schema
from hatrain.errors import nearest

OWNED = {
    "restartPolicy": "the exit code decides whether a pod is recreated",
    "activeDeadlineSeconds": "set limits.time in the job",
    "terminationGracePeriodSeconds": "set termination_grace",
    "hostname": "the pods of a job need it to find each other",
    "subdomain": "the pods of a job need it to find each other",
}
"""Keys of a pod that an overlay must not contain, and why."""
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def toleration(value: dict[str, Any]) -> dict[str, Any]:
    """Raises ValueError for what the API server would refuse in a toleration."""
    pod_schema.check(value, "Toleration")
    if reason := _refused(value):
        raise ValueError(reason)
    return value


def _refused(toleration: dict[str, Any]) -> str | None:
    operator, effect = toleration.get("operator") or "Equal", toleration.get("effect")
    if operator not in ("Exists", "Equal", "Lt", "Gt"):
        return f"operator Exists or Equal, not {operator!r}"
    if operator == "Exists" and toleration.get("value"):
        return f"no value with operator: Exists, which tolerates any; not {toleration['value']!r}"
    if operator != "Exists" and not toleration.get("key"):
        return "operator: Exists where there is no key"
    if effect and effect not in _EFFECTS:
        return f"effect {' | '.join(_EFFECTS)}, not {effect!r}{nearest(effect, _EFFECTS)}"
    if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
        return "tolerationSeconds only with effect: NoExecute"
    return None


def affinity(value: dict[str, Any]) -> dict[str, Any]:
    """Raises ValueError for every unknown key and wrong type."""
    return pod_schema.check(value, "Affinity")


def overlay(value: dict[str, Any]) -> dict[str, Any]:
    """Raises ValueError for every unknown key and wrong type, and for a key that decides how a run ends."""
    for name in value:
        if name in OWNED:
            raise pod_schema.refusal((name,), value[name], f"a part of a pod's spec without {name}: {OWNED[name]}")
    pod_schema.check(value, "PodSpec")
    for number, item in enumerate(value.get("tolerations") or ()):
        if item and (reason := _refused(item)):
            raise pod_schema.refusal(("tolerations", number), item, reason)
    return value


def resource(value: str) -> str:
    """The name of a device, which has a domain: without one it would be a core resource."""
    if "/" not in value:
        raise ValueError("a name with a domain, such as nvidia.com/gpu")
    return value


def mounted(value: str) -> str:
    if ":" in value:
        raise ValueError("a path without ':', at which no volume can be mounted")
    return value
