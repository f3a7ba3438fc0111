"""Run by the Python of .venv-kubernetes, with the client of a version on its path: prints a pod for every field that
its models have, once each was read into the models and written again."""

import json
import re
from collections.abc import Iterator
from typing import Any

from kubernetes import client  # type: ignore[import-untyped, unused-ignore]

EXAMPLES = {"str": "1", "int": 1, "bool": True, "object": "1", "datetime": "2026-11-28T00:00:00+00:00"}


def pods(model: str, path: tuple[str, ...]) -> Iterator[Any]:
    """Objects of a model with one value each."""
    if several := re.fullmatch(r"list\[(.*)\]", model):
        yield from ([each] for each in pods(several[1], path))
    elif free := re.fullmatch(r"dict\(str, (.*)\)", model):
        yield from ({"key": each} for each in pods(free[1], path))
    elif model in EXAMPLES:
        yield EXAMPLES[model]
    else:
        assert model not in path, path
        kind = getattr(client, model)
        for attribute, inner in kind.openapi_types.items():
            # The models say `object` for this mapping, and for what is a number or text.
            values = [{"f:spec": {}}] if attribute == "fields_v1" else pods(inner, (*path, model))
            for each in values:
                yield {kind.attribute_map[attribute]: each}


def main() -> None:
    # Without the check that an object has what it must have.
    client.Configuration.client_side_validation = property(lambda self: False, lambda self, value: None)
    api = client.ApiClient()
    found = list(pods("V1PodSpec", ()))
    for pod in found:
        again = api.sanitize_for_serialization(api._ApiClient__deserialize(pod, "V1PodSpec"))
        assert again == pod, (again, pod)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
