"""Derives what hatrain/contract/cluster/pod_schema.json holds from the schemas of kubernetes-validate."""

import functools
import json
from pathlib import Path
from typing import Any

import kubernetes_validate

Types = dict[str, dict[str, str]]
SCHEMAS = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
VERSIONS = sorted((int(path.name.split(".")[1]) for path in SCHEMAS.glob("v1.*-strict")), reverse=True)
"""Minor versions, newest first."""
OLDER: Types = {"EphemeralVolumeSource": {"readOnly": "boolean"}, "ObjectMeta": {"clusterName": "string"}}
"""Fields that only versions before the oldest of those schemas have, from the models of the client for 1.20 to 1.24."""
_NAMED = {"Quantity": "quantity", "IntOrString": "int-or-string", "Time": "string", "FieldsV1": "object"}


@functools.cache
def definitions(version: int) -> dict[str, Any]:
    """{name without its group: schema} of a minor version."""
    schemas = json.loads((SCHEMAS / f"v1.{version}.0-local-strict/_definitions.json").read_text(encoding="utf-8"))
    wanted = ("io.k8s.api.core.v1.", "io.k8s.apimachinery.")
    found = schemas.get("$defs") or schemas["definitions"]
    return {name.rpartition(".")[2]: schema for name, schema in found.items() if name.startswith(wanted)}


def shape(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition(".")[2]
        return _NAMED.get(name, name)
    kind = schema["type"] if isinstance(schema["type"], str) else schema["type"][0]
    if kind == "array":
        return f"[{shape(schema['items'])}]"
    if kind == "object":
        return f"{{{shape(schema['additionalProperties'])}}}"
    return str(schema.get("format") or kind)


def derived() -> Types:
    """The fields of every version, under the names of the newest."""
    types: Types = {}
    for version in VERSIONS:
        _add(types, definitions(version), "PodSpec", "PodSpec", set())
    for name, fields in OLDER.items():
        types[name] |= fields
    return {name: dict(sorted(types[name].items())) for name in sorted(types)}


def _add(types: Types, schemas: dict[str, Any], name: str, old: str, done: set[tuple[str, str]]) -> None:
    """Add the fields of the type `old` of a version to the type that stands in its place in the newest, and so on."""
    properties = schemas.get(old, {}).get("properties")
    if properties is None or (name, old) in done:
        return
    done.add((name, old))
    fields = types.setdefault(name, {})
    for field, schema in properties.items():
        here = fields.setdefault(field, shape(schema))
        _add(types, schemas, here.strip("[]{}"), shape(schema).strip("[]{}"), done)


def text(types: Types) -> str:
    """JSON with a line for each type."""
    return "{\n" + ",\n".join(f" {json.dumps(name)}: {json.dumps(fields)}" for name, fields in types.items()) + "\n}\n"
