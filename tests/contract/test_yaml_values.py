"""Parts of a cluster file with a schema of their own: scalars without quotes have their YAML 1.2 types."""

import pytest

from hatrain.contract.cluster import KubernetesCluster
from hatrain.contract.cluster.yaml_values import as_yaml
from hatrain.contract.load import read_text, validate
from hatrain.errors import BadInput

FILE = "kind: kubernetes\nimage: x\nruns: {claim: runs}\n"


def read(text):
    return as_yaml(read_text(text, "a.yaml").data)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("300", 300),
        ("-7", -7),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e5", 1e5),
        ("null", None),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("on", "on"),
        ("y", "y"),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2026-11-25", "2026-11-25"),
        ("1.29.3", "1.29.3"),
        ("Exists", "Exists"),
        ("'300'", "300"),
        ('"true"', "true"),
        ("'null'", "null"),
        ("|-\n  300", "300"),
    ],
)
def test_a_scalar_is_what_yaml_1_2_makes_of_it(text, value):
    found = read(f"a: {text}\n")["a"]
    assert found == value
    assert type(found) is type(value)


def test_scalars_are_read_wherever_they_stand():
    found = read("a:\n- {b: 1, c: [true, '1']}\n- 2\n")
    assert found == {"a": [{"b": 1, "c": [True, "1"]}, 2]}


@pytest.mark.parametrize("text", [".inf", "-.INF", ".nan", "1e999"])
def test_a_number_that_json_cannot_hold_is_refused(text):
    with pytest.raises(BadInput, match=rf"a.yaml:4: affinity: .*numbers that JSON can hold, not {text}"):
        validate(KubernetesCluster, read_text(f"{FILE}affinity: {{a: {text}}}\n", "a.yaml"))


def test_only_the_parts_that_are_another_schemas_are_read_so():
    place = validate(
        KubernetesCluster,
        read_text(
            f"{FILE}environment: {{A: 010, B: yes}}\nnode_selector: {{gen: 1e5}}\n"
            "tolerations: [{key: gpu, effect: NoExecute, tolerationSeconds: 300, value: '300'}]\n"
            "pod_overlay: {hostNetwork: true, priority: 1000}\n",
            "a.yaml",
        ),
    )
    assert place.environment == {"A": "010", "B": "yes"}
    assert place.node_selector == {"gen": "1e5"}
    assert place.tolerations == ({"key": "gpu", "effect": "NoExecute", "tolerationSeconds": 300, "value": "300"},)
    assert place.pod_overlay == {"hostNetwork": True, "priority": 1000}


def test_a_place_that_comes_back_from_a_plan_is_the_same():
    place = validate(
        KubernetesCluster,
        read_text(f"{FILE}pod_overlay: {{priority: 010, priorityClassName: '010', schedulerName: yes}}\n", "a.yaml"),
    )
    assert KubernetesCluster.model_validate_json(place.model_dump_json()) == place
