"""Passwords and tokens do not leave the process that needs them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatrain.contract.load import load
from hatrain.contract.spec import JobSpec
from hatrain.errors import BadInput
from hatrain.runtime import credentials

JOB = """\
name: kitchen
model: {base: some/base}
data: {train: train.jsonl}
hardware: {gpu: cpu}
checkpoints:
  sync_to: TARGET
"""
SECRET = [
    "s3://KEY:canary/with/slashes@bucket/x",
    "sftp://ada:canary@far:22/x",
    "https://far/x?token=canary&part=1",
    "https://bucket.s3.amazonaws.com/x?X-Amz-Credential=a&X-Amz-Signature=canary",
    "az://box/x?sig=canary",
]
HARMLESS = ["s3://bucket/x", "sftp://ada@far/x", "https://far:8080/x@y", "/data/a:b@c", "gs://a/b?part=1", "C:/x@y"]


@pytest.mark.parametrize("url", SECRET)
@pytest.mark.parametrize("how", ["in the file", "on the command line"])
def test_a_url_with_credentials_is_refused_by_line_and_key_and_not_shown(tmp_path, url, how):
    path = tmp_path / "job.yaml"
    path.write_text(JOB.replace("TARGET", url if how == "in the file" else "/far"))
    with pytest.raises(BadInput) as caught:
        load(JobSpec, path, [] if how == "in the file" else [f"checkpoints.sync_to={url}"])
    (problem,) = caught.value.problems
    assert "checkpoints.sync_to" in problem
    assert "password or a token" in problem
    assert "canary" not in problem
    if how == "in the file":
        assert problem.startswith(f"{path}:6: ")


@pytest.mark.parametrize("url", HARMLESS)
def test_a_url_without_credentials_is_accepted_and_shown_as_it_is(tmp_path, url):
    path = tmp_path / "job.yaml"
    path.write_text(JOB.replace("TARGET", url))
    assert load(JobSpec, path).checkpoints.sync_to == url
    assert credentials.hide(url) == url


@given(st.text(max_size=20), st.text(max_size=20), st.sampled_from(SECRET), st.text("abcXYZ09", min_size=12))
def test_no_text_around_a_secret_makes_it_visible(before, after, url, token):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", f"canary{token}")
        text = credentials.hide(f"{before} {url} {after} canary{token}")
    assert "canary" not in text.replace(before, "").replace(after, "")


def test_short_values_and_other_variables_stay():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("API_KEY", "a")
        patch.setenv("TOKENIZERS_PARALLELISM", "something-long")
        assert credentials.hide("a text with something-long") == "a text with something-long"
        assert credentials.hidden({"a": ["x", 1, None]}) == {"a": ["x", 1, None]}
