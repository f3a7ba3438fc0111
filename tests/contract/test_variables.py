"""$VARIABLES in the values of a cluster file: Python and bash expand the same, and nothing else."""

import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatrain.contract import variables
from hatrain.errors import BadInput

NODE = {"SCRATCH": "/a b/$HOME `id`", "HOME": "/home/ada", "N1": "x"}


def bash(value: str) -> str:
    command = ["bash", "-c", f"printf %s {variables.quoted(value)}"]
    return subprocess.run(command, env={**os.environ, **NODE}, capture_output=True, check=True).stdout.decode()


@pytest.mark.parametrize(
    ("value", "expanded"),
    [
        ("$SCRATCH/hf", "/a b/$HOME `id`/hf"),
        ("${SCRATCH}x:$N1", "/a b/$HOME `id`x:x"),
        ("$$HOME costs 5$", "$HOME costs 5$"),
        ("$(id) `id` ${HOME:-x} $1", "$(id) `id` ${HOME:-x} $1"),
        ("", ""),
    ],
)
def test_names_are_replaced_and_everything_else_is_text(value, expanded):
    assert variables.expand("environment.X", value, NODE) == bash(value) == expanded


@given(st.text(st.sampled_from("$${}()`\"' \\aHOME/N1\n;"), max_size=12))
def test_any_value_is_the_same_in_bash_and_in_python(value):
    if all(name in NODE for name in variables.names(value)):
        assert bash(value) == variables.expand("x", value, NODE)
        assert bash(variables.literal(value)) == value


def test_a_variable_that_is_not_set_is_named_with_the_key():
    with pytest.raises(BadInput, match=r"environment.HF_HOME: found \$NOWHERE/hf; NOWHERE is not set"):
        variables.expand("environment.HF_HOME", "$NOWHERE/hf", NODE)
