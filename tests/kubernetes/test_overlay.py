"""An overlay is merged by the keys that Kubernetes itself merges by, and one that adds never removes."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.backends.kubernetes.overlay import merged

POD = {
    "containers": [
        {
            "name": "hatrain",
            "command": ["bash", "node.sh"],
            "env": [{"name": "HOME", "value": "/tmp"}, {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"key": "x"}}}],
            "volumeMounts": [
                {"name": "runs", "mountPath": "/workspace/runs", "subPath": "runs"},
                {"name": "runs", "mountPath": "/workspace/models", "subPath": "models"},
            ],
            "ports": [{"containerPort": 29500}],
            "securityContext": {"capabilities": {"drop": ["ALL"], "add": ["IPC_LOCK"]}},
        }
    ],
    "volumes": [{"name": "runs", "persistentVolumeClaim": {"claimName": "runs"}}, {"name": "tmp", "emptyDir": {}}],
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
}


def container(**keys):
    return merged(POD, {"containers": [{"name": "hatrain", **keys}]})["containers"][0]


def test_two_mounts_of_one_volume_both_stay():
    mounts = container(volumeMounts=[{"name": "more", "mountPath": "/more"}])["volumeMounts"]
    assert [mount["mountPath"] for mount in mounts] == ["/workspace/runs", "/workspace/models", "/more"]
    changed = container(volumeMounts=[{"mountPath": "/workspace/runs", "readOnly": True}])["volumeMounts"]
    assert changed[0] == {"name": "runs", "mountPath": "/workspace/runs", "subPath": "runs", "readOnly": True}
    assert changed[1:] == POD["containers"][0]["volumeMounts"][1:]


def test_ports_are_told_apart_by_number_and_protocol():
    ports = container(ports=[{"containerPort": 29500, "protocol": "UDP"}, {"containerPort": 29500, "name": "rdzv"}])
    assert ports["ports"] == [
        {"containerPort": 29500, "name": "rdzv"},
        {"containerPort": 29500, "protocol": "UDP"},
    ]


@pytest.mark.parametrize("given", [{"value": "1"}, {"valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}])
@pytest.mark.parametrize("name", ["HOME", "TOKEN"])
def test_a_variable_has_a_value_or_a_source(name, given):
    env = {each["name"]: each for each in container(env=[{"name": name, **given}])["env"]}
    assert env[name] == {"name": name, **given}
    assert len(env) == 2


def test_a_volume_has_one_source():
    disk = {"name": "tmp", "hostPath": {"path": "/scratch"}}
    assert merged(POD, {"volumes": [disk]})["volumes"][1] == disk
    bounded = merged(POD, {"volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}]})["volumes"][1]
    assert bounded == {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}


def test_capabilities_are_added():
    added = container(securityContext={"capabilities": {"add": ["SYS_PTRACE", "IPC_LOCK"]}})
    assert added["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["IPC_LOCK", "SYS_PTRACE"]}


def test_two_spreads_over_one_topology_both_stay():
    spreads = [{"topologyKey": "zone", "whenUnsatisfiable": when} for when in ("DoNotSchedule", "ScheduleAnyway")]
    pod = merged({**POD, "topologySpreadConstraints": spreads[:1]}, {"topologySpreadConstraints": spreads[1:]})
    assert pod["topologySpreadConstraints"] == spreads


def test_a_command_is_replaced_and_a_null_removes():
    assert container(command=["sleep", "1"])["command"] == ["sleep", "1"]
    assert "command" not in container(command=None)


WORDS = st.sampled_from(["a", "b", "runs", "tmp", "hatrain"])
PATHS = st.sampled_from(["/a", "/b", "/c"])


def listed(*keys):
    """Objects with these keys, which differ from those of the pod."""
    return st.lists(st.tuples(*keys), max_size=4, unique=True)


@given(
    mounts=listed(WORDS, PATHS),
    ports=listed(st.integers(1, 5), st.sampled_from(["TCP", "UDP"])),
    names=st.lists(st.sampled_from(["A", "B", "C"]), max_size=3, unique=True),
    tolerations=st.lists(st.fixed_dictionaries({"key": WORDS, "operator": st.just("Exists")}), max_size=3),
)
def test_an_overlay_that_adds_never_removes(mounts, ports, names, tolerations):
    before = copy.deepcopy(POD)
    added = {
        "containers": [
            {
                "name": "hatrain",
                "volumeMounts": [{"name": name, "mountPath": path} for name, path in mounts],
                "ports": [{"containerPort": number, "protocol": protocol} for number, protocol in ports],
                "env": [{"name": name, "value": "x"} for name in names],
            },
            {"name": "beside"},
        ],
        "volumes": [{"name": "more", "emptyDir": {}}],
        "tolerations": tolerations,
    }
    pod = merged(POD, added)
    assert before == POD
    old, new = POD["containers"][0], pod["containers"][0]
    for key in ("volumeMounts", "ports", "env"):
        assert new[key][: len(old[key])] == old[key]
    assert {str(each) for each in new["ports"][1:]} == {str(each) for each in added["containers"][0]["ports"]}
    assert pod["containers"][1] == {"name": "beside"}
    assert [each["name"] for each in pod["volumes"]] == ["runs", "tmp", "more"]
    assert all(each in pod["tolerations"] for each in [*POD["tolerations"], *tolerations])
