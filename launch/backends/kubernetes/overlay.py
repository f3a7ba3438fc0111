"""Merges an overlay into the spec of a pod, list by list with the keys that Kubernetes itself merges them by."""

from collections.abc import Mapping
from typing import Any

KEYS: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "resourceClaims": ("name",),
    "claims": ("name",),
    "schedulingGates": ("name",),
    "evictionResponders": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "ports": ("containerPort", "protocol"),
    "hostAliases": ("ip",),
    "readinessGates": ("conditionType",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}
"""The keys that tell the objects of a list apart, by the name of the list."""
_SETS = ("tolerations", "envFrom", "add", "drop", "supplementalGroups", "sysctls")
"""Lists whose items are whole: an overlay adds to them."""
_DEFAULTS = {"protocol": "TCP"}


def merged(under: Any, over: Any, name: str = "") -> Any:
    """Merge `over` into `under`, both of the key `name`: mappings by key, lists of objects by their own keys, sets by
    their items; any other value is replaced. A null in a mapping removes its key."""
    if isinstance(under, dict) and isinstance(over, dict):
        both = {key: merged(under.get(key), value, key) if value is not None else None for key, value in over.items()}
        return {key: value for key, value in {**under, **both}.items() if value is not None or key not in over}
    if isinstance(under, list) and isinstance(over, list):
        if name in _SETS:
            return [*under, *(item for item in over if item not in under)]
        if name in KEYS:
            items = {_key(item, name): item for item in under}
            for item in over:
                items[_key(item, name)] = _item(items.get(_key(item, name), {}), item, name)
            return list(items.values())
    return merged({}, over) if isinstance(over, dict) else over


def _key(item: Any, name: str) -> tuple[Any, ...]:
    if not isinstance(item, dict):
        return (str(item),)
    return tuple(str(item.get(key, _DEFAULTS.get(key))) for key in KEYS[name])


def _item(under: Any, over: Any, name: str) -> Any:
    """Merge an object of a list. A variable has one value, and a volume one source: another one replaces it."""
    if not (isinstance(under, dict) and isinstance(over, dict)):
        return over
    if name == "env" and {"value", "valueFrom"} & set(over):
        under = {key: value for key, value in under.items() if key not in ("value", "valueFrom")}
    if name == "volumes" and not set(over) <= set(under):
        under = {"name": under.get("name")}
    return merged(under, over)
