"""Cluster files of Kubernetes: every mistake is reported with file and key."""

import pytest

from hatrain.errors import BadInput
from launch.cluster_files import load_cluster


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: kubernetes\nimage: x\nruns: {host_path: a}\n", "runs.host_path: .*a path that begins with /"),
        ("kind: kubernetes\nworkdir: /\n", "workdir: .*a folder other than /"),
        ("kind: kubernetes\nworkdir: /workspace/\n", "workdir: .*without . or .. or a / at its end"),
        ("kind: kubernetes\nimage: a b\n", "image: .*an image such as"),
        ("kind: kubernetes\nimage: a@sha256:12\n", "image: .*64 hexadecimal digits"),
        ("kind: kubernetes\nkubernetes_version: 1.25\n", "kubernetes_version: .*1.26 or newer"),
        (
            "kind: kubernetes\nsecrets: {T: {secret: hf_abc, key: k}}\n",
            "secrets.T: found a mapping; .*not its value",
        ),
        (
            "kind: kubernetes\nsecrets: {T: {secret: hub, key: a b}}\n",
            "secrets.T: .*key is a key of the Secret",
        ),
        (
            "kind: kubernetes\nimage: x\nruns: {claim: a, sub_path: ../b}\n",
            "runs.sub_path: .*a folder inside",
        ),
        ("kind: kubernetes\nimage: x\nruns: {claim: A}\n", "runs.claim: .*lower-case letters"),
        (
            "kind: kubernetes\nkubernetes_version: 1.3\n",
            "kubernetes_version: found '1.3'; accepted: a version",
        ),
        ("kind: kubernetes\nqueue: " + "a" * 64, "queue: .*up to 63 characters, because Kueue"),
        ("kind: kubernetes\ngpus: {l4-24gb: NVIDIA L4}\n", "gpus: .*values of up to 63 .*not 'NVIDIA L4'"),
        ("kind: kubernetes\nnode_selector: {pool: a b}\n", "node_selector: .*not 'a b'"),
        ("kind: kubernetes\ngpu_resource: nvidia.com/\n", "gpu_resource: .*a name such as nvidia.com/gpu"),
        (
            "kind: kubernetes\npod_overlay: {restartPolicy: Always}\n",
            "pod_overlay.restartPolicy: .*without restartPolicy: the exit code",
        ),
        ("kind: kubernetes\nworkdir: /a:b\n", "workdir: .*a path without ':'"),
        ("kind: kubernetes\nsecrets: {HF_HOME: {secret: a, key: k}}\n", "secrets: .*other names than HF_HOME"),
        ("kind: kubernetes\nsecrets: {HATRAIN_X: {secret: a, key: k}}\n", "secrets: .*other names than HATRAIN_X"),
        ("kind: kubernetes\ngpu_resource: gpu\n", "gpu_resource: .*a name with a domain"),
        ("kind: kubernetes\nuser: 4294967296\n", "user: .*2147483647"),
        ("kind: kubernetes\ntermination_grace: '00:00:10'\n", "termination_grace: .*at least 30 seconds"),
        ("kind: kubernetes\ntolerations: [{key: a, operator: Exists, value: b}]\n", "tolerations.0.*no value with"),
        ("kind: kubernetes\ntolerations: [{key: a, efect: NoSchedule}]\n", "tolerations.0.*efect.*effect"),
        ("kind: kubernetes\ntolerations: [{key: a, effect: NoShedule}]\n", "tolerations.0.*NoSchedule"),
        ("kind: kubernetes\ntolerations: [{value: a}]\n", "tolerations.0.*operator: Exists where there is no key"),
        ("kind: kubernetes\naffinity: {nodeAfinity: {}}\n", "affinity.nodeAfinity: .*nodeAffinity"),
        (
            "kind: kubernetes\naffinity: {podAffinity: "
            "{requiredDuringSchedulingIgnoredDuringExecution: [{topologykey: a}]}}\n",
            r"affinity.podAffinity.*.0.topologykey: .*topologyKey",
        ),
        ("kind: kubernetes\npod_overlay: {runtimeClasName: a}\n", "pod_overlay.runtimeClasName: .*runtimeClassName"),
        (
            "kind: kubernetes\npod_overlay: {containers: [{name: hatrain, volumeMount: []}]}\n",
            r"pod_overlay.containers.0.volumeMount: .*volumeMounts",
        ),
        ("kind: kubernetes\nlabels: {a b: c}\n", "labels: "),
        ("kind: kubernetes\npod_labels: {app.kubernetes.io/name: x}\n", "pod_labels: .*finds its own objects"),
        ("kind: kubernetes\nannotations: {hatrain/run: x}\n", "annotations: .*finds its own objects"),
        ("kind: kubernetes\ntopology: {}\n", "topology: .*either required or preferred"),
        (
            "kind: kubernetes\nimage: x\nruns: {claim: a}\ntopology: {required: a/b}\n",
            "topology only with a queue",
        ),
        (
            "kind: kubernetes\nimage: x\nruns: {claim: a}\nenvironment: {A: b}\nsecrets: {A: {secret: a, key: k}}\n",
            "A either under environment or under secrets",
        ),
        ("kind: kubernetes\ntolerations: {key: a}\n", "tolerations: found a mapping; accepted: a list"),
    ],
)
def test_a_mistake_is_reported_with_file_and_key(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=message) as raised:
        load_cluster(str(path))
    assert all(problem.startswith(str(path)) for problem in raised.value.problems)
