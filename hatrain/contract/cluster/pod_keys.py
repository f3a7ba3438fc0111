"""Keys of the parts of a pod that a cluster file may hold in the notation of Kubernetes: tolerations, affinity and the
overlay. A misspelt one would be refused by the API server, or ignored."""

from collections.abc import Iterable, Mapping
from typing import Any

from hatrain.errors import nearest


def _names(text: str) -> dict[str, None]:
    return dict.fromkeys(text.split())


_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_TERM = {
    "labelSelector": {"matchLabels": None, "matchExpressions": {"key": None, "operator": None, "values": None}},
    "namespaceSelector": {"matchLabels": None, "matchExpressions": {"key": None, "operator": None, "values": None}},
    **dict.fromkeys(("namespaces", "topologyKey", "matchLabelKeys", "mismatchLabelKeys")),
}
_NODE_TERM = dict.fromkeys(("matchExpressions", "matchFields"), dict.fromkeys(("key", "operator", "values")))
_REQUIRED, _PREFERRED = (
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
)
_PODS = {_REQUIRED: _TERM, _PREFERRED: {"weight": None, "podAffinityTerm": _TERM}}
_AFFINITY: Mapping[str, Any] = {
    "nodeAffinity": {
        _REQUIRED: {"nodeSelectorTerms": _NODE_TERM},
        _PREFERRED: {"weight": None, "preference": _NODE_TERM},
    },
    "podAffinity": _PODS,
    "podAntiAffinity": _PODS,
}
_CONTAINER: Mapping[str, Any] = {
    **_names(
        """name image command args workingDir imagePullPolicy stdin stdinOnce tty terminationMessagePath
        terminationMessagePolicy livenessProbe readinessProbe startupProbe restartPolicy restartPolicyRules
        resizePolicy envFrom"""
    ),
    "env": dict.fromkeys(("name", "value", "valueFrom")),
    "volumeMounts": dict.fromkeys(
        ("name", "mountPath", "subPath", "subPathExpr", "readOnly", "recursiveReadOnly", "mountPropagation")
    ),
    "volumeDevices": dict.fromkeys(("name", "devicePath")),
    "ports": dict.fromkeys(("name", "containerPort", "hostPort", "hostIP", "protocol")),
    "resources": dict.fromkeys(("requests", "limits", "claims")),
    "lifecycle": dict.fromkeys(("postStart", "preStop", "stopSignal")),
    "securityContext": _names(
        """allowPrivilegeEscalation appArmorProfile capabilities privileged procMount readOnlyRootFilesystem runAsGroup
        runAsNonRoot runAsUser seLinuxOptions seccompProfile windowsOptions"""
    ),
}
_POD: Mapping[str, Any] = {
    **_names(
        """activeDeadlineSeconds automountServiceAccountToken dnsConfig dnsPolicy enableServiceLinks ephemeralContainers
        hostAliases hostIPC hostNetwork hostPID hostUsers hostname hostnameOverride imagePullSecrets nodeName
        nodeSelector os overhead preemptionPolicy priority priorityClassName readinessGates resourceClaims resources
        restartPolicy runtimeClassName schedulerName schedulingGates serviceAccount serviceAccountName setHostnameAsFQDN
        shareProcessNamespace subdomain terminationGracePeriodSeconds tolerations topologySpreadConstraints volumes
        workloadRef"""
    ),
    "affinity": _AFFINITY,
    "containers": _CONTAINER,
    "initContainers": _CONTAINER,
    "securityContext": _names(
        """appArmorProfile fsGroup fsGroupChangePolicy runAsGroup runAsNonRoot runAsUser seLinuxChangePolicy
        seLinuxOptions seccompProfile supplementalGroups supplementalGroupsPolicy sysctls windowsOptions"""
    ),
}


def toleration(value: dict[str, Any]) -> dict[str, Any]:
    """Raises ValueError for what the API server would refuse in a toleration."""
    _check(value, dict.fromkeys(("key", "operator", "value", "effect", "tolerationSeconds")), "")
    operator = value.get("operator", "Equal")
    if operator not in ("Exists", "Equal", "Lt", "Gt"):
        raise ValueError(f"operator Exists or Equal, not {operator!r}")
    if operator == "Exists" and value.get("value"):
        raise ValueError(f"no value with operator: Exists, which tolerates any; not {value['value']!r}")
    if operator != "Exists" and not value.get("key"):
        raise ValueError("operator: Exists where there is no key")
    if (effect := value.get("effect")) and effect not in _EFFECTS:
        raise ValueError(f"effect {' | '.join(_EFFECTS)}, not {effect!r}{nearest(str(effect), _EFFECTS)}")
    if "tolerationSeconds" in value and effect != "NoExecute":
        raise ValueError("tolerationSeconds only with effect: NoExecute")
    return value


def affinity(value: dict[str, Any]) -> dict[str, Any]:
    """Raises ValueError for an unknown key, with its path and the nearest one."""
    _check(value, _AFFINITY, "")
    return value


def overlay(value: dict[str, Any]) -> dict[str, Any]:
    """Raises ValueError for an unknown key of a pod or its containers, with its path and the nearest one."""
    _check(value, _POD, "")
    return value


def _check(value: Any, known: Mapping[str, Any], path: str) -> None:
    if isinstance(value, list):
        for number, item in enumerate(value):
            _check(item, known, f"{path}[{number}]")
    elif isinstance(value, dict):
        for key, inner in value.items():
            here = f"{path}.{key}" if path else str(key)
            if key not in known:
                raise ValueError(f"keys of Kubernetes, not {here}{nearest(str(key), known) or _listed(known)}")
            if known[key] is not None:
                _check(inner, known[key], here)


def _listed(known: Iterable[str]) -> str:
    names = sorted(known)
    return f" (accepted: {', '.join(names)})" if len(names) <= 8 else ""


def resource(value: str) -> str:
    """The name of a device, which has a domain: without one it would be a core resource."""
    if "/" not in value:
        raise ValueError("a name with a domain, such as nvidia.com/gpu")
    return value


def mounted(value: str) -> str:
    if ":" in value:
        raise ValueError("a path without ':', at which no volume can be mounted")
    return value
