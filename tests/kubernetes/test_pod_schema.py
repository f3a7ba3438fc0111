"""What a cluster file may hold of a pod is what Kubernetes' API has: no more, and no less."""

import functools
import json
import math
import os
import subprocess
from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError

from hatrain.contract.cluster.pod_schema import TABLE, check, table
from hatrain.errors import BadInput
from launch.backends.kubernetes import overlay
from launch.cluster_files import load_cluster
from tests.golden import matches
from tests.kubernetes import pod_schema

REPOSITORY = Path(__file__).parents[2]
CLIENTS = Path(os.environ.get("KUBERNETES_CLIENTS", REPOSITORY / ".venv-kubernetes"))
VALUES = ["a", "1", "1Gi", "1.5", 7, 1.5, 2.0, True, [], ["a"], [1], [{}], [True], {}, {"a": "b"}, {"a": 1}, {"a": {}}]
EXAMPLES = {
    "string": "a",
    "boolean": True,
    "int32": 1,
    "int64": 1,
    "int-or-string": "a",
    "quantity": "1Gi",
    "object": {},
}


def accepts(value, shape):
    try:
        check(value, shape)
    except ValidationError:
        return False
    return True


def example(shape):
    """A value of a shape, with no field."""
    if shape.startswith("["):
        return [example(shape[1:-1])]
    if shape.startswith("{"):
        return {"a": example(shape[1:-1])}
    return EXAMPLES.get(shape, {})


def test_the_table_is_what_the_schemas_of_every_version_say():
    matches(TABLE, pod_schema.text(pod_schema.derived()))


@pytest.mark.parametrize("version", [pod_schema.VERSIONS[0], pod_schema.VERSIONS[-1]])
def test_a_value_is_accepted_where_the_schema_of_kubernetes_accepts_it(version):
    """For every field and many values. A schema has no grammar of quantities, and other rules for what is not given."""
    schemas = pod_schema.definitions(version)
    checked = 0
    for name, fields in table().items():
        if name not in schemas:
            continue
        for field in fields.keys() & schemas[name]["properties"].keys():
            validator = _validator(version, name, field)
            for value in VALUES:
                if "quantity" in fields[field] and value in ("a", ["a"], {"a": "b"}):
                    continue
                expected = validator.is_valid({field: value})
                assert accepts({field: value}, name) == expected, (name, field, value)
                checked += 1
    assert checked > 6000


@functools.cache
def _root(version):
    return json.loads((pod_schema.SCHEMAS / f"v1.{version}.0-local-strict/_definitions.json").read_text())


def _validator(version, name, field):
    """For objects with one field. What an object needs besides it does not count."""
    key = "$defs" if "$defs" in _root(version) else "definitions"
    properties = pod_schema.definitions(version)[name]["properties"]
    schema = {"type": "object", "properties": {field: properties[field]}, key: _optional(version)}
    return jsonschema.Draft202012Validator(schema)


@functools.cache
def _optional(version):
    root = _root(version)
    found = root.get("$defs") or root["definitions"]
    return {name: {key: value for key, value in each.items() if key != "required"} for name, each in found.items()}


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        (16, True), (0.5, True), ("16", True), ("500m", True), ("5Gi", True), ("1.5Gi", True), (".5", True),
        ("1e3", True), ("128974848", True), ("-1", True), ("5GB", False), ("5 Gi", False), ("5gi", False),
        ("Gi", False), ("5K", False), ("", False), (True, False), (["5"], False), (math.inf, False), (math.nan, False),
    ],
)  # fmt: skip
def test_a_quantity_has_the_grammar_of_kubernetes(value, accepted):
    assert accepts({"limits": {"cpu": value}}, "ResourceRequirements") is accepted


@pytest.mark.parametrize(
    ("value", "accepted"),
    [(2**31 - 1, True), (2**31, False), (-(2**31), True), (7.5, False), (math.inf, False), (math.nan, False)],
)
def test_a_whole_number_has_the_bits_of_its_field(value, accepted):
    assert accepts({"containerPort": value}, "ContainerPort") is accepted
    assert accepts({"runAsUser": value}, "SecurityContext") is (accepted or value == 2**31)


def test_every_misspelt_field_is_refused_at_its_place_with_what_is_accepted():
    for name, fields in table().items():
        for field, shape in fields.items():
            for misspelt in (f"{field}x", field[:-1] + "_"):
                with pytest.raises(ValidationError) as raised:
                    check({misspelt: example(shape)}, name)
                (error,) = raised.value.errors()
                assert error["loc"] == (misspelt,)
                assert error["ctx"]["accepted"] == sorted(fields)


def test_a_null_removes_any_field():
    for name, fields in table().items():
        assert accepts(dict.fromkeys(fields), name)


@pytest.mark.parametrize(
    ("pod", "refused"),
    [
        ({"containers": [{"env": [{"name": "A", "value": "1", "valueFrom": {}}]}]}, ("containers", 0, "env", 0)),
        ({"containers": [{"env": [{"name": "A", "value": "", "valueFrom": {}}]}]}, None),
        ({"containers": [{"livenessProbe": {"exec": {}, "grpc": {}}}]}, ("containers", 0, "livenessProbe")),
        ({"volumes": [{"name": "a", "emptyDir": {}, "secret": {}}]}, ("volumes", 0)),
        ({"volumes": [{"name": "a", "emptyDir": None, "secret": {}}]}, None),
        ({"volumes": [{"projected": {"sources": [{"secret": {}, "configMap": {}}]}}]},
         ("volumes", 0, "projected", "sources", 0)),
    ],
)  # fmt: skip
def test_one_of_several_sources_is_given(pod, refused):
    if refused is None:
        assert accepts(pod, "PodSpec")
        return
    with pytest.raises(ValidationError) as raised:
        check(pod, "PodSpec")
    assert [error["loc"] for error in raised.value.errors()] == [refused]


MISTAKES = """\
kind: kubernetes
image: x
runs: {claim: a}
tolerations:
- key: a
  efect: NoSchedule
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms: {matchExpressions: []}
pod_overlay:
  containers:
  - name: hatrain
    resources:
      limit: {cpu: 3}
      requests:
        memory: 5GB
    env:
    - name: PORT
      value: 8080
    - name: TOKEN
      valueFrom:
        secretKeyReff: {name: a, key: b}
    securityContext:
      privileged: "false"
      capabilities: {ad: [IPC_LOCK]}
  volumes:
  - name: tmp
    emptyDir:
      sizelimit: 1Gi
  tolerations:
  - {key: a, operator: Exists, value: b}
"""


def test_every_mistake_deep_in_a_part_of_a_pod_is_a_line_with_file_line_and_key(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(MISTAKES, encoding="utf-8")
    with pytest.raises(BadInput) as raised:
        load_cluster(str(path))
    required = "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"
    container = "pod_overlay.containers.0"
    assert [problem.removeprefix(f"{path}:") for problem in raised.value.problems] == [
        "6: tolerations.0.efect: unknown key; accepted: effect, key, operator, tolerationSeconds, value; "
        "did you mean effect?",
        f"10: {required}.nodeSelectorTerms: found a mapping; accepted: a list",
        f"15: {container}.resources.limit: unknown key; accepted: claims, limits, requests; did you mean limits?",
        f"17: {container}.resources.requests.memory: found '5GB'; accepted: a quantity such as 16, 500m or 64Gi",
        f"20: {container}.env.0.value: found '8080'; accepted: text, which has quotes where it looks like another type",
        f"23: {container}.env.1.valueFrom.secretKeyReff: unknown key; accepted: configMapKeyRef, fieldRef, fileKeyRef, "
        "resourceFieldRef, secretKeyRef; did you mean secretKeyRef?",
        f"25: {container}.securityContext.privileged: found 'false'; accepted: true or false, without quotes",
        f"26: {container}.securityContext.capabilities.ad: unknown key; accepted: add, drop; did you mean add?",
        "30: pod_overlay.volumes.0.emptyDir.sizelimit: unknown key; accepted: medium, mode, sizeLimit; "
        "did you mean sizeLimit?",
    ]
    path.write_text("\n".join([*MISTAKES.splitlines()[:3], "pod_overlay:", *MISTAKES.splitlines()[-2:]]))
    with pytest.raises(BadInput, match=r"mine.yaml:6: pod_overlay.tolerations.0: .*no value with operator: Exists"):
        load_cluster(str(path))


def test_lists_are_merged_by_the_keys_of_the_schemas():
    """Those of a pod: an overlay has none of the other objects whose types a pod shares."""
    found = {}
    schemas = pod_schema.definitions(pod_schema.VERSIONS[0])
    for name, fields in table().items():
        for field in fields if name != "ObjectMeta" else ():
            if keys := schemas.get(name, {}).get("properties", {}).get(field, {}).get("x-kubernetes-list-map-keys"):
                found[field] = tuple(keys)
    assert len(found) > 10
    assert {field: overlay.KEYS.get(field) for field in found} == found


@pytest.mark.long
@pytest.mark.skipif(not CLIENTS.exists(), reason="no .venv-kubernetes; make kubernetes-clients creates it")
def test_every_field_that_the_client_of_a_version_has_is_accepted():
    wheels = sorted((CLIENTS / "clients").glob("kubernetes-*.whl"))
    assert [wheel.name.split("-")[1].partition(".")[0] for wheel in wheels] == [str(minor) for minor in range(20, 35)]
    paths = set()
    for wheel in wheels:
        done = subprocess.run(
            [str(CLIENTS / "bin/python"), str(Path(__file__).with_name("client_models.py"))],
            env={**os.environ, "PYTHONPATH": str(wheel)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (wheel.name, done.stderr[-4000:])
        pods = json.loads(done.stdout)
        assert len(pods) > 600
        for pod in pods:
            assert accepts(pod, "PodSpec"), (wheel.name, pod)
            paths.add(_path(pod))
    older = {field for fields in pod_schema.OLDER.values() for field in fields}
    assert older <= {path[-1] for path in paths}


def _path(pod):
    """The keys to the only value of an object."""
    if isinstance(pod, list):
        return _path(pod[0])
    if not isinstance(pod, dict) or not pod:
        return ()
    ((key, value),) = pod.items()
    return (key, *_path(value))
